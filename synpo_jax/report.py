"""Entry: the curves of one or more runs as PNGs and one page to read.

python -m synpo_jax.report --workdir runs/synpo --workdir runs/dpo --out report

Writes report/index.html, which needs no network and no other file, and a PNG
of every figure. It reads what training left in a workdir: metrics.jsonl,
eval.jsonl, importance.jsonl (python -m synpo_jax.importance) and config.json.
"""

import argparse
import contextlib
import shlex

from synpo_jax.reporting.report import write
from synpo_jax.runtime import buckets, ending, mirror, stopping
from synpo_jax.runtime.flags import one_line


def main(argv: list[str] | None = None) -> None:
  """Reads the flags, writes the report, says where it lies."""
  parser = argparse.ArgumentParser(
    prog="python -m synpo_jax.report", description=__doc__.splitlines()[0]
  )
  parser.add_argument(
    "--workdir",
    action="append",
    required=True,
    help="folder that training wrote; once for each run",
  )
  parser.add_argument("--out", required=True, help="folder for the report")
  args = parser.parse_args(argv)
  with one_line(), stopping.in_one_line(""), contextlib.ExitStack() as stack:
    out = stack.enter_context(mirror.kept(args.out))
    runs = [str(stack.enter_context(mirror.kept(x))) for x in args.workdir]
    page = buckets.at(args.out) / write(runs, out).relative_to(out)
  ending.show(
    {"report": page}, f"python -m webbrowser {shlex.quote(str(page))}"
  )


if __name__ == "__main__":
  main()
