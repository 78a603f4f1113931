"""What the house promises as a whole: one-way imports, configs that fit."""

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
import tomllib

import jax
import pytest

from configs import published, vdc
from synpo_jax import losses
from synpo_jax.models import captioner
from synpo_jax.weights import config_reading
from tests.support.paths import ROOT

PACKAGE = ROOT / "synpo_jax"

# A package may import itself and those above it; a command imports anything,
# and nothing imports a command, but for one that runs others.
ORDER = (
  *("runtime", "data", "world", "models", "weights", "losses"),
  *("endpoints", "judging", "generation", "pairing", "evaluation"),
  *("training", "reporting", "study", "planning"),
)
COMMANDS = (
  *("train", "caption", "make_pairs", "evaluate", "export", "report"),
  *("importance", "claims", "plan", "preflight", "wheels", "lm_eval_model"),
  *("warm_start", "decode", "agreement", "rounds"),
)
RUNS = {"rounds": ("make_pairs", "train", "export", "evaluate")}
# Imports that wait inside a function, and what for.
WAITING = {
  ("make_pairs", "generation"): "judging alone does without JAX",
  ("make_pairs", "weights"): "judging alone does without JAX",
  ("plan", "planning"): "JAX reads the environment when it is imported",
  ("wheels", "weights"): "gguf and onnx are extras",
}


def room_of(path):
  """The package that a file lies in, or the command that it is."""
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
  """(room, whether it waits inside a function) that a file imports."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module:
      top, *below = node.module.split(".")
      if top == "synpo_jax":
        names = below[:1] or [alias.name for alias in node.names]
        yield from ((name, node not in tree.body) for name in names)
    if isinstance(node, ast.Import):
      assert not any(a.name.startswith("synpo_jax") for a in node.names), path


def may_import(room):
  """The packages that a file of `room` may import."""
  if room in COMMANDS:
    return ORDER + RUNS.get(room, ())
  return ORDER[: ORDER.index(room) + 1]


def test_every_room_is_listed():
  rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
  assert rooms == set(ORDER)
  loose = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
  assert loose == set(COMMANDS)


def test_an_installation_lists_the_rooms_in_the_same_order():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
  packages = project["tool"]["setuptools"]["packages"]
  top = ["synpo_jax", "synpo_jax.configs"]
  assert packages == top + [f"synpo_jax.{name}" for name in ORDER]


def test_imports_point_up_the_list():
  for path in PACKAGE.rglob("*.py"):
    room = room_of(path)
    if room == "__init__":
      assert not list(imports(path))
      continue
    for imported, waits in imports(path):
      assert imported in may_import(room), f"{path} imports {imported}"
      if waits:
        assert (room, imported) in WAITING, f"{path} hides {imported}"


def test_no_test_imports_another():
  """What two share lies in tests/support."""
  taken = re.compile(r"^\s*(?:from|import) tests\.\S*_test\b", re.M)
  for path in (ROOT / "tests").rglob("*.py"):
    assert not taken.search(path.read_text("utf-8")), path


def test_files_of_a_room_import_in_no_circle():
  graph = {}
  for path in PACKAGE.rglob("*.py"):
    name = ".".join(("synpo_jax", *path.relative_to(PACKAGE).parts))
    name = name.removesuffix(".py").removesuffix(".__init__")
    graph[name] = set()
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module:
        whole = {f"{node.module}.{alias.name}" for alias in node.names}
        graph[name] |= whole | {node.module}
  for name, found in graph.items():
    graph[name] = (found & graph.keys()) - {name}
  # Raises CycleError, which names the circle.
  tuple(graphlib.TopologicalSorter(graph).static_order())


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
  own = set(takes) - {"logps", "mask", "ref_logps", "weight", "scores"}
  assert set(c.loss.coefficients) == own
  losses.check_coefficients(name, c.loss.coefficients)
  with pytest.raises(ValueError, match=f"{name} takes .*given are .*wrong"):
    losses.check_coefficients(name, {"wrong"})


def test_every_loss_has_a_config():
  assert set(vdc.LOSSES) == set(losses.LOSSES)


PARAMETERS = {  # of the decoders, as published
  "auroracap_7b": 6_738_415_616,
  "llava_video_7b": 7_615_616_512,
  "qwen2_5_vl_3b": 3_085_938_688,
  "qwen2_5_vl_7b": 7_615_616_512,
  "qwen3_vl_2b": 1_720_574_976,
  "qwen3_vl_4b": 4_022_468_096,
  "qwen3_vl_8b": 8_190_735_360,
  "llama_3_1_8b": 8_030_261_248,
  "llama_3_2_1b": 1_235_814_400,
  "mistral_7b": 7_248_023_552,
  "qwen2_5_7b": 7_615_616_512,
  "qwen2_5_0_5b": 494_032_768,
  "gemma_2_2b": 2_614_341_888,
  "gemma_3_1b": 999_885_952,
}
WHOLE = {  # tower and connector too, as the folders' tensors add up
  "qwen2_vl_2b": 2_208_985_600,
  "qwen2_vl_7b": 8_291_375_616,
  "qwen2_5_vl_3b": 3_754_622_976,
  "qwen2_5_vl_7b": 8_292_166_656,
  "qwen2_5_vl_32b": 33_452_718_336,
  "qwen2_5_vl_72b": 73_410_777_344,
  "qwen3_vl_2b": 2_127_532_032,
  "qwen3_vl_4b": 4_437_815_808,
  "qwen3_vl_8b": 8_767_123_696,
}


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", sorted(published.PUBLISHED))
def test_published_sizes(name):
  c = vdc.get_config(f"model={name}")
  model = captioner.Captioner(
    config_reading.captioner_config(c.model.arch.to_dict())
  )
  params = captioner.shapes(model)["params"]
  if name in PARAMETERS:
    assert count(params["decoder"]) == PARAMETERS[name]
  if name in WHOLE:
    assert count(params) == WHOLE[name]
  if model.config.tower is not None and c.model.kept_ratio is None:
    frames = c.frames.fixed or c.frames.max_frames
    assert sum(model.config.blocks(frames)) < c.data.max_len


def test_the_7b_defaults_are_the_papers():
  c = vdc.get_config("model=auroracap_7b")
  assert (c.lora.rank, c.lora.alpha, c.lora.dropout) == (128, 64.0, 0.05)
  assert (c.optim.lr, c.optim.weight_decay, c.optim.eps) == (5e-6, 0.01, 1e-8)
  assert (c.optim.b1, c.optim.b2, c.optim.clip_norm) == (0.9, 0.999, None)
  assert (c.optim.warmup_frac, c.epochs) == (0.1, 5)
  assert (c.data.batch_size, c.data.accumulation) == (1, 32)
  assert (c.data.max_len, c.data.min_score_gap) == (2560, 4.0)
  assert c.frames.to_dict() == dict(
    min_frames=8,
    max_frames=16,
    frames_per_second=0.5,
    fixed=None,
    rounding="down",
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
  with pytest.raises(ValueError, match="no such|not model"):
    vdc.get_config(arg)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_flags_that_a_command_reads(name):
  text = (PACKAGE / f"{name}.py").read_text()
  if "@command(" not in text:
    assert "argparse" in text
    return
  told = re.search(r"@command\((.*?)\)\ndef", text, re.DOTALL)[1]
  for flag in ("config", "workdir", "out"):
    assert (f"{flag.upper()}.value" in text) == (f'"{flag}"' in told), flag
  assert ("hosts.start()" in text) == ("hosts.FLAGS" in told)


@pytest.mark.parametrize(
  "start",
  (
    ("-m", "synpo_jax.wheels"),
    ("-c", "from synpo_jax import wheels as w; w.main()"),
  ),
  ids=("module", "console_script"),
)
def test_help_is_the_same_however_a_command_is_started(start):
  done = subprocess.run(
    [sys.executable, *start, "--help"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert "real weights and real clips" in done.stdout
  assert "--out: Folder" in done.stdout and "--cache" in done.stdout
