"""Splash attention, forward and backward, compiles for v5e, v5p and v6e."""

import json
import subprocess
import sys

import pytest

from tests.support import xla
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SLICES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2", "v5e:2x2/pairs")


def test_the_kernels_compile_for_tpus():
  """auto picks splash, and a saved forward pass is not computed again."""
  script = ROOT / "tests" / "support" / "splash_compiled.py"
  env = xla.without_flags() | dict(
    JAX_PLATFORMS="",
    TPU_SKIP_MDS_QUERY="1",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
    PYTHONPATH=str(ROOT),
  )
  done = subprocess.run(
    [sys.executable, str(script), *SLICES],
    env=env,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  rows = [json.loads(line) for line in done.stdout.splitlines()]
  kernels = {"fwd": 1, "dkv": 1}  # which makes dq as well
  assert rows == [
    dict(slice=name, backend="splash", kernels=kernels) for name in SLICES
  ]
