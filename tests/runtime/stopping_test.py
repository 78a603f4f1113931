"""What signals do to work that raises, and to work that takes note."""

import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

BEGIN = """
import multiprocessing, os, signal, sys, time
from synpo_jax.runtime import stopping
def send(name):
  os.kill(os.getpid(), getattr(signal, name))
def nap():
  time.sleep(600)
"""


def run(code, *arguments, through=()):
  return subprocess.run(
    [*through, sys.executable, "-c", BEGIN + code, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


ENDS = """
with stopping.in_one_line(sys.argv[2]):
  try:
    send(sys.argv[1])
    time.sleep(60)
  finally:
    print("cleaned up")
"""


@pytest.mark.parametrize(
  ("name", "kept", "line"),
  [
    ("SIGINT", "rows are kept", "stopped by SIGINT: rows are kept"),
    ("SIGHUP", "rows are kept", "stopped by SIGHUP: rows are kept"),
    ("SIGTERM", "", "stopped by SIGTERM"),
  ],
)
def test_a_signal_ends_work_in_one_line(name, kept, line):
  done = run(ENDS, name, kept)
  assert done.returncode == 128 + getattr(signal, name)
  assert (done.stdout, done.stderr) == ("cleaned up\n", line + "\n")


def test_nohup_stays_deaf_to_the_terminal_that_goes():
  done = run(
    "with stopping.in_one_line(''): send('SIGHUP'); print('goes on')",
    through=("nohup",),
  )
  assert (done.returncode, done.stdout) == (0, "goes on\n")


NOTES = """
with stopping.noted(False) as stop:
  for name in sys.argv[1:]:
    send(name)
    print(name, stop.is_set())
send("SIGTERM")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_work_that_takes_note_goes_on(name):
  done = run(NOTES, name, "SIGTERM", "SIGHUP")
  assert done.stdout.splitlines() == [
    f"{name} True",
    "SIGTERM True",
    "SIGHUP True",
  ]
  assert done.stderr.startswith(f"{name}: saving after this update")
  assert len(done.stderr.splitlines()) == 1
  assert done.returncode == -signal.SIGTERM  # handled as before again


AGAIN = """
if __name__ == "__main__":
  child = multiprocessing.get_context("fork").Process(target=nap, daemon=True)
  child.start()
  print(child.pid, flush=True)
  with stopping.noted(False):
    send("SIGTERM")
    send("SIGINT")
    print("not reached")
"""


def test_a_second_signal_from_the_keyboard_ends_at_once():
  done = run(AGAIN)
  assert done.returncode == 130
  assert done.stderr.endswith("SIGINT again: ended at once\n")
  (child,) = done.stdout.split()
  state = subprocess.run(
    ["ps", "-o", "stat=", "-p", child], capture_output=True, text=True
  )
  assert state.stdout.strip()[:1] in ("", "Z")  # gone, or not yet collected


UNHEARD = """
with stopping.unheard():
  started = os.posix_spawn(sys.executable, [sys.executable, "-c",
    "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('on')"],
    os.environ)
os.waitpid(started, 0)
with stopping.in_one_line(""):
  send("SIGINT")
"""


def test_workers_do_not_hear_the_terminal_but_the_program_does():
  done = run(UNHEARD)
  assert done.stdout == "on\n"
  assert (done.returncode, done.stderr) == (130, "stopped by SIGINT\n")


SEVERAL = """
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))  # as JAX does
with stopping.noted(True) as stop:
  send(sys.argv[1])
  print(heard, stop.is_set())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_of_several_processes_each_signal_becomes_the_one_jax_knows(name):
  assert run(SEVERAL, name).stdout == "['SIGTERM'] True\n"
