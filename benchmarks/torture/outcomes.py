"""What became of a try, and whether it counts as survived."""

from typing import NamedTuple

from benchmarks.torture.processes import Done

LISTED = 42  # two kinds of faults, twenty of each and how many more
TRACE = "Traceback (most recent call last)"


class Outcome(NamedTuple):
  """Whether a try survived, in a few words how, and what the program said.

  lost: rows of curves that are gone, as the program said itself.
  """

  survived: bool
  how: str
  said: str = ""
  lost: int = 0


def trouble(done: Done) -> str:
  """What must never be: a hang or a trace; "" without."""
  if done.code is None:
    return "hangs"
  if TRACE in done.said:
    return "ends in a traceback"
  return f"crashed by signal {-done.code}" if done.code < 0 else ""


def refusal(done: Done) -> str | None:
  """The one line in which a program refused; None where there is no such.

  Below it may stand a list of what it found, of two spaces and so many lines.
  """
  lines = done.said.rstrip().splitlines()
  where = [i for i, x in enumerate(lines) if x.startswith("error: ")]
  if not done.code or len(where) != 1:
    return None
  line, *listed = lines[where[0] :]
  is_list = all(x.startswith("  ") for x in listed) and len(listed) <= LISTED
  return line if is_list else None


def refused(done: Done, names: tuple[str, ...] = ()) -> Outcome:
  """Survived by a refusal of one line that has one of some names."""
  line, wrong = refusal(done), trouble(done)
  if not wrong and done.code == 0:
    wrong = "takes it for good"
  if not wrong and line is None:
    wrong = "ends in no line of its own"
  if not wrong and names and not any(name in line for name in names):
    wrong = "refuses without naming the file"
  if wrong:
    return Outcome(False, wrong, done.said[-2000:])
  return Outcome(True, f"refused: {line.removeprefix('error: ')[:300]}")


def completed(done: Done, is_same: bool, what: str) -> Outcome:
  """Survived by ending well, with the result of an uninterrupted run."""
  wrong = trouble(done)
  if not wrong and done.code:
    wrong = f"cannot go on (exit code {done.code})"
  if not wrong and not is_same:
    wrong = "ends with another result"
  said = done.said[-2000:] if wrong else ""
  return Outcome(not wrong, f"{what}: {wrong or 'the same result'}", said)
