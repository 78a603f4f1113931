"""Entry: whether a run fits a slice of chips, and how fast it can be.

python -m synpo_jax.plan --config=configs/vdc.py:model=auroracap_7b \
  --topology=v5e:4x4

Compiles the run's own train step for TPUs (libtpu) or NVIDIA GPUs (JAX's CUDA
plugin; an estimate from TPUs without it) that need not be there; weights are
never made. Takes the config's mesh and micro-batch as far as the slice allows:
a -1 in the mesh leaves it to the plan, and a micro-batch that does not divide
is raised to one that does. All else is judged as written. Leaves with 0 if
that fits and 1 if not. The same question is answered at once, from the user's
cache folder (--anew, --nokeep_compiled: not).
"""

import json
import sys

from absl import flags
from rich.console import Console

from synpo_jax.planning import environment, kept, separate
from synpo_jax.runtime import buckets, ending, journal
from synpo_jax.runtime.flags import (
  CONFIG,
  KEEP_COMPILED,
  OUT,
  changed,
  command,
  config_name,
  given_again,
)

TOPOLOGY = flags.DEFINE_string(
  "topology", None, "Chips, as v5e:4x4, v5p:2x2x1, v6e:2x4, h200:1 or h100:8."
)
FRAMES = flags.DEFINE_integer(
  "frames", None, "Frames of a video; the config's most, if not given."
)
RESPONSE = flags.DEFINE_integer(
  "response", None, "Tokens of a caption; the config's most, if not given."
)
JOB = flags.DEFINE_enum(
  "job", "train", ["train", "make_pairs"], "What is planned."
)
SWEEP = flags.DEFINE_boolean(
  "sweep", False, "Tabulate meshes and micro-batches instead."
)
MOST = flags.DEFINE_integer(
  "most", 8, "Changes to compile before giving up; with --sweep, pairs a chip."
)
ANEW = flags.DEFINE_boolean(
  "anew", False, "Plan anew, even where the same plan was made before."
)
ANSWER = ("topology", "frames", "response", "job", "sweep", "most")


@command("config", "topology", also=("out",))
def main():
  """Prints the plan; leaves with 0 if it fits, with 1 if not."""
  environment.prepare()
  separate.go_on()
  make = _captions if JOB.value == "make_pairs" else _training
  rows, fits = _kept(make) if KEEP_COMPILED.value else make(Console())
  if OUT.value:
    path = buckets.at(OUT.value) / "plan.json"
    journal.replace(path, json.dumps(rows, indent=2).encode() + b"\n")
    print(f"plan: {path}")
  if fits and not SWEEP.value and JOB.value == "train":
    ending.show({}, _train(rows[-1]["flags"]))
  sys.exit(0 if fits else 1)


def _kept(make):
  """The answer to the same question, or one made now."""
  asked = {name: flags.FLAGS[name].value for name in ANSWER}
  given = {"config": config_name(), "changed": changed()}
  question = kept.question(CONFIG.value, **asked, **given)
  return kept.answer(question, make, ANEW.value)


def _training(console):
  from synpo_jax.planning import inputs, session  # JAX reads the environment

  inputs.check_loss(CONFIG.value, changed(), config_name())
  lengths = FRAMES.value, RESPONSE.value
  report = session.sweep if SWEEP.value else session.judge
  return report(console, CONFIG.value, TOPOLOGY.value, lengths, MOST.value)


def _captions(console):
  from synpo_jax.planning import captions

  return captions.judge(console, CONFIG.value, TOPOLOGY.value)


def _train(fitting: list[str]) -> str:
  """The training that fits."""
  changes = [tuple(flag.removeprefix("--").split("=", 1)) for flag in fitting]
  but = [name.removeprefix("config.") for name, _ in changes]
  workdir = ("workdir", "runs/planned")
  return ending.command("train", *given_again(*but), *changes, workdir)


if __name__ == "__main__":
  main()
