"""Renders clips of the synthetic world, with their scenes and rows.

python -m synpo_jax.world --out=world --clips=2000 --seed=0

With --careful, --careless and --terse, which sum to 1, the captions to learn
are those of a mixture of annotators.
"""

import argparse
import os
import pathlib

from synpo_jax.runtime import ending, stopping
from synpo_jax.runtime.flags import one_line
from synpo_jax.world.annotators import STYLES
from synpo_jax.world.folder import write_world


def main() -> None:
  """Reads the flags, renders, says where the clips lie."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--out", required=True, help="folder to write into")
  add("--clips", type=int, default=100, help="clips, held-out ones included")
  add("--seed", type=int, default=0, help="seed of the first clip")
  add("--heldout", type=int, default=0, help="the last so many: heldout.jsonl")
  add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
  for name in STYLES:
    add(f"--{name}", type=float, default=0.0, help="share of annotators")
  args = parser.parse_args()
  shares = {name: getattr(args, name) for name in STYLES}
  with one_line(), stopping.in_one_line("the same command goes on"):
    write_world(
      args.out,
      clips=args.clips,
      seed=args.seed,
      heldout=args.heldout,
      workers=args.workers,
      shares=shares if any(shares.values()) else None,
    )
  _end(pathlib.Path(args.out), args.clips, args.heldout)


def _end(out: pathlib.Path, clips: int, heldout: int) -> None:
  """Says what lies where, and how to make pairs of it, or to train on it."""
  held = out / "heldout.jsonl" if heldout else ""
  scenes = out / "scenes.jsonl"
  ending.show(
    {f"{clips} clips": out / "clips", "pairs": out / "pairs.jsonl"},
    ending.command(
      "make_pairs",
      ("config", "pairs:tiny"),
      ("config.root", out),
      ("config.judge.truth.scenes", scenes),
      ("workdir", out / "own_pairs"),
    ),
    ending.command(
      "train",
      ("config", "vdc"),
      ("config.world.clips", 0),
      ("config.data.pairs", out / "pairs.jsonl"),
      ("config.data.videos", out),
      ("config.heldout.pairs", held),
      ("config.heldout.videos", out),
      ("config.heldout.scenes", scenes),
      ("workdir", out / "run"),
    ),
  )


if __name__ == "__main__":
  main()
