"""JSON objects inside what a language model replied.

Models wrap the object that was asked for in prose or code fences, quote with
single quotes, write True for true, leave a comma behind. `objects` reads all
of that with a small grammar of its own; nothing is ever evaluated. A torn
object is not read: half of a number is another number.
"""

import re
from typing import Any, NamedTuple

from synpo_jax.endpoints.thoughts import without_thoughts

DEPTH = 16  # deepest nesting that is read
NUMBER = re.compile(r"[+-]?(\d+(\.\d+)?|\.\d+)([eE][+-]?\d{1,3})?")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
DIGITS = re.compile(r"\d{1,9}")
UNIT = re.compile(r"u([0-9a-fA-F]{4})")  # behind the backslash
LOW = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")  # second of a pair
SPACE = re.compile(r"\s*")
SCORE = re.compile(
  r"\s*([+-]?\d{1,9}(?:\.\d*)?)\s*(?:(?:/|out of)\s*(\d{1,9}(?:\.0*)?)\s*)?"
)
NAMES = {"true": True, "false": False, "null": None, "none": None}
QUOTES = {'"': '"', "'": "'", "“": "”"}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
CLOSERS = set(",:]}")
OPENED = re.compile(r"\s*(?:```\w*\s*)?\{")
CLOSED = re.compile(r"\s*(?:```\s*)?")


class Unreadable(ValueError):
  """The text does not hold what was asked for; the message says why."""


class Fault(Exception):
  """Reading stopped: args are the offset and the reason."""


class Read(NamedTuple):
  value: Any
  end: int  # offset behind the value


class Found(NamedTuple):
  """An object, and where it lies in the text."""

  value: dict
  start: int
  end: int


def objects(text: str) -> list[dict]:
  """The outermost JSON-like objects of a reply, in reading order.

  Thoughts are passed over. Raises Unreadable as `find` does.
  """
  return [found.value for found in find(bare(text))]


def bare(text: str) -> str:
  """A reply without its thoughts.

  One that is a single object has none: marks in its strings are but words.
  """
  return text if _is_object(text) else without_thoughts(text)


def find(text: str) -> list[Found]:
  """The outermost objects of a text that holds no thoughts.

  What was read of a broken object is dropped and reading goes on behind the
  fault. Raises Unreadable when no whole object is left, or the text ends
  within one.
  """
  found, start, why = [], text.find("{"), "no JSON object"
  while start >= 0:
    try:
      value, end = _object(text, start + 1, DEPTH)
      found.append(Found(value, start, end))
    except Fault as fault:
      end, why = fault.args
      if end >= len(text):
        raise Unreadable("it ends inside its JSON object") from None
    start = text.find("{", max(end, start + 1))
  if not found:
    raise Unreadable(why)
  return found


def object_schema(**properties: dict) -> dict:
  """JSON schema of an object with all of these properties and no other."""
  return {
    "type": "object",
    "properties": properties,
    "required": list(properties),
    "additionalProperties": False,
  }


def whole_number(value: Any, low: int, high: int, what: str) -> int:
  """The integer a value stands for (3, 3.0, "3" or "3/5", of 5)."""
  found = number(value, low, high, what, whole=True)
  return int(found)


def number(
  value: Any, low: int, high: int, what: str, *, whole: bool = False
) -> float:
  """The number a value stands for, checked against its range.

  Raises Unreadable for another scale than the range's, a range, words.
  """
  if isinstance(value, str) and (match := SCORE.fullmatch(value)):
    if match.group(2) and float(match.group(2)) != high:
      raise Unreadable(f"{what} is {value!r}, not on the scale to {high}")
    value = float(match.group(1))
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise Unreadable(f"{what} is {value!r}, not a number")
  odd = value != value or abs(value) == float("inf")
  if whole and (odd or value != int(value)):
    raise Unreadable(f"{what} is {value}, not a whole number")
  if odd or not low <= value <= high:
    raise Unreadable(f"{what} is {value}, outside {low} to {high}")
  return float(value)


def _is_object(text) -> bool:
  """Whether a text is one object, perhaps in a code fence, and nothing else."""
  if not (opened := OPENED.match(text)):
    return False
  try:
    end = _object(text, opened.end(), DEPTH).end
  except Fault:
    return False
  return bool(CLOSED.fullmatch(text, end))


def _skip(text, at):
  return SPACE.match(text, at).end()


def _value(text, at, depth):
  at = _skip(text, at)
  head = text[at : at + 1]
  if head == "{":
    return _object(text, at + 1, depth - 1)
  if head == "[":
    return _array(text, at + 1, depth - 1)
  if head in QUOTES:
    return _string(text, at)
  if number := NUMBER.match(text, at):
    return Read(_number(number.group()), number.end())
  word = WORD.match(text, at)
  if word and word.group().lower() in NAMES:
    return Read(NAMES[word.group().lower()], word.end())
  raise Fault(at, "no JSON value")


def _object(text, at, depth):
  if depth <= 0:
    raise Fault(at, "nested too deeply")
  value = {}
  at = _skip(text, at)
  while text[at : at + 1] != "}":
    key, at = _key(text, at)
    at = _expect(text, at, ":")
    item, at = _value(text, at, depth)
    if key in value:
      raise Fault(at, f"{key!r} is given twice")
    value[key] = item
    at = _next(text, at, "}")
  return Read(value, at + 1)


def _array(text, at, depth):
  if depth <= 0:
    raise Fault(at, "nested too deeply")
  value = []
  at = _skip(text, at)
  while text[at : at + 1] != "]":
    item, at = _value(text, at, depth)
    value.append(item)
    at = _next(text, at, "]")
  return Read(value, at + 1)


def _next(text, at, closer):
  """Steps over a comma (a trailing one too); the closer stays unread."""
  at = _skip(text, at)
  if text[at : at + 1] == ",":
    return _skip(text, at + 1)
  if text[at : at + 1] == closer:
    return at
  raise Fault(at, f"neither comma nor {closer}")


def _expect(text, at, mark):
  at = _skip(text, at)
  if text[at : at + 1] != mark:
    raise Fault(at, f"no {mark}")
  return at + 1


def _key(text, at):
  if text[at : at + 1] in QUOTES:
    return _string(text, at)
  if word := WORD.match(text, at) or DIGITS.match(text, at):
    return Read(word.group(), word.end())
  raise Fault(at, "no key")


def _number(digits):
  whole = re.fullmatch(r"[+-]?\d{1,300}", digits)
  return int(digits) if whole else float(digits)


def _string(text, at):
  """A quoted string; an apostrophe inside single quotes does not end it."""
  closer = QUOTES[text[at]]
  parts, at = [], at + 1
  while at < len(text):
    mark = text[at]
    if mark == "\\":
      piece, at = _escape(text, at + 1)
      parts.append(piece)
    elif mark == closer and (closer != "'" or _ends(text, at + 1)):
      return Read("".join(parts), at + 1)
    else:
      parts.append(mark)
      at += 1
  raise Fault(at, "a string is not closed")


def _ends(text, at):
  at = _skip(text, at)
  return at == len(text) or text[at] in CLOSERS


def _escape(text, at):
  mark = text[at : at + 1]
  if mark != "u":
    return Read(ESCAPES.get(mark, mark), at + 1)
  code = UNIT.match(text, at)
  if not code:
    raise Fault(at, "a broken \\u escape")
  unit = int(code.group(1), 16)
  low = LOW.match(text, at + 5)
  if 0xD800 <= unit < 0xDC00 and low:
    tail = int(low.group(1), 16) - 0xDC00
    return Read(chr(0x10000 + ((unit - 0xD800) << 10) + tail), at + 11)
  return Read(chr(unit), at + 5)
