"""What training gained, in a sentence and clip by clip, beside its controls."""

from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from synpo_jax.world import marks, scores
from synpo_jax.world.scene import Scene

COLOURS = {marks.RIGHT: "green", marks.WRONG: "red", None: ""}


class Captions(NamedTuple):
  """Greedy captions {video: text} of the same clips.

  controls: by name, what the untrained captioner gives when it is nudged
  (`study.controls`). scenes: by clip id.
  """

  scenes: Mapping[str, Scene]
  before: Mapping[str, str]
  after: Mapping[str, str]
  controls: Mapping[str, Mapping[str, str]]


def summaries(told: Captions) -> dict[str, dict]:
  """Means and errors by column: each control's, then those of the change."""
  before, after, controls = _rows(told)
  found = {name: scores.summary(rows) for name, rows in controls.items()}
  return found | {"change": scores.differences(before, after)}


def _rows(told: Captions):
  before, after = (
    scores.rows(texts, told.scenes) for texts in (told.before, told.after)
  )
  controls = {
    name: scores.rows(texts, told.scenes)
    for name, texts in told.controls.items()
  }
  return before, after, controls


def sentence(told: Captions) -> str:
  """What the figures say, whichever way they came out."""
  return from_rows(*_rows(told))


def from_rows(
  before: Mapping[str, scores.Row],
  after: Mapping[str, scores.Row],
  controls: Mapping[str, Mapping[str, scores.Row]],
) -> str:
  """As `sentence`, of scores by clip.

  A difference is one when it is beyond two of its standard errors.
  """
  change = scores.differences(before, after)
  was, now = (scores.summary(rows)["f1"] for rows in (before, after))
  words = f"F1 of claims {was:.2f} -> {now:.2f} ({_told(change, 'f1')})"
  if not sign(change, "f1"):
    words += ", no change that can be told from noise"
  for key in ("precision", "hallucination"):
    way = {1: "up", -1: "down", 0: "unchanged within noise"}[sign(change, key)]
    words += f", {key} {way}"
  return f"{words}{_beside(before, after, controls, change)}."


def sign(change: Mapping, key: str) -> int:
  """1 or -1 for a change beyond two standard errors, else 0."""
  value, error = change[key], change[f"{key}_se"]
  if error is None or abs(value) <= 2 * error:
    return 0
  return 1 if value > 0 else -1


def _told(change, key) -> str:
  error = change[f"{key}_se"]
  room = "one clip alone" if error is None else f"± {error:.2f}"
  return f"{change[key]:+.2f} {room}"


def _beside(before, after, controls, change) -> str:
  """The control that gains most, and whether training gains more."""
  if not controls:
    return "; no controls were made"
  gains = {
    name: scores.differences(before, rows) for name, rows in controls.items()
  }
  best = max(gains, key=lambda name: gains[name]["f1"])
  given = f"{best}, gives {_told(gains[best], 'f1')}"
  over = scores.differences(controls[best], after)
  way = sign(over, "f1")
  if way > 0:
    more = f"training {_told(over, 'f1')} more"
    return f"; the best control, {given}, {more}"
  if way < 0:
    return f"; the control {given}, which is more than training"
  if sign(change, "f1") > 0:
    return f"; the control {given}, as much as training within noise"
  return f"; the control {given}, no less than training within noise"


def clips(told: Captions, most: int = 3) -> list[RenderableType]:
  """The first clips: both captions in colours, and what is left out."""
  found = []
  for video in list(told.before)[:most]:
    truth = told.scenes[scores.clip_id(video)].facts
    lines = [Text(scores.clip_id(video), style="bold")]
    for title, texts in (("before", told.before), ("after", told.after)):
      lines += _caption(title, texts[video], truth)
    found.append(Group(*lines))
  return found


def _caption(title, caption, truth) -> list[Text]:
  line = Text(f"{title:>7}: ")
  for word, verdict in marks.coloured(caption, truth):
    line.append(word, style=COLOURS[verdict])
  left = marks.left_out(marks.of_caption(caption, truth))
  gone = "; ".join(left) if left else "nothing"
  return [line, Text(f"missing: {gone}", style="dim")]
