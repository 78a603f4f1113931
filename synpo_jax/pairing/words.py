"""Words of captions, as pairs are chosen and looked at by them.

No tokenizer is asked: a captioner behind an endpoint has none here. What is
counted are words and marks of punctuation, in any language that sets spaces.
"""

import re

ENDS = re.compile(r"(?<=[.!?。！？])\s+|\n")


def split(text: str) -> list[str]:
  """Words and single marks in the order of the text, in lower case."""
  return re.findall(r"\w+|[^\w\s]", text.casefold())


def count(text: str) -> int:
  """How many words and marks a text has."""
  return len(split(text))


def first_sentence(text: str) -> str:
  """A text to its first full stop, question or exclamation mark, or line."""
  return ENDS.split(text.strip(), maxsplit=1)[0]
