"""Changes a module, an expression at a time, and sees which tests notice.

  python tests/mutate.py synpo_jax/losses/without_reference.py --most=20

Each change is a mutant: written into a copy of the tree, never here, and given
to the tests that `tests_of` finds. One that survives is a line that no test
holds, or a change that makes no difference.

Why not mutmut or cosmic-ray: mutmut 3 forks from a process that has run the
tests, whose JAX threads do not survive it, and wraps functions, so that jit
and jaxtyping see other signatures; cosmic-ray starts an interpreter for each
mutant, and importing JAX, Flax and PyTorch takes longer than most tests. Here
the libraries are imported once, without a device, and each mutant is a fork.
"""

import argparse
import ast
import gc
import importlib
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter

import pytest

if __name__ == "__main__":
  sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from tests.support.mutants import mutants  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

LIBRARIES = (
  *("numpy", "jax", "jax.numpy", "flax.linen", "optax", "jaxtyping"),
  *("beartype", "hypothesis", "ml_collections", "transformers", "tokenizers"),
  *("torch", "safetensors.numpy", "orbax.checkpoint", "grain", "av", "openai"),
)
SLACK = 5  # times the processor time of the tests, then a mutant hangs
IDLE = 20  # times that by the clock, for one that waits


def tests_of(root: pathlib.Path, module: pathlib.PurePath) -> list[str]:
  """Files of tests that belong to a module: its own, then what imports it.

  Its own is tests/PACKAGE/MODULE_test.py. Where neither is found: those in
  tests/PACKAGE, then what imports the package as one.
  """
  *_, package, name = module.with_suffix("").parts
  dotted = f"synpo_jax.{package}.{name}"
  own, importers, near = [], [], []
  paths = root.glob("tests/**/*_test.py")
  for path in sorted(paths, key=lambda p: (p.parent.name != package, p)):
    told = str(path.relative_to(root))
    imported = _imported(path)
    beside = path.parent.name == package
    if beside and path.stem == f"{name}_test":
      own.append(told)
    elif any(one == dotted or one.startswith(f"{dotted}.") for one in imported):
      importers.append(told)
    elif beside or f"synpo_jax.{package}" in imported:
      near.append(told)
  return own + importers or near


def _imported(path: pathlib.Path) -> set[str]:
  """Dotted names of what a file of tests imports from elsewhere."""
  return {
    f"{node.module}.{alias.name}"
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }


def copied(root: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """A copy of what git knows or would add."""
  listed = "git ls-files -z --cached --others --exclude-standard".split()
  names = subprocess.run(listed, cwd=root, check=True, capture_output=True)
  for name in filter(None, names.stdout.decode().split("\0")):
    if (root / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(root / name, folder / name)
  return folder


def passes(root: pathlib.Path, arguments: list[str], seconds: int | None):
  """Whether pytest passes in a fork of this process; None: it does not end.

  seconds: of the processor; another machine's load is no hang. Raises
  ValueError where the arguments name no test.
  """
  process = multiprocessing.get_context("fork").Process(
    target=_forked, args=(root, arguments, seconds)
  )
  process.start()
  process.join(seconds and IDLE * seconds)
  if process.is_alive():
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return None
  if process.exitcode in (4, 5):
    raise ValueError(f"pytest {' '.join(arguments)}: finds no test")
  return None if process.exitcode == -signal.SIGXCPU else process.exitcode == 0


def _forked(root, arguments, seconds):
  os.setsid()
  if seconds:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
  quiet = os.open(os.devnull, os.O_RDWR)
  for stream in (0, 1, 2):
    os.dup2(quiet, stream)
  os.chdir(root)
  sys.path[0] = str(root)
  for name in list(sys.modules):
    if name.split(".")[0] in ("tests", "synpo_jax"):  # of the tree itself
      del sys.modules[name]
  code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *arguments])
  os._exit(int(code))


def _spent() -> float:
  """Seconds of the processor that forks took until now."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def judge(root: pathlib.Path, module: str, chosen, arguments, say=print):
  """Tries mutants on the tests; counts how many were killed and how many not.

  root: a copy of the tree, changed and restored. Raises ValueError where the
  tests fail without any change.
  """
  path, counts, start = root / module, Counter(), _spent()
  if not passes(root, arguments, None):
    raise ValueError(f"{module}: pytest {' '.join(arguments)} fails unchanged")
  seconds = int(SLACK * (_spent() - start)) + 5
  source = path.read_text("utf-8")
  for number, mutant in enumerate(chosen):
    path.write_text(mutant.source, "utf-8")
    os.utime(path, (number, number))  # no compiled file is of the same time
    result = passes(root, arguments, seconds)
    name = {True: "survived", False: "killed", None: "timeout"}[result]
    counts[name] += 1
    say(f"{name:8} {module}:{mutant.line}  {mutant.change}", flush=True)
  path.write_text(source, "utf-8")
  return counts


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("modules", nargs="+", help="synpo_jax/PACKAGE/MODULE.py")
  parser.add_argument("--most", type=int, help="mutants of each, drawn by seed")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--slow", action="store_true", help="slow tests as well")
  parser.add_argument("--tests", nargs="+", help="in place of a module's")
  told = parser.parse_args()
  sys.dont_write_bytecode = False  # of the copy, so that forks import quickly
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["HF_HUB_OFFLINE"] = "1"
  cache = str(ROOT / ".cache" / "compiled")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
  for name in LIBRARIES:
    importlib.import_module(name)
  gc.freeze()
  with tempfile.TemporaryDirectory() as folder:
    root = copied(ROOT, pathlib.Path(folder))
    for module in told.modules:
      found = mutants((root / module).read_text("utf-8"))
      count = min(told.most or len(found), len(found))
      chosen = random.Random(told.seed).sample(found, count)
      chosen.sort(key=lambda mutant: mutant.line)
      arguments = told.tests or tests_of(root, pathlib.PurePath(module))
      marked = [] if told.slow else ["-m", "not slow"]
      counts = judge(root, module, chosen, [*arguments, *marked])
      dead = counts["killed"] + counts["timeout"]
      print(f"{module}: {dead} of {count} noticed, {dict(counts)}", flush=True)


if __name__ == "__main__":
  main()
