"""Text of others, made fit to show in a terminal."""


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
