"""What has been read of a caption so far, while it is being read."""

import dataclasses

from synpo_jax.world.scene import Event, Facts, Thing


@dataclasses.dataclass
class Draft:
  """What has been read so far."""

  background: str | None = None
  tone: str | None = None
  camera: str | None = None
  things: list[Thing] = dataclasses.field(default_factory=list)
  colours: list[set[str]] = dataclasses.field(default_factory=list)
  events: list[Event] = dataclasses.field(default_factory=list)
  still: set[int] = dataclasses.field(default_factory=set)
  last: list[int] = dataclasses.field(default_factory=list)  # for `it`

  def facts(self) -> Facts:
    return Facts(
      self.background,
      self.tone,
      self.camera,
      tuple(self.things),
      tuple(self.events),
      tuple(sorted(self.still)),
    )

  def say_camera(self, camera: str) -> None:
    known = self.camera or camera
    self.camera = camera if known == camera else f"{known} and {camera}"

  def say_ground(self, kind: str, tone: str | None) -> None:
    if self.background is None:
      self.background, self.tone = kind, tone
    elif self.background == kind:
      self.tone = self.tone or tone
    else:
      self.background = f"{self.background} and {kind}"

  def name(self, thing: Thing, fresh: bool) -> int:
    """Index of the thing meant, which may be a new one."""
    if not fresh:
      for index, known in enumerate(self.things):
        if self._same(index, known, thing):
          self.describe(index, thing.colour, thing.size)
          return index
    self.things.append(thing)
    self.colours.append({thing.colour} - {None})
    return len(self.things) - 1

  def _same(self, index: int, known: Thing, thing: Thing) -> bool:
    if thing.shape is not None and known.shape != thing.shape:
      return False
    if thing.shape is None and thing.colour is None:
      return False
    seen = self.colours[index]
    return thing.colour is None or not seen or thing.colour in seen

  def describe(self, who: int, colour: str | None, size: str | None) -> None:
    """Fills in a thing's looks where they are still open."""
    thing = self.things[who]
    if thing.colour is None and colour is not None:
      self.things[who] = thing = dataclasses.replace(thing, colour=colour)
      self.colours[who].add(colour)
    if thing.size is None:
      self.things[who] = dataclasses.replace(thing, size=size)

  def put(self, who: int, zone: str) -> None:
    """Notes where a thing is at the start, if that is still open."""
    acted = any(event.who == who for event in self.events)
    if self.things[who].zone is None and not acted:
      self.things[who] = dataclasses.replace(self.things[who], zone=zone)
