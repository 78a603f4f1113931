"""SynPO preference learning for video captioners, in JAX and Flax."""

import gc
import os
import signal
import sys

__version__ = "0.2.0"


def _is_command() -> bool:
  """Whether Python was started to run one of our commands."""
  name, *given = sys.argv or [""]
  if name == "-m":  # so it is while `python -m` looks for the module
    return sys.orig_argv[-len(given) - 1].startswith("synpo_jax")
  return os.path.basename(name).startswith("synpo-")


if _is_command():
  # Imports and traces make millions of objects, of which few are garbage.
  gc.set_threshold(50_000, 20, 50)
  # Ctrl-C ends a command that still imports at once, as it ends any program,
  # without a trace; runtime.stopping hears it from then on. One that is
  # ignored, as that of a job in the background, stays so.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
