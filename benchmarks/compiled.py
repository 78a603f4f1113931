"""AuroraCap-7B's train step compiled for TPU slices, and what each part saves.

python -m benchmarks.compiled

No TPU is needed (pip install libtpu). Every row is one ahead-of-time
compilation of the step that training runs; rows that benchmarks/results/
compiled.json has already are not compiled again (--anew does). The table goes
into benchmarks/README.md.
"""

import importlib.metadata
import json
import pathlib
import sys
from unittest import mock

from absl import app, flags

from benchmarks import sections
from synpo_jax.planning import environment

ANEW = flags.DEFINE_boolean("anew", False, "Compile rows that exist as well.")
ROWS = flags.DEFINE_list("rows", None, "Names of rows to compile; all else.")
RESULTS = pathlib.Path(__file__).parent / "results" / "compiled.json"

GIB = 2**30
FRAMES, RESPONSE = 8, 256  # prefix 916 tokens, padded to 928
UNPADDED = dict(data=dict(prefix_buckets=1792, response_buckets=(768,)))
FSDP, COPIED = dict(data=1, fsdp=-1), dict(data=-1, fsdp=1)

# What differs from `ours`: the slice, and sections of the config.
GRID = {
  "ours": ("v5e:4x4", dict(mesh=FSDP)),
  "two sequences": (
    "v5e:4x4",
    dict(mesh=FSDP, step=dict(layout_name="two_sequence")),
  ),
  "padded to 2560": ("v5e:4x4", dict(mesh=FSDP, **UNPADDED)),
  "two sequences of 2560": (
    "v5e:4x4",
    dict(mesh=FSDP, step=dict(layout_name="two_sequence"), **UNPADDED),
  ),
  "full logits": ("v5e:4x4", dict(mesh=FSDP)),
  "tower in the step": (
    "v5e:4x4",
    dict(mesh=FSDP, cache=dict(features=False)),
  ),
  "attention by XLA": (
    "v5e:4x4",
    dict(mesh=FSDP, model=dict(attention="xla")),
  ),
  "remat none": ("v5e:4x4", dict(mesh=FSDP, model=dict(remat="none"))),
  "remat save_attention": (
    "v5e:4x4",
    dict(mesh=FSDP, model=dict(remat="save_attention")),
  ),
  "remat full": ("v5e:4x4", dict(mesh=FSDP, model=dict(remat="full"))),
  "v5p: weights copied": ("v5p:2x2x1", dict(mesh=COPIED)),
  "v6e: weights split": ("v6e:2x4", dict(mesh=FSDP)),
  "v6e: 16 pairs at a time": (
    "v6e:2x4",
    dict(mesh=FSDP, data=dict(batch_size=16, accumulation=2)),
  ),
  "v6e: all 32 pairs at once": (
    "v6e:2x4",
    dict(mesh=FSDP, data=dict(batch_size=32, accumulation=1)),
  ),
}


def main(argv):
  """Compiles what is missing, and writes the table."""
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  environment.prepare()
  found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
  wanted = ROWS.value or list(GRID)
  for name in wanted:
    if name not in GRID:
      sys.exit(f"error: row {name!r}: choose of {', '.join(GRID)}")
    if name in found["rows"] and not ANEW.value:
      continue
    found["rows"][name] = compile_row(name)
    found["versions"] = versions()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{name}: {' | '.join(cells(name, found['rows']))}", flush=True)
  sections.put(sections.README, "compiled", text(found))


def versions() -> dict[str, str]:
  """Of the packages that the figures hang on."""
  names = ("jax", "jaxlib", "libtpu", "flax")
  return {name: importlib.metadata.version(name) for name in names}


def compile_row(name) -> dict:
  """Compiles one row of the grid; how it came out, as the plan's JSON."""
  from configs import vdc
  from synpo_jax.models import head
  from synpo_jax.planning import choices, tables, targets, trial

  topology, changes = GRID[name]
  c = vdc.get_config("model=auroracap_7b")
  for section, values in changes.items():
    c[section].update(values)
  target = targets.make(topology)
  choice = choices.configured(c, target.slice)
  score = full_logits if name == "full logits" else head.token_scores
  with mock.patch.object(head, "token_scores", score):
    one = trial.run(c, target, choice, (FRAMES, RESPONSE))
  return tables.as_dict(c, target, one)


def full_logits(hidden, kernel, targets, **how):
  """The head that holds all logits, as most trainers write it."""
  import jax
  import jax.numpy as jnp

  from synpo_jax.models import head

  del how
  logits = jnp.einsum(
    "bmd,dv->bmv", hidden, kernel, preferred_element_type=jnp.float32
  )
  logps = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(logps, targets[..., None], axis=-1)[..., 0]
  return head.Scores(picked, None)


HEADING = (
  *("v5e:4x4, 16 pairs at a time", "peak GiB", "TFLOP", "received GB"),
  *("bound s", "binds", "pairs/h at best", "of ours"),
)


def cells(name, rows) -> list[str]:
  """A row of the table; TFLOP, GB and seconds are of an update of 32 pairs."""
  row, ours = rows[name], rows.get("ours")
  label = (
    name if row["topology"] == "v5e:4x4" else f"{name} ({row['topology']})"
  )
  peak = f"{row['memory']['peak'] / GIB:.2f}"
  if "work" not in row:
    limit = row["memory"]["usable"] / GIB
    return [label, f"{peak} of {limit:.2f}: does not fit", *[""] * 6]
  work = row["work"]
  bound = max(work["seconds"].values())
  share = ""
  if ours and "work" in ours and row["topology"] == ours["topology"]:
    share = f"{row['pairs_per_hour'] / ours['pairs_per_hour']:.2f}"
  return [
    label,
    peak,
    f"{work['flops'] / 1e12:.0f}",
    f"{sum(work['received'].values()) / 1e9:.1f}",
    f"{bound:.2f}",
    row["binds"],
    f"{row['pairs_per_hour']:,.0f}",
    share,
  ]


def text(found) -> str:
  """The section of the README."""
  rows = found["rows"]
  names = [name for name in GRID if name in rows]
  table = sections.table([list(HEADING), *(cells(n, rows) for n in names)])
  used = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
  return f"""## Compiled for TPUs

AuroraCap-7B's train step (LoRA rank 128, 32 pairs an update, {FRAMES} frames,
captions in a bucket of {RESPONSE}), compiled ahead of time for slices that
were not there: nothing below is a measured time. Figures are of one chip and
one update. The bound takes peak FLOP/s, vector units, memory bandwidth and all
links at once as given, whichever is slowest; the bytes of memory behind it are
an estimate. Made by `python -m benchmarks.compiled` with {used}.

{table}
"""


if __name__ == "__main__":
  app.run(main)
