"""Finds broken language in a caption: loops, stutters, ungrammatical turns.

A small grammar of word classes says which class may not follow which. Words
it does not know are never held against a caption, so other people's English
passes; what preference training breaks (loops, lost little words, sentences
that stop in the middle, words glued together) does not.
"""

import re
from collections import Counter

FULL = 5.0
COST = 1.5  # for a broken sentence, a repeated one, an unfinished one
TASTE = 1.0  # for speaking of a still image, or for praise

_CLASSES = {
  "article": "a an the",
  "look": "large small big little tiny huge red orange yellow green blue"
  " purple white black grey gray brown plain dark grassy sunny cloudy night"
  " empty main",
  "name": "circle square triangle star ring wall field sky moon background"
  " camera scene clip video object view",
  "edge": "left right top bottom middle start end",
  "go": "moves glides travels drifts pans",
  "do": "enters appears leaves exits turns becomes changes collides bumps"
  " bounces hits hides slips goes comes stays zooms returns starts opens"
  " stay move",
  "be": "is are",
  "prep": "from through into with behind under at on to before of",
  "in": "in",
  "and": "and",
  "there": "there everything",
  "part": "set fixed hidden nothing",
}
_CLASS = {
  word: name for name, words in _CLASSES.items() for word in words.split()
}
_COMMON = set("it they he she we you that this and as for by one two".split())
_VERBS = ("go", "do", "be")
# class -> classes that cannot come right after it
_NEVER = {
  "article": ("article", "prep", "and", *_VERBS, "there", "part", "stop"),
  "look": ("article", "go"),
  "name": ("article", "look", "name", "part", "there"),
  "edge": ("name", "there is"),
  "go": ("article", *_VERBS, "name", "look"),
  "do": (*_VERBS, "name", "there"),
  "be": (*_VERBS, "name"),
  "prep": ("prep", "and", *_VERBS, "stop", "name", "edge"),
  "in": (*_VERBS, "name", "edge"),
  "and": ("and", "be", "stop", "name"),
  "there": ("article", "there", "part", "look"),
  "part": ("part", "be"),
}
# Two prepositions and the like that do follow one another.
_FINE = re.compile(
  r"from (?:the )?(?:left|right|top|bottom) to (?:the )?\w+|from start to end|"
  r"\b(?:in|out|on|up|down|back|away) (?=from|to|of|on|at|behind|through|with)|"
  r"in front of|(?:in|of|from|into) view|from behind|still in"
)
_BROKEN = re.compile(
  r"\b(?:comes|moves|appears|slides) in the (?:left|right|top|bottom)\b"
  r"(?! (?:corner|half|part|side))|"
  r"\b(?:enters|leaves|exits|appears|out) the (?:left|right|top|bottom)\b"
  r"(?! (?:corner|half|part|side|edge|of))|"
  r"\b(?:up|down) and the (?:left|right)\b|\bzooms out the\b|"
  r"\bits colou?r (?!to|from|and|again|into|is)\w|"
  r"\bwhere it[.]|\bnothing see\b|\b(\w+) \1\b"
)
_GLUED = re.compile(
  r"(?:circle|square|triangle|camera|background|yellow|purple|orange)"
  r"(?!s?$|d$|ly$|ish$|y$|like$)"
)
_STILL_IMAGE = re.compile(r"\b(?:image|photo|photograph|picture shows)\b")
_PRAISE = re.compile(
  r"\b(?:beautiful|lovely|amazing|stunning|wonderful|charming|gorgeous|i think|"
  r"i feel|i believe)\b"
)
_LEAD = re.compile(
  r"^(?:first|then|next|after that|finally|in the end|to begin|during the clip)"
  r",? "
)


def fluency(
  caption: str, kind: str = "detailed"
) -> tuple[float, tuple[str, ...]]:
  """(score from 0 to 5, what is wrong with the language).

  Args:
    caption: any text; an empty one scores 0.
    kind: what was asked for; a detailed account takes three sentences.
  """
  text = re.sub(r"\s+", " ", caption).strip()
  if not re.search(r"[a-z]", text.lower()):
    return 0.0, ("nothing is said",)
  told = re.split(r"(?<=[.!?]) ", text)
  costs = [*_repeated(told), *_taste(text.lower())]
  faults = [_broken(sentence) for sentence in dict.fromkeys(told)]
  costs += [cost for found in faults for cost in found]
  if kind == "detailed" and len(told) < 3:
    costs.append((COST, "too short for a detailed account"))
  left = FULL - sum(cost for cost, _ in costs)
  sound = FULL * sum(not found for found in faults) / len(faults)
  return max(0.0, min(left, sound)), tuple(fault for _, fault in costs)


def _repeated(told: list[str]) -> list[tuple[float, str]]:
  """Sentences said again, word for word or often under another opening."""
  exact = Counter(sentence.lower() for sentence in told)
  costs = [
    (COST, f"said again: {sentence}")
    for sentence, times in exact.items()
    for _ in range(times - 1)
  ]
  bare = Counter(_LEAD.sub("", sentence) for sentence in exact)
  costs += [
    (COST, f"said over and over: {sentence}")
    for sentence, times in bare.items()
    for _ in range(times - 2)
  ]
  return costs


def _taste(text: str) -> list[tuple[float, str]]:
  costs = []
  if _STILL_IMAGE.search(text):
    costs.append((TASTE, "speaks of a still image"))
  if _PRAISE.search(text):
    costs.append((TASTE, "subjective remark"))
  return costs


def _broken(sentence: str) -> list[tuple[float, str]]:
  """At most one fault a sentence, dearer when it runs in a loop."""
  words = re.findall(r"[a-z']+", sentence.lower())
  loops = sum(
    n - 1 for n in Counter(zip(*_shifted(words), strict=False)).values()
  )
  if loops:
    return [(COST * (1 + loops // 4), f"runs in a loop: {sentence}")]
  faults = (
    (_unfinished(sentence), "unfinished"),
    (_misspelt(sentence), "not English"),
    (_ungrammatical(sentence.lower()), "broken"),
    (_no_verb(words), "no verb"),
  )
  return [(COST, f"{name}: {sentence}") for found, name in faults if found][:1]


def _shifted(words: list[str]) -> list[list[str]]:
  return [words[k:] for k in range(4)]


def _unfinished(sentence: str) -> bool:
  return not sentence.endswith((".", "!", "?"))


def _misspelt(sentence: str) -> bool:
  """Glued or mangled words, capitals inside, stray punctuation."""
  words = re.findall(r"[^\W\d_]+", sentence)
  return (
    "\ufffd" in sentence
    or re.search(r"[,.;:]{2}| [,.;:]|[a-z][,.;:][a-z]|\w\d|\d[a-z]", sentence)
    is not None
    or any(len(word) > 15 or _GLUED.match(word.lower()) for word in words)
    or not any(w.lower() in _CLASS or w.lower() in _COMMON for w in words)
    or any(re.search(r"[a-z][A-Z]", word) for word in words)
    or any(len(w) > 3 and not re.search(r"[aeiouy]", w.lower()) for w in words)
    or any(w[0].isupper() and w.lower() in _CLASS for w in words[1:])
  )


def _no_verb(words: list[str]) -> bool:
  known = [word in _CLASS or _LEAD.match(word + " ") for word in words]
  return all(known) and not any(_CLASS.get(w) in _VERBS for w in words)


def _ungrammatical(sentence: str) -> bool:
  if _BROKEN.search(re.sub(r"[^\w. ]", " ,", sentence)):
    return True
  tokens = re.findall(r"[a-z']+|[,.!?;:]", _FINE.sub("so ", sentence))
  classes = [_CLASS.get(t, "stop" if t in ".!?,;:" else t) for t in tokens]
  pairs = zip(classes, classes[1:], strict=False)
  if any(after in _NEVER.get(before, ()) for before, after in pairs):
    return True
  return any(
    name == "name" and _bare(tokens, classes, index)
    for index, name in enumerate(classes)
  )


def _bare(tokens: list[str], classes: list[str], index: int) -> bool:
  """Whether a thing is named without an article or the like before it."""
  start = index
  while start and classes[start - 1] == "look":
    start -= 1
  before = tokens[start - 1] if start else "."
  if before == "and" and start > 1 and classes[start - 2] == "look":
    return False
  loose = ("prep", "go", "do", "be", "and", "stop", "there")
  return (classes[start - 1] if start else "stop") in loose or before in (
    "during",
    "then",
  )
