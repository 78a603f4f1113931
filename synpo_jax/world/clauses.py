"""Reads one sentence of a caption: who is named, where, and what they do."""

import dataclasses

from synpo_jax.world import lexicon
from synpo_jax.world.draft import Draft
from synpo_jax.world.scene import Event, Thing

VERBS = ("move", "move up", "move down", "turn", "enter", "leave", "colour")
MEETINGS = ("collide", "hide", "collided")


@dataclasses.dataclass
class _Event:
  """An event while its sentence is being read."""

  kind: str
  who: list[int]
  ways: list[str] = dataclasses.field(default_factory=list)
  hue: str | None = None
  whom: int | None = None
  passive: bool = False


class Sentence:
  """Reads one sentence into the draft, token by token."""

  def __init__(self, draft: Draft):
    self.draft = draft
    self.subjects: list[int] = []
    self.spot: list[int] = []  # whose place the next words of place are
    self.place: list[str] = []
    self.events: list[_Event] = []
    self.open: _Event | None = None
    self.listing = False
    self.acted = False  # whether the subjects have had their verb
    self.negated = False
    self.predicate = False  # whether `is` has been said of the subject
    self.before = ""
    self._forget()

  def _forget(self) -> None:
    """Ends a noun phrase; adjectives left over say how the subject is."""
    if self.predicate and self.open is None:
      for who in self.subjects:
        self.draft.describe(who, self.hue, self.size)
    self.size = self.hue = self.number = None
    self.fresh = False

  def read(self, tokens: list[lexicon.Token]) -> None:
    for tag, word in tokens:
      self._token(tag, word)
      self.before = word
    self._forget()
    self._end_place()
    for event in _told(self.events):
      self._note(event)
    if self.subjects:
      self.draft.last = self.subjects

  def _token(self, tag: str, word: str) -> None:
    if tag in ("new", "the"):
      if self.open is not None and self.open.kind == "colour":
        self._forget()
      self.fresh |= word in ("another", "a second", "a third")
    elif tag == "size":
      self.size = word
    elif tag == "hue":
      self._say_hue(word)
    elif tag == "number":
      self.number = lexicon.NUMBER_WORDS[word]
    elif tag in ("shape", "foreign"):
      self._mention(self._named(word))
    elif tag == "object" and self.hue is not None:
      self._mention(self._named(None))
    elif tag in ("it", "they"):
      self._mention(self.draft.last[:1] if tag == "it" else self.draft.last)
    else:
      if tag in ("ground", "setting", "tone"):
        self.hue = None  # the wall's, not a thing's
      self._forget()
      self._other(tag, word)

  def _other(self, tag: str, word: str) -> None:
    if tag in ("and", "comma"):
      self._end_place()
      self.listing = not self.acted
    elif tag == "not":
      self.negated = True
    elif word in ("is", "are", "was"):
      self.predicate = bool(self.subjects)
    elif tag in ("way", "middle"):
      self._say_way("middle" if tag == "middle" else word)
    elif tag == "still" or (tag == "move" and self.negated):
      self._end_place()
      self.open, self.negated, self.acted = None, False, True
      self.draft.still.update(self.subjects)
    elif tag in VERBS or tag in MEETINGS:
      self._verb(tag)
    elif tag in ("ground", "setting", "tone"):
      self._end_place()
      self.spot, self.open = [], None

  def _say_hue(self, word: str) -> None:
    event = self.open
    if event is not None and event.kind == "colour":
      if self.before == "from":
        for who in event.who:
          self.draft.describe(who, word, None)
        return
      if event.hue is None or self.before in ("to", "into"):
        event.hue = word
        return
    self.hue = word

  def _named(self, shape: str | None) -> list[int]:
    thing = Thing(shape, self.hue, self.size)
    ids = [self.draft.name(thing, self.fresh)]
    ids += [self.draft.name(thing, True) for _ in range((self.number or 1) - 1)]
    self._forget()
    return ids

  def _mention(self, ids: list[int]) -> None:
    if not ids:
      return
    event = self.open
    if event is not None and event.kind in MEETINGS and event.whom is None:
      if ids[0] not in event.who:
        event.whom = ids[0]
        self.spot = []
        return
    self._end_place()
    self.subjects = self.subjects + ids if self.listing else list(ids)
    self.open, self.listing, self.negated = None, False, False
    self.predicate = self.acted = False
    self.spot = list(ids)

  def _verb(self, tag: str) -> None:
    self._end_place()
    self.listing, self.acted = False, True
    if self.negated or not self.subjects:
      self.open, self.negated = None, False
      return
    if tag == "turn" and self._turned_back():
      return
    kind, _, way = tag.partition(" ")
    event = _Event(kind, list(self.subjects), [way] if way else [])
    if tag == "collided":
      event = _Event("collide", list(self.subjects), passive=True)
    self.open = event
    self.events.append(event)

  def _turned_back(self) -> bool:
    """Whether a way back belongs to what was just told."""
    if not self.events or self.events[-1].who != self.subjects:
      return False
    event = self.events[-1]
    if event.kind == "move":
      event.kind = "turn"
    self.open = None
    return event.kind in ("turn", "collide")

  def _say_way(self, word: str) -> None:
    if self.open is None:
      self.place.append(word)
    elif word != "middle":
      self.open.ways.append(word)

  def _end_place(self) -> None:
    zone = _zone(self.place)
    self.place = []
    if zone is not None:
      for who in self.spot:
        self.draft.put(who, zone)

  def _note(self, event: _Event) -> None:
    who, whom = event.who, event.whom
    if event.kind == "collide" and whom is None and len(who) == 2:
      who, whom = who[:1], who[1]  # "A and B collide"
    where = _where(event)
    for index in who:
      pair = (whom, index) if event.passive else (index, whom)
      if pair[0] is None:
        continue
      self.draft.events.append(Event(event.kind, pair[0], where, pair[1]))
      if event.kind == "colour" and where is not None:
        self.draft.colours[index].add(where)


def _zone(words: list[str]) -> str | None:
  """Words of place -> a zone's name; up stands for top here."""
  if not words:
    return None
  names = {"up": "top", "down": "bottom"}
  row = next((names[word] for word in words if word in names), "middle")
  column = next((w for w in words if w in ("left", "right")), "middle")
  return "middle" if row == column else f"{row} {column}"


def _where(event: _Event) -> str | None:
  if event.kind == "colour":
    return event.hue
  if event.kind not in ("move", "turn", "enter", "leave"):
    return None
  rows = [way for way in event.ways if way in ("up", "down")][:1]
  columns = [way for way in event.ways if way in ("left", "right")][:1]
  if event.kind in ("enter", "leave"):
    rows = [{"up": "top", "down": "bottom"}[row] for row in rows]
  return " ".join(rows + columns) or None


OPPOSITE = {"left": "right", "right": "left", "top": "down", "bottom": "up"}
OUTWARD = {"left": "left", "right": "right", "top": "up", "bottom": "down"}


def _told(events: list[_Event]) -> list[_Event]:
  """Events of a sentence without moves that are part of another event."""
  kept = []
  for index, event in enumerate(events):
    before = events[index - 1] if index else None
    after = events[index + 1] if index + 1 < len(events) else None
    if event.kind == "move" and (
      _part_of_last(event, before) or _part_of_next(event, after)
    ):
      continue
    kept.append(event)
  return kept


def _part_of_last(move: _Event, last: _Event | None) -> bool:
  """`enters from the left and moves right`, `hits B and B moves away`."""
  if last is None:
    return False
  if last.kind == "collide" and [last.whom] == move.who:
    return True
  if last.kind != "enter" or last.who != move.who:
    return False
  return _where(move) in (None, OPPOSITE.get(_where(last) or ""))


def _part_of_next(move: _Event, after: _Event | None) -> bool:
  """`moves up until it hits B`, `moves left and leaves through the left`."""
  if after is None or after.who != move.who or after.kind == "move":
    return False
  if _where(move) is None or after.kind in MEETINGS:
    return True
  side = _where(after) or ""
  return after.kind == "leave" and _where(move) == OUTWARD.get(side)
