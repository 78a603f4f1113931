"""What words mean to the reader of captions: one ordered table of patterns.

Wider than `wording`: a captioner that was trained elsewhere, or a person,
says the same things in other words. The first pattern that matches at a place
wins, so longer phrases come first.
"""

import re

from synpo_jax.world import scene

COLOUR_WORDS = {
  **{name: name for name in scene.COLOURS},
  **{"crimson": "red", "scarlet": "red", "golden": "yellow", "gold": "yellow"},
  **{"violet": "purple", "gray": "grey", "grey": "grey", "brown": "brown"},
  **{"beige": "brown", "tan": "brown", "pink": "pink", "cyan": "cyan"},
}
SHAPE_WORDS = {
  **{name: name for name in scene.SHAPES},
  **{"disc": "circle", "disk": "circle", "dot": "circle", "ball": "circle"},
  **{"box": "square", "block": "square", "cube": "square"},
  **{"hoop": "ring", "donut": "ring", "doughnut": "ring"},
}
# Things of no clip of this world: naming one is inventing it.
FOREIGN = (
  "cross rectangle oval ellipse diamond heart hexagon pentagon octagon arrow"
  " cube cylinder pyramid sphere dog cat bird horse fish animal man woman boy"
  " girl child person people crowd hand face car truck bus bike bicycle train"
  " plane boat house building door window road table chair phone book flower"
  " apple banana cup bottle robot balloon butterfly"
).split()
SIZE_WORDS = {
  **{"large": "large", "big": "large", "huge": "large", "larger": "large"},
  **{"small": "small", "little": "small", "tiny": "small"},
  "smaller": "small",
}
NUMBER_WORDS = {"two": 2, "three": 3, "four": 4}
_GOES = (
  "moves? moving moved glides? gliding travels? traveling travelling drifts?"
  " drifting slides? sliding rolls? floats? heads? shifts? flies goes going"
  " comes? coming runs? slips? slipping steps? continues?"
)


def _any(words) -> str:
  return "|".join(words)


_COLOUR = _any(COLOUR_WORDS)
_WAY = r"(?:the )?(?:left|right|top|bottom)"
_OUT = r"(?:the )?(?:view|frame|picture|screen|scene|sight|clip)"
_GO = f"(?:{_any(_GOES.split())})"

# (tag, pattern). A tag with a colon carries its value.
PATTERNS = (
  ("stop", r"[.!?;\n]+"),
  ("comma", r","),
  # The camera.
  (
    "camera",
    r"camera|(?:the )?(?:view|shot|viewpoint)(?= (?:slowly |is |stays"
    r" |does |do )?(?:not )?(?:pan|zoom|fix|static|still|move))",
  ),
  ("pan", r"pan(?:s|ned|ning)?|sweeps?"),
  ("zoom", r"zoom(?:s|ed|ing)?|moves? closer"),
  ("fixed", r"fixed|static|steady|locked|motionless|stationary|unmoving"),
  # Backgrounds; `stars` is the night's, `star` a thing.
  ("ground:stripes", r"strip(?:es|ed|e|y)"),
  ("ground:checks", r"check(?:s|ed|ers|ered|erboard)?|chequered|chessboard"),
  ("ground:field", r"grassy|grass|fields?|meadow|lawn"),
  ("ground:night", r"night(?:time)?"),
  ("ground:plain", r"plain|uniform|solid"),
  ("tone:sunny", r"sunny|sun|sunlit|clear blue"),
  ("tone:cloudy", r"cloudy|clouds?|overcast"),
  ("no moon", r"(?:no|without(?: a| the)?) moon|moonless"),
  ("tone:moon", r"moon(?:lit)?"),
  ("tone:stars", r"stars|starry"),
  ("setting", r"walls?|sky|background|backdrop|hills?|trees?"),
  # Events.
  ("not", r"not|never|no longer|without"),
  ("collided", r"(?:is|gets|was) (?:hit|bumped|struck) by"),
  (
    "hide",
    r"hides?(?: itself)?(?: behind)?|hiding(?: behind)?|"
    r"(?:is|gets|becomes) (?:hidden|covered)(?: by| behind)?|"
    rf"(?:{_GO}|disappears?|vanish(?:es)?)(?: to the (?:left|right))?"
    r" (?:in |in )?behind",
  ),
  (
    "aside",
    r"bounces?(?: back| off| away)?|bouncing(?: back| off)?|"
    r"rebounds?|(?:stays?|remains?|is) (?:hidden|visible|in view)|"
    r"to begin|to see|in front of|"
    r"at (?:the )?(?:very )?(?:start|beginning|end|first|last)|in the end|"
    r"opens? with|starts? with|in view|there is|there are|is there",
  ),
  (
    "turn",
    r"turns? (?:back|around|round)|turning (?:back|around)|"
    rf"{_GO} back(?: again)?|returns?|returning|reverses?(?: direction)?|"
    r"back again",
  ),
  (
    "colour",
    r"changes?(?: its| their)? colou?r|changing(?: its)? colou?r|"
    rf"turn(?:s|ing|ed)?(?: to)?(?= (?:{_COLOUR}))|becom(?:es?|ing)|"
    r"chang(?:es?|ing)(?= (?:from|to|into))",
  ),
  (
    "collide",
    r"collid(?:es?|ing)|bumps?(?: into)?|bumping(?: into)?|hits?|"
    r"crash(?:es)?(?: into)?|strikes?|knocks?(?: into)?|"
    r"(?:runs?|slams?|moves?) into(?! (?:the )?(?:view|frame|picture|scene))",
  ),
  (
    "leave",
    r"leav(?:es?|ing)|exits?|exiting|departs?|has left|"
    rf"{_GO} (?:out|off)(?: of {_OUT})?|disappears?|vanish(?:es)?",
  ),
  (
    "enter",
    r"enters?|entering|appears?|arrives?|arriving|"
    rf"com(?:es?|ing) in(?! front)|{_GO} in(?:(?= from)|to {_OUT})|"
    r"pops? (?:up|in)",
  ),
  ("move up", r"rises?|rising|climbs?|ascends?"),
  ("move down", r"falls?|falling|drops?|sinks?|descends?"),
  ("move", _GO),
  ("still", r"stays?|staying|remains?|still|at rest|stands? still"),
  # Places and ways.
  ("way:right", rf"from {_WAY.replace('|right', '')} to (?:the )?right"),
  ("way:left", rf"from {_WAY.replace('left|', '')} to (?:the )?left"),
  ("way:down", r"from (?:the )?top to (?:the )?bottom"),
  ("way:up", r"from (?:the )?bottom to (?:the )?top"),
  ("way:left", r"left(?:wards?)?|left-hand"),
  ("way:right", r"right(?:wards?)?|right-hand"),
  ("way:up", r"up(?:wards?)?|top|upper"),
  ("way:down", r"down(?:wards?)?|bottom|lower"),
  ("middle", r"middle|cent(?:er|re)"),
  # Names.
  ("it", r"it|itself"),
  ("they", r"they|both"),
  ("new", r"an?(?: new)?|another|a second|a third"),
  ("the", r"the|its|their|this"),
  ("and", r"and"),
  ("out", r"out|away"),
  ("in", r"in|closer"),
)


def _compiled() -> re.Pattern:
  parts = [
    rf"(?P<p{index}>{pattern})"
    if tag in ("stop", "comma")
    else rf"(?P<p{index}>\b(?:{pattern})\b)"
    for index, (tag, pattern) in enumerate(PATTERNS)
  ]
  nouns = [
    rf"\b(?P<shape>{_any(SHAPE_WORDS)})s?\b",
    rf"\b(?P<foreign>{_any(FOREIGN)})s?\b",
    rf"\b(?P<hue>{_COLOUR})\b",
    rf"\b(?P<size>{_any(SIZE_WORDS)})\b",
    rf"\b(?P<number>{_any(NUMBER_WORDS)})\b",
    r"\b(?P<object>objects?|things?|shapes?|figures?|ones?)\b",
  ]
  # Patterns before nouns: `stars` must stay the night's.
  return re.compile("|".join([*parts, *nouns, r"(?P<other>\w+)"]))


Token = tuple[str, str]
_SCANNER = _compiled()


def scan(text: str) -> list[Token]:
  """Lower-case text -> (tag, value or the words themselves), in order."""
  tokens = []
  for match in _SCANNER.finditer(text):
    name = match.lastgroup
    if name is None:
      continue
    word = match.group(name)
    if name.startswith("p") and name[1:].isdigit():
      tag, _, value = PATTERNS[int(name[1:])][0].partition(":")
      tokens.append((tag, value or word))
    elif name == "shape":
      tokens.append((name, SHAPE_WORDS[word]))
    elif name == "hue":
      tokens.append((name, COLOUR_WORDS[word]))
    elif name == "size":
      tokens.append((name, SIZE_WORDS[word]))
    else:
      tokens.append((name, word))
  return tokens
