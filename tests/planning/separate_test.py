"""A plan whose compiler ends its process."""

import os
import signal
import subprocess
import sys

import pytest

from synpo_jax.planning import separate

PLAN = """
import sys
from synpo_jax import plan

def compiled(console):
  from synpo_jax.runtime import hosts  # imports JAX

  hosts.say("compiling 2 x 16 pairs")
  {work}
  return [], True

assert "jax" not in sys.modules
plan._training = compiled
sys.argv += ["--config=configs/vdc.py", "--topology=v5e:4x4", "--sweep"]
sys.argv += ["--nokeep_compiled"]
plan.main()
"""


def begun(work, *before):
  return subprocess.Popen(
    [*before, sys.executable, "-c", PLAN.format(work=work)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.parametrize(
  "work, code, said",
  [
    ("pass", 0, ""),
    ("sys.exit(3)", 3, ""),
    ("raise ValueError('no such chip')", 1, "error: no such chip\n"),
    (
      "import os; os.abort()",
      1,
      "error: SIGABRT (a check of its own failed) ended the compiler at what "
      "is named last above; another batch size, mesh or model.remat makes "
      "another program\n",
    ),
    (
      "import os; os.kill(os.getpid(), 9)",
      1,
      "error: SIGKILL ended the compiler at what is named last above; another "
      "batch size, mesh or model.remat makes another program\n",
    ),
  ],
)
def test_it_leaves_as_the_child_does_and_names_a_signal(work, code, said):
  plan = begun(work)
  out, err = plan.communicate(timeout=100)
  assert plan.returncode == code
  # Of an abort Python shows first where it was.
  assert err.endswith(said) if said else not err
  assert out == "compiling 2 x 16 pairs\n"


def test_where_jax_runs_nothing_is_forked():
  with pytest.raises(RuntimeError, match="before JAX is imported"):
    separate.go_on()


def test_a_signal_to_stop_ends_the_child_too():
  plan = begun("import os, time; hosts.say(os.getpid()); time.sleep(100)")
  lines = [plan.stdout.readline() for _ in range(2)]
  child = int(lines[1])
  assert child != plan.pid
  plan.terminate()
  assert plan.wait(10) == 128 + signal.SIGTERM
  assert plan.stderr.read() == "stopped by SIGTERM\n"
  with pytest.raises(ProcessLookupError):
    os.kill(child, 0)


def test_a_signal_that_nohup_ignores_ends_nothing():
  work = "import os; hosts.say(os.getpid()); sys.stdin.read()"
  plan = begun(work, "sh", "-c", 'trap "" HUP; exec "$@"', "sh")
  lines = [plan.stdout.readline() for _ in range(2)]
  for process in (int(lines[1]), plan.pid):
    os.kill(process, signal.SIGHUP)
  plan.stdin.close()
  assert plan.wait(10) == 0
