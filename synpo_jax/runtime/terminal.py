"""Text of others, made fit to show in a terminal."""

LISTED = 20  # faults of a kind in one message; the others are counted


def printable(text: str) -> str:
  """The text without the control characters that a terminal would obey."""
  return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def first_line(error: Exception) -> str:
  """What an error says in one line; its type and all where it says nothing."""
  return (str(error).strip().splitlines() or [repr(error)])[0]


def in_short(error: Exception, most: int = 200) -> str:
  """The first line, or of a long one its beginning and its end.

  Libraries begin with where it was and end with why.
  """
  line = first_line(error)
  if len(line) <= most:
    return line
  start = most // 3
  return f"{line[:start]} … {line[start - most + 3 :]}"


def below(head: str, *kinds: list[str]) -> str:
  """A line, and below it what was found, indented: LISTED of each kind."""
  lines = [head]
  for found in kinds:
    more = len(found) - LISTED
    lines += found[:LISTED] + ([f"… and {more:,} more"] if more > 0 else [])
  return "\n  ".join(lines)


def together(path: object, faults: list[str]) -> str:
  """The faults of a file, each with its place: one alone, or all as a list."""
  if len(faults) == 1:
    return faults[0]
  return below(f"{path}: {len(faults):,} faults", faults)
