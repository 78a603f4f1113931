"""What a judge's reply says under given names: read once, never guessed.

One reader for all who ask: an object that has the names, or `name: value` in
words. A reply that says one thing and another, hedges, refuses or breaks off
is Unreadable, and so is asked again.
"""

import re
from typing import Any

from synpo_jax.judging.replies import Found, Unreadable, bare, find, number

LIMITS = ("max", "maximum", "max_score", "out_of", "scale", "scale_max")
CLAUSE = 200  # letters before a value in words that may qualify it
FIGURE = re.compile(r"(?<![\w.])[+-]?\d+(?:[.,]\d+)*")
# A value in words, and what may follow one: the end of a clause or of a mark.
VALUE = r"(?:yes|no|true|false|\d+(?:\.\d+)?(?:\s*(?:/|out of)\s*\d+)?)"
END = (
  r"(?=[\"'`*_)\]}]*\s*(?:$|\n|[.,;!]+(?:\s|$)|</|"
  r"(?:and\s+)?[\"'`*_]*(?:pred|score|better)\b))"
)
MARKS = r"[\s\"'`*_]{0,9}"
HEDGE = re.compile(
  r"(?i)\b(?:if|unless|would|could|might|may|maybe|perhaps|not|between|or"
  r"|about|around|roughly|approximately|almost|nearly|at (?:most|least)"
  r"|cannot|unable|example|e\.g)\b|n['’]t\b"
)
DOUBT = re.compile(
  r"(?i)\b(?:wait|actually|on second thought|correction|sorry|cannot"
  r"|unable|decline|refuse|instead|revis\w+|change (?:my|that|this|it)"
  r"|make (?:it|that)|should (?:be|have been))\b|\b(?:ca|wo)n['’]t\b"
)


def fields(reply: str, names: tuple[str, ...]) -> dict[str, Any]:
  """What the reply says under each of the names, in any case.

  Raises Unreadable where one of them is missing or is said in two ways.
  """
  text = bare(reply)
  if "{" not in text:
    return {name: _in_words(text, name) for name in names}
  found = [_lower(thing) for thing in find(text)]
  whole = [f.value for f in found if all(name in f.value for name in names)]
  if not whole:
    raise Unreadable(f"no object with {' and '.join(names)}")
  prose = _outside(text, found)
  for name in names:
    said = [f.value[name] for f in found if name in f.value]
    said += [match.group(1) for match in _named(name).finditer(prose)]
    _refuse_two(name, said)
  _refuse_doubt(text[found[-1].end :], whole[-1].values())
  return whole[-1]


def score(reply: str, low: int, high: int, *, whole: bool = False) -> float:
  """The reply's {"score": …}, of this range."""
  return scored(fields(reply, ("score",)), low, high, whole=whole)


def scored(
  said: dict[str, Any], low: int, high: int, *, whole: bool = False
) -> float:
  """The score among fields; raises Unreadable where they name another scale."""
  for name in LIMITS:
    if name in said and str(said[name]).strip() not in (str(high), f"{high}.0"):
      raise Unreadable(f"its scale is {said[name]!r}, not {low} to {high}")
  return number(said["score"], low, high, "the score", whole=whole)


def _lower(found: Found) -> Found:
  """With names in lower case, each of them once."""
  value = {}
  for key, item in found.value.items():
    name = str(key).strip().lower()
    if name in value:
      _refuse_two(name, [value[name], item])
    value[name] = item
  return found._replace(value=value)


def _outside(text, found) -> str:
  """The text with a line break for each of its objects."""
  parts, at = [], 0
  for thing in found:
    parts.append(text[at : thing.start])
    at = thing.end
  return "\n".join([*parts, text[at:]])


def _named(name):
  """`name: value` in prose; the value as far as it may be one."""
  return re.compile(
    rf"(?i)\b{name}{MARKS}[:=]{MARKS}(-?\d[\d.,/%–-]*|yes\b|no\b|true|false)"
  )


def _refuse_two(name, said):
  if len({_plain(value) for value in said}) > 1:
    raise Unreadable(f"it gives {name} in two ways")


def _plain(value) -> str:
  """The same text for values that mean the same."""
  if isinstance(value, bool):
    return "yes" if value else "no"
  text = str(value).strip().rstrip(".,!").lower()
  if re.fullmatch(r"[+-]?\d{1,9}(\.\d+)?", text):
    return str(float(text))
  return {"true": "yes", "false": "no"}.get(text, text)


def _refuse_doubt(after, values):
  """Words behind the last object that take another number for it."""
  known = {_plain(value) for value in values}
  figures = {_plain(figure) for figure in FIGURE.findall(after)}
  if DOUBT.search(after) and (figures - known):
    raise Unreadable("words behind its object give another number")


def _in_words(text, name) -> str:
  """The value of the only `name: value`, as long as all else agrees."""
  start = rf"\b{name}{MARKS}(?:[:=>]|\bis\b)?{MARKS}"
  named = list(re.finditer(rf"(?i){start}", text))
  pattern = re.compile(rf"(?i){start}({VALUE}){END}")
  found = [pattern.match(text, at.start()) for at in named]
  if not any(found):
    raise Unreadable(f"no JSON object, and no {name} in words")
  for match in filter(None, found):
    before = text[max(0, match.start() - CLAUSE) : match.start()]
    if HEDGE.search(re.split(r"[\n.!?;]", before)[-1]):
      raise Unreadable(f"it is not sure of its {name}")
  if DOUBT.search(text):
    raise Unreadable(f"it takes its {name} back, or refuses to give one")
  said = [match.group(1) for match in filter(None, found)]
  _refuse_two(name, said)
  if said[0][0].isdigit():
    _refuse_figures(text, [match.span(1) for match in filter(None, found)])
  return said[0]


def _refuse_figures(text, spans):
  known = {at for span in spans for at in range(*span)}
  if any(figure.start() not in known for figure in FIGURE.finditer(text)):
    raise Unreadable("it holds other numbers beside its score")
