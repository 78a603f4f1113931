"""Text of others, made safe to show in a terminal."""


def printable(text: str) -> str:
  """The text without the control characters that a terminal would obey."""
  return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
