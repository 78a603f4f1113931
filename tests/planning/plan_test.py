"""Plans: what is tried and in which order, and one slice for real."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import vdc
from synpo_jax.planning import (
  abstract_step,
  chips,
  choices,
  outcome,
  tables,
  targets,
  trial,
)
from synpo_jax.planning.choices import Choice
from synpo_jax.planning.outcome import Memory, Outcome, Work
from synpo_jax.planning.trial import Trial
from tests.support import xla

pytestmark = pytest.mark.slow


def seven_b():
  return vdc.get_config("model=auroracap_7b")


def test_the_micro_batch_is_raised_to_what_the_mesh_splits():
  c = seven_b()  # one pair at a time, 32 times
  found = choices.configured(c, chips.parse("v5e:4x4"))
  assert found == Choice(16, 1, 1, 16, 2, "save_dots")
  assert choices.flags(c, found) == [
    "--config.data.batch_size=16",
    "--config.data.accumulation=2",
  ]
  made = choices.apply(c, found)
  assert choices.configured(made, chips.parse("v5e:4x4")) == found
  assert choices.flags(made, found) == []
  c.mesh.data = 3
  with pytest.raises(ValueError, match="does not make the 16 devices"):
    choices.configured(c, chips.parse("v5e:4x4"))


def test_changes_come_in_the_order_of_their_cost():
  start = Choice(4, 1, 1, 8, 4, "save_dots")
  found = choices.smaller(start, 4, open_mesh=False)
  assert found[0] == start._replace(batch_size=4, accumulation=8)
  assert found[1] == start._replace(data=2, fsdp=2)
  assert {choice.batch_size * choice.accumulation for choice in found} == {32}
  last = found[-1]
  assert (last.remat, last.model, last.each) == ("full", 4, 1)
  assert not any(choice.remat == "none" for choice in found)
  first = choices.smaller(start, 4, open_mesh=True)[0]
  assert first == start._replace(data=2, fsdp=2)


def test_what_needs_more_than_a_failure_is_not_tried():
  failed = Choice(2, 2, 1, 8, 4, "save_dots")
  assert choices.needs_no_less(failed._replace(remat="none"), failed)
  assert choices.needs_no_less(failed._replace(data=4, fsdp=1), failed)
  assert not choices.needs_no_less(failed._replace(remat="full"), failed)
  assert not choices.needs_no_less(failed._replace(batch_size=4), failed)


def made_up(peak, choice):
  memory = Memory(4e9, 1e9, 2e9, 0.0, peak - 7e9, peak, 16e9)
  seconds = dict(compute=2.0, links=4.0)
  work = Work(2e12, 1e12, {"all-gather": 8e9}, 4e9, 1e9, seconds)
  return Trial(choice, None, Outcome(memory, work, 32, 60.0))


def test_the_verdict_is_plain():
  c, choice = seven_b(), Choice(1, 16, 1, 16, 2, "full")
  good, bad = made_up(15e9, choice), made_up(17e9, choice)
  assert good.fits and tables.verdict(good).startswith("fits: 13.97 of 14.90")
  assert not bad.fits and tables.verdict(bad).startswith("does not fit: 15.83")
  assert good.outcome.work.binds == "links"
  assert good.outcome.pairs_per_hour == 32 * 3600 / 4
  assert "--config.model.remat=full" in tables.change(c, good)


def test_an_estimate_is_headed_as_one():
  """Beside the line on the adapter, which says where that is."""
  c = vdc.get_config()
  choice = Choice(1, 8, 1, 8, 1, "save_dots")
  c = choices.apply(c, choice)
  step = abstract_step.build(c, jax.devices())
  target = targets.Target(chips.parse("h100:8"), jax.devices(), "v5p:2x2x1")
  done = made_up(8e9, None).outcome
  lines = tables.heading(c, target, Trial(choice, step, done))
  assert any(line.startswith("adapter: rank ") for line in lines)
  (said,) = [line for line in lines if line.startswith("estimate: ")]
  assert "compiled for v5p:2x2x1 in the place of h100:8" in said


def test_the_compilers_refusal_says_how_much_it_needs():
  before = made_up(8e9, None).outcome.memory
  found = outcome.exceeded(
    before,
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, "
    "the total memory required for HLO temporaries (480.00G) exceeds",
  )
  assert found.peak == 480 * 2**30 and not found.fits
  with pytest.raises(ValueError, match="the compiler failed: INTERNAL"):
    outcome.exceeded(before, "INTERNAL: something (480.00G)\nmore")


class Compiler:
  """Writes down what it compiles where it is told to; jaxlib reads nothing."""

  def __init__(self):
    self.asked = []

  def compile(self, compiler_options=None):
    self.asked.append(compiler_options)
    if compiler_options is not None:
      folder = pathlib.Path(compiler_options["xla_dump_to"])
      (folder / "module_0.after_optimizations.txt").write_text("HloModule m")
      (folder / "module_0.after_optimizations-live-range.txt").write_text("no")
    return self

  def as_text(self):
    raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")


def test_a_program_that_cannot_be_read_is_compiled_once():
  compiler = Compiler()
  assert trial.compile_text(compiler, "tpu") == (compiler, "HloModule m")
  (options,) = compiler.asked
  assert options["xla_dump_hlo_as_text"] is True


def test_programs_for_others_are_read():
  compiler = Compiler()
  with pytest.raises(jax.errors.JaxRuntimeError):
    trial.compile_text(compiler, "cuda")
  assert compiler.asked == [None]


@pytest.mark.parametrize("name", ["v5e", "v5e:0x4", "v9:2x2", "4x4", "h100:x"])
def test_a_wrong_topology_is_named_in_a_line(name):
  with pytest.raises(ValueError, match=f"topology={name}: give chip:shape"):
    targets.make(name)


def test_libtpu_missing_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
  for topology in ("v5e:2x2", "h200:1"):  # TPUs stand in for GPUs
    with pytest.raises(ValueError, match="pip install libtpu"):
      targets.make(topology)
  with pytest.raises(ValueError, match="only 1, 2, 4, 8"):
    targets.make("h100:6")


SMALL = {
  "llm.hidden_size": 256,
  "llm.intermediate_size": 512,
  "llm.num_hidden_layers": 2,
  "llm.num_attention_heads": 2,
  "llm.num_key_value_heads": 2,
  "visual_encoder.hidden_size": 64,
  "visual_encoder.intermediate_size": 128,
  "visual_encoder.num_hidden_layers": 3,
  "visual_encoder.num_attention_heads": 2,
  "visual_encoder.image_size": 84,
}


def plan(topology, folder, *more):
  """The command on a 7B model cut to two thin layers."""
  arch = [f"--config.model.arch.{key}={n}" for key, n in SMALL.items()]
  return subprocess.run(
    [
      *(sys.executable, "-m", "synpo_jax.plan"),
      "--config=configs/vdc.py:model=auroracap_7b",
      *(*arch, "--config.lora.rank=8", "--frames=8", "--response=128"),
      *(f"--topology={topology}", f"--out={folder}", *more),
    ],
    capture_output=True,
    text=True,
    env=xla.without_flags() | {"XDG_CACHE_HOME": str(folder / "cache")},
  )


def small_weights():
  """(weights, adapter) bytes on each of four devices that share the model."""
  D, F, V, L, r, Dv = 256, 512, 32000, 2, 8, 64
  split = 2 * V * D + L * (4 * D * D + 3 * D * F)
  norms = L * 2 * D + D
  projector = Dv * D + D + D * D + D
  weights = 2 * (split / 4 + norms + projector)  # features are cached
  to_heads, to_hidden, back = (D, D), (D, F), (F, D)
  shapes = 4 * [to_heads] + 2 * [to_hidden] + [back]  # q k v o, gate up, down
  adapter = sum(n * r + r * m for n, m in shapes) * L / 4
  return weights, 4 * adapter


MESH = """
from synpo_jax.planning import environment
environment.prepare()
from synpo_jax.models import sharding
from synpo_jax.planning import targets
found = targets.make("v4:2x2x1")
mesh = sharding.make_mesh(data=2, fsdp=2, model=1, devices=found.devices)
assert mesh.size == found.slice.devices == 4
"""
needs_libtpu = pytest.mark.skipif(
  targets.importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)


@needs_libtpu
def test_both_cores_of_a_v4_are_one_device():
  command = [sys.executable, "-c", MESH]
  done = subprocess.run(
    command, capture_output=True, text=True, env=xla.without_flags()
  )
  assert done.returncode == 0, done.stderr


@needs_libtpu
def test_a_slice_that_is_not_there(tmp_path):
  mesh = "--config.mesh.data=1", "--config.mesh.fsdp=4"
  done = plan("v5e:2x2", tmp_path, *mesh)
  assert done.returncode == 0, done.stderr
  assert "verdict: fits" in done.stdout
  assert "compute" in done.stdout and "pairs an hour" in done.stdout
  assert "dropout: 13 of 256 (5.08%)" in done.stdout
  assert "random numbers" in done.stdout
  (row,) = json.loads((tmp_path / "plan.json").read_text())
  assert row["flags"] == [
    "--config.data.batch_size=4",
    "--config.data.accumulation=8",
  ]
  memory = row["memory"]
  weights, adapter = small_weights()
  assert (memory["weights"], memory["adapter"]) == (weights, adapter)
  assert 0 <= memory["optimiser"] - 2 * adapter < 64  # and counters
  assert memory["peak"] > weights + 3 * adapter
  assert row["work"]["received"]["all-gather"] > 0
  assert 0 < row["work"]["random"] < row["work"]["vector"] / 2
  again = plan("v5e:2x2", tmp_path, *mesh)
  assert again.returncode == 0, again.stderr
  said, answer = again.stdout.split("\n", 1)
  assert said.startswith("plan of ") and said.endswith("--anew makes it anew")
  compiled, printed = done.stdout.split("\n", 1)
  assert compiled.startswith("compiling 8 x 4 pairs, save_dots, data 1, fsdp 4")
  assert answer == printed
