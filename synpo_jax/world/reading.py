"""Reads the facts out of a caption, in whatever words it was told.

No model is asked: the text is cut into tagged tokens (`lexicon`) and read
from left to right, a noun phrase opening a subject, a verb an event. What is
not understood is passed over; broken grammar is no obstacle.
"""

import re

from synpo_jax.world import lexicon
from synpo_jax.world.clauses import Sentence
from synpo_jax.world.draft import Draft
from synpo_jax.world.scene import Facts


def read_facts(caption: str) -> Facts:
  """What a caption says; an empty or meaningless one says nothing.

  Things are numbered in the order in which they are first named. A caption
  that contradicts itself on background or camera gets a value such as
  `field and night`, which no clip has.
  """
  draft = Draft()
  for sentence in sentences(caption):
    tokens = lexicon.scan(_in_order(sentence))
    camera, story = _parted(tokens)
    _read_camera(draft, camera)
    _read_ground(draft, story)
    Sentence(draft).read(story)
  return draft.facts()


def sentences(caption: str) -> list[str]:
  """Lower-case sentences, each once, with stuttered words said once."""
  text = re.sub(r"\s+", " ", caption.lower().replace("’", "'"))
  text = re.sub(r"\b(\w+)( \1\b)+", r"\1", text)
  parts = (part.strip() for part in re.split(r"(?<=[.!?;])\s*", text))
  return list(dict.fromkeys(part for part in parts if part))


def _in_order(sentence: str) -> str:
  """`Y after X` and `before X, Y` say Y and X in reversed order."""
  late = re.fullmatch(r"(?!after\b)(.+?),? after (?!that\b)(.+?)[.]?", sentence)
  if late:
    return f"{late[2]}, {late[1]}."
  early = re.fullmatch(r"before (.+?), (.+?)[.]?", sentence)
  if early:
    return f"{early[2]}, {early[1]}."
  return sentence


def _parted(
  tokens: list[lexicon.Token],
) -> tuple[list[lexicon.Token], list[lexicon.Token]]:
  """(what is said of the camera, the rest), clause by clause."""
  camera, story, filming = [], [], False
  for index, token in enumerate(tokens):
    tag, word = token
    if tag == "camera" or (tag in ("pan", "zoom") and not filming):
      filming = True
    elif tag in ("comma", "stop") or word in ("while", "as"):
      filming = False
    elif tag == "and" and index + 1 < len(tokens):
      filming &= tokens[index + 1][0] not in ("the", "new", "hue", "size")
    (camera if filming else story).append(token)
  return camera, story


def _read_camera(draft: Draft, tokens: list[lexicon.Token]) -> None:
  told, ways, negated, denied = [], [], False, False
  for tag, word in tokens:
    if tag in ("pan", "zoom", "move"):
      denied |= negated
      told += [] if negated else ["zoom" if tag == "zoom" else "pan"]
    elif tag in ("way", "in", "out"):
      ways.append(word if tag == "way" else "in" if tag == "in" else "out")
    elif tag in ("fixed", "still"):
      told.append("static")
    negated = tag == "not" or (negated and tag not in ("and", "comma", "stop"))
  if denied and not told:
    told = ["static"]
  wanted = {"pan": ("left", "right", "up", "down"), "zoom": ("in", "out")}
  for kind in dict.fromkeys(told):
    way = [way for way in ways if way in wanted.get(kind, ())]
    draft.say_camera(" ".join([kind, *way[:1]]))


def _read_ground(draft: "Draft", tokens: list[lexicon.Token]) -> None:
  tags = {tag for tag, _ in tokens}
  kinds = [word for tag, word in tokens if tag == "ground"]
  if "setting" in tags and not kinds and _tone_of(tokens, "plain"):
    kinds = ["plain"]
  if not kinds and any(word in ("moon", "stars") for _, word in tokens):
    kinds = ["night"]
  if kinds == ["plain"] and "setting" not in tags:
    return
  kinds = [kind for kind in kinds if kind != "plain"] or kinds
  for kind in dict.fromkeys(kinds):
    draft.say_ground(kind, _tone_of(tokens, kind))


def _tone_of(tokens: list[lexicon.Token], kind: str) -> str | None:
  tones = [word for tag, word in tokens if tag == "tone"]
  if kind == "field":
    return next((t for t in tones if t in ("sunny", "cloudy")), None)
  if kind == "night":
    night = [tone for tone in tones if tone in ("moon", "stars")]
    if any(tag == "no moon" for tag, _ in tokens):
      return "stars"
    return "moon" if "moon" in night else night[0] if night else None
  hues = [word for tag, word in tokens if tag == "hue"]
  return next((hue for hue in hues if hue in ("grey", "brown")), None)
