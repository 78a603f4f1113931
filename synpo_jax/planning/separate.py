"""A process of its own for a plan, which a compiler may end.

Where a check of libtpu's or XLA's own fails, the process ends, past every
`except`; and where memory does not suffice, the system ends it.
"""

import os
import signal
import sys

from synpo_jax.runtime import stopping


def go_on() -> None:
  """What follows is done by a child; this process leaves as that one does.

  Raises RuntimeError where JAX is imported, whose threads a child would not
  have, and ValueError where a signal ended the child.
  """
  if "jax" in sys.modules:
    raise RuntimeError("a plan is begun before JAX is imported")
  sys.stdout.flush()
  child = os.fork()
  if child:
    _leave_with(child)
  for number in stopping.SIGNALS:  # the parent hears them
    if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
      signal.signal(number, signal.SIG_DFL)


def _leave_with(child: int) -> None:
  try:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  except stopping.Stopped:
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    raise
  if code >= 0:
    sys.exit(code)
  name = signal.Signals(-code).name
  what = " (a check of its own failed)" if name == "SIGABRT" else ""
  raise ValueError(
    f"{name}{what} ended the compiler at what is named last above; another "
    "batch size, mesh or model.remat makes another program"
  )
