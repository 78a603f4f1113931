"""Every test runs on eight virtual CPU devices, in full float32.

Programs are compiled once per session: test processes and those that they
start share a cache.
"""

import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
COMPILED = tempfile.mkdtemp() if "PYTEST_XDIST_WORKER" not in os.environ else ""
if COMPILED:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED  # workers inherit it
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_unconfigure(config):
  del config
  if COMPILED:
    shutil.rmtree(COMPILED, ignore_errors=True)
