"""Videos, pictures and sounds that a row names: one is read, none is lost.

A row may have one video, or a list of videos or of the files of its frames,
which count as one (data/several.py). What else it holds of media is refused by
name: a model that does not get it would learn from captions of what it cannot
see.
"""

import re
from collections.abc import Iterator
from typing import Any

from synpo_jax.data import several

VIDEO = ("video", "video_name", "video_path", "videos")  # what is read

# Words of a key that say what lies there, and those that may stand beside.
MEDIA = {
  **dict.fromkeys(("video", "vid", "clip", "movie", "film", "mp4"), "a video"),
  **dict.fromkeys(("frame", "media", "medium", "visual"), "a video"),
  **dict.fromkeys(("image", "img", "picture", "pic", "photo"), "a picture"),
  **dict.fromkeys(("gif", "screenshot"), "a picture"),
  **dict.fromkeys(("audio", "sound", "speech", "wav", "voice"), "a sound"),
}
BESIDE = frozenset(
  "path file filename name url uri link id ids bytes list dir folder data src"
  " source key base64 b64 to of the in input local full abs absolute rel"
  " relative orig original raw content item object array ref 0 1 2 3".split()
)
SUFFIX = re.compile(
  r"\S+\.(?:(?P<video>mp4|m4v|mkv|mov|avi|webm|mpe?g|flv|wmv|3gp|ogv)"
  r"|(?P<picture>png|jpe?g|webp|bmp|tiff?|gif)"
  r"|(?P<sound>wav|mp3|flac|ogg|m4a|aac|opus))",
  re.IGNORECASE,
)

WORDS = ("content", "text", "value", "output", "response", "answer")

# Marks that stand for media in the texts of common data sets.
NOUN = "(?:video|vid|image|img|picture|frame|audio|sound|speech)s?"
MARK = re.compile(
  r"<\|vision_start\|>(?:<\|(?:video|image)_pad\|>)+<\|vision_end\|>"
  r"|(?i:<(?:video|image|img)><\w*(?:here|context)></(?:video|image|img)>)"
  rf"|(?i:<\|?(?:(?:start|begin)_of_)?{NOUN}"
  r"(?:_?(?:pad|placeholder|token|soft_token|here|context|\d+))?\|?>)"
  r"|\[(?:VIDEO|IMAGE|IMG|AUDIO)\]"
)
BEFORE = re.compile(rf"\s*(?:(?:{MARK.pattern})\s*)+")
BEHIND = re.compile(rf"(?:\s*(?:{MARK.pattern}))+\s*\Z")


class Fault(Exception):
  """What is wrong with a row, in words that follow its line number."""


def one(name: str, value: Any) -> Any:
  """The video under a key: its value, or the name of all that a list holds.

  Tables of `datasets` hold a video as its path beside its bytes; the path is
  read where there are none.
  """
  if not isinstance(value, list):
    return _path(name, value)
  found = [_path(name, item) for item in _flat(value)]
  for item, path in zip(_flat(value), found, strict=True):
    if not isinstance(path, str):
      raise Fault(f"{name!r} lists a {type(item).__name__}, not a path")
  return several.name_of(found) if found else None


def _flat(values: list) -> list:
  """The items of a list, and of the lists in it."""
  lists = [value if isinstance(value, list) else [value] for value in values]
  return [item for inner in lists for item in inner]


def _path(name: str, value: Any) -> Any:
  """The path of a video that is a table's {path, bytes}; else the value."""
  if not isinstance(value, dict) or not value.keys() <= {"path", "bytes"}:
    return value
  if value.get("bytes"):
    raise Fault(f"{name!r} holds a video's bytes, not its path; write its file")
  return value.get("path")


def check(row: dict, read: set[str], seen: bool, where: str = "") -> None:
  """Raises Fault for media that would be lost.

  Args:
    row: an object of a file; `read` are its keys that are used.
    seen: whether the row's video is known. Then other names of it are
      provenance; pictures and sounds are not.
    where: words before the key in the fault.
  """
  for key, value in _entries(row, read, deep=not seen):
    what = _named(key, value)
    if what is None and not seen and not key.endswith(WORDS):
      what = _looks(value)
    if what is None or what == "a video" and seen:
      continue
    way = "call it 'video'" if what == "a video" else "only videos are"
    raise Fault(
      f"{where}{key!r} holds {what}, which is not read; {way}, or take it out"
    )


def _entries(row: dict, read: set[str], deep: bool) -> Iterator[tuple]:
  """(dotted key, value) of what is not read, inner objects too if `deep`."""
  stack = [(k, v) for k, v in reversed(row.items()) if k not in read]
  while stack:
    key, value = stack.pop()
    yield key, value
    if not deep:
      continue
    inner = value if isinstance(value, list) else [value]
    for item in inner:
      if isinstance(item, dict):
        stack += [(f"{key}.{k}", v) for k, v in item.items()]
      elif isinstance(item, list):
        stack.append((key, item))


def _named(key: str, value: Any) -> str | None:
  """The medium that a key's words name; None for words and numbers of it."""
  apart = re.sub(r"([a-z])([A-Z])", r"\1_\2", key.rpartition(".")[2])
  words = [w for w in re.split(r"[^a-z0-9]+", apart.lower()) if w]
  media = [m for w in words for m in [MEDIA.get(w) or MEDIA.get(w[:-1])] if m]
  others = [w for w in words if not (w in MEDIA or w[:-1] in MEDIA)]
  if not media or any(w not in BESIDE for w in others):
    return None
  if isinstance(value, bool) or not value:
    return None
  number = isinstance(value, int | float)
  return None if number and not {"id", "ids"} & {*others} else media[0]


def _looks(value: Any) -> str | None:
  """The medium that a value is a path of, by its suffix."""
  values = value if isinstance(value, list) else [value]
  for item in values:
    if isinstance(item, str) and (found := SUFFIX.fullmatch(item.strip())):
      return f"a {found.lastgroup}"
  return None


def unmarked(question: str, seen: bool, most: int = 1) -> tuple[str, bool]:
  """The question without the mark of the row's video, and whether it had one.

  Our own visual block stands before the question, so one mark at either end, or
  `most` of a list of so many videos, says nothing more.

  Raises:
    Fault: more marks, one within the text, or one without a video.
  """
  before, behind = BEFORE.match(question), BEHIND.search(question)
  start = before.end() if before else 0
  end = max(start, behind.start()) if behind else len(question)
  ends, inner = question[:start] + question[end:], question[start:end]
  marks = [m.group() for m in MARK.finditer(ends)]
  if marks and not seen:
    raise Fault(f"'question' holds {marks[0]!r}, but the row has no video")
  within = MARK.search(inner) if seen else None
  if within or len(marks) > most:
    mark = marks[0] if marks else within.group()
    raise Fault(
      f"'question' holds {mark!r} within its text or more than once; the "
      "row's one video is put before it, so take the marks out"
    )
  if marks and re.search("audio|sound|speech", marks[0], re.IGNORECASE):
    raise Fault(f"'question' holds {marks[0]!r}; sounds are not read")
  if marks and not inner.strip():
    raise Fault(f"'question' holds nothing but {marks[0]!r}")
  return inner if marks else question, bool(marks)


def check_earlier(text: str, seen: bool) -> None:
  """Raises Fault for an earlier turn that has a mark of media."""
  found = BEFORE.match(text) or BEHIND.search(text)
  if seen:
    found = found or MARK.search(text)
  if found:
    raise Fault(
      f"an earlier turn holds {found.group().strip()!r}; only the last "
      "question can have a video"
    )
