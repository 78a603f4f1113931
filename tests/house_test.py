"""What the house promises as a whole: one-way imports, configs that fit."""

import ast
import importlib
import inspect
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import published, vdc
from synpo_jax import losses
from synpo_jax.models import captioner
from synpo_jax.weights import config_reading

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "synpo_jax"

# A room may import from its own line and from the lines above it.
ORDER = (
  ("data", "models", "progress", "prompts", "journal"),
  ("sequences", "reference_losses", "coupled_losses", "head", "sampling"),
  ("losses", "layout", "optim", "sharding", "checkpoint", "metrics", "hosts"),
  ("update", "loading"),
  ("train", "caption", "make_pairs", "evaluate", "report", "claims"),
)


def imports(path):
  """Names of our own rooms that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      parts = node.module.split(".")
      if parts[0] == "synpo_jax" and len(parts) > 1:
        yield parts[1]
      elif node.module == "synpo_jax":
        yield from (alias.name for alias in node.names)


def test_imports_point_upstream():
  level = {room: i for i, rooms in enumerate(ORDER) for room in rooms}
  for path in PACKAGE.rglob("*.py"):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for imported in imports(path):
      if room in level and imported in level:
        assert level[imported] <= level[room], f"{path} imports {imported}"


def test_data_and_pairs_do_without_jax():
  for path in (PACKAGE / "data").glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      names = (
        [a.name for a in node.names] if isinstance(node, ast.Import) else []
      )
      if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
      assert not any(name.split(".")[0] == "jax" for name in names), path


@pytest.mark.parametrize("name", sorted(vdc.LOSSES))
def test_coefficients_are_those_the_loss_takes(name):
  c = vdc.get_config(f"loss={name}")
  takes = inspect.signature(losses.LOSSES[name]).parameters
  own = set(takes) - {"logps", "mask", "ref_logps", "weight"}
  assert set(c.loss.coefficients) == own


def test_every_loss_has_a_config():
  assert set(vdc.LOSSES) == set(losses.LOSSES)


PARAMETERS = {  # of the decoders, as published
  "auroracap_7b": 6_738_415_616,
  "qwen2_5_vl_7b": 7_615_616_512,
  "llama_3_1_8b": 8_030_261_248,
  "llama_3_2_1b": 1_235_814_400,
  "mistral_7b": 7_248_023_552,
  "qwen2_5_7b": 7_615_616_512,
  "qwen2_5_0_5b": 494_032_768,
  "gemma_2_2b": 2_614_341_888,
  "gemma_3_1b": 999_885_952,
}


@pytest.mark.parametrize("name", sorted(published.PUBLISHED))
def test_published_sizes(name):
  c = vdc.get_config(f"model={name}")
  model = captioner.Captioner(
    config_reading.captioner_config(c.model.arch.to_dict())
  )
  params = captioner.shapes(model)["params"]
  if name in PARAMETERS:
    leaves = jax.tree.leaves(params["decoder"])
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[name]


def test_the_7b_defaults_are_the_papers():
  c = vdc.get_config("model=auroracap_7b")
  assert (c.lora.rank, c.lora.alpha, c.lora.dropout) == (128, 64.0, 0.05)
  assert (c.optim.lr, c.optim.weight_decay, c.optim.eps) == (5e-6, 0.01, 1e-8)
  assert (c.optim.b1, c.optim.b2, c.optim.clip_norm) == (0.9, 0.999, None)
  assert (c.optim.warmup_frac, c.epochs) == (0.1, 5)
  assert (c.data.batch_size, c.data.accumulation) == (1, 32)
  assert (c.data.max_len, c.data.min_score_gap) == (2560, 4.0)
  assert c.frames.to_dict() == dict(
    min_frames=8, max_frames=16, frames_per_second=0.5
  )
  assert c.model.kept_ratio == 0.1
  assert c.loss.coefficients.to_dict() == dict(alpha=30.0, beta=0.2)


@pytest.mark.parametrize(
  "path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem
)
def test_every_config_loads_and_is_locked_against_typos(path):
  module = importlib.import_module(f"configs.{path.stem}")
  if not hasattr(module, "get_config"):
    return
  c = module.get_config()
  with pytest.raises((AttributeError, KeyError)):
    c.lock()
    c.no_such_key = 1


@pytest.mark.parametrize("arg", ["modl=tiny", "model=none", "loss=none"])
def test_a_wrong_argument_is_named(arg):
  with pytest.raises(ValueError, match="choose|not model"):
    vdc.get_config(arg)


def test_help_lists_flags_that_entries_share():
  for path in PACKAGE.glob("*.py"):
    text = path.read_text()
    assert ("app.run(main)" in text) == ("  in_help(" in text), path
  done = subprocess.run(
    [sys.executable, "-m", "synpo_jax.wheels", "--help"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert "--out: Folder" in done.stdout and "--cache" in done.stdout
