"""SynPO preference learning for video captioners, in JAX and Flax."""

import gc
import os
import signal
import sys

__version__ = "0.2.0"


def _command() -> str:
  """The command of ours that Python was started to run, or ""."""
  name, *given = sys.argv or [""]
  if name == "-m":  # so it is while `python -m` looks for the module
    module = sys.orig_argv[-len(given) - 1]
    return module if module.startswith("synpo_jax") else ""
  name = os.path.basename(name)
  return name if name.startswith("synpo-") else ""


if _command():
  # Imports and traces make millions of objects, of which few are garbage.
  gc.set_threshold(50_000, 20, 50)
  # Ctrl-C ends a command that still imports at once, as it ends any program,
  # without a trace; runtime.stopping hears it from then on. One that is
  # ignored, as that of a job in the background, stays so.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Transformers and tensorboardX import PyTorch wherever it is installed, which
# takes seconds; our commands, lm-eval's own aside, have no use for it. With
# USE_TORCH=1 in the environment they find it, as a config may want. SciPy's
# statistics, which `agreement` has, fail where it is shut out.
FREE = {"", "synpo-lm-eval", "synpo_jax.lm_eval_model"}
if _command() not in FREE | {"synpo-agreement", "synpo_jax.agreement"}:
  if os.environ.setdefault("USE_TORCH", "0") == "0":
    sys.modules.setdefault("torch", None)
