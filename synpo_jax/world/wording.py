"""The words of the synthetic world: every way of saying every fact.

Slots: {a} a thing met for the first time, {s} a thing met before, {o} the
other thing of an event, {way} a direction, {side} an edge of the picture,
{colour} a colour, {place} a background.
"""

PLACES = {
  ("plain", "grey"): "a plain grey wall",
  ("plain", "brown"): "a plain brown wall",
  ("stripes", "grey"): "a wall with grey stripes",
  ("stripes", "brown"): "a wall with brown stripes",
  ("checks", "grey"): "a wall with grey checks",
  ("checks", "brown"): "a wall with brown checks",
  ("field", "sunny"): "a grassy field under a sunny sky",
  ("field", "cloudy"): "a grassy field under a cloudy sky",
  ("night", "moon"): "a dark night sky with a moon",
  ("night", "stars"): "a dark night sky with only stars",
}
BACKGROUND = (
  "The background is {place}.",
  "The clip is set before {place}.",
  "Behind everything is {place}.",
)
CAMERA = {
  "static": (
    "The camera stays still.",
    "The camera does not move.",
    "The view is fixed.",
  ),
  "pan left": (
    "The camera pans to the left.",
    "The camera slowly pans left.",
    "The view pans to the left.",
  ),
  "pan right": (
    "The camera pans to the right.",
    "The camera slowly pans right.",
    "The view pans to the right.",
  ),
  "zoom in": (
    "The camera zooms in.",
    "The camera slowly zooms in.",
    "The view zooms in on the scene.",
  ),
  "zoom out": (
    "The camera zooms out.",
    "The camera slowly zooms out.",
    "The view zooms out from the scene.",
  ),
}
OPENING = ("At the start there is", "At first there is", "The clip opens with")
EMPTY = (
  "At the start the scene is empty.",
  "At first there is nothing to see.",
)
ZONES = {
  "middle": "in the middle",
  "top left": "at the top left",
  "top middle": "at the top",
  "top right": "at the top right",
  "middle left": "on the left",
  "middle right": "on the right",
  "bottom left": "at the bottom left",
  "bottom middle": "at the bottom",
  "bottom right": "at the bottom right",
}
WAYS = {
  "left": "to the left",
  "right": "to the right",
  "up": "up",
  "down": "down",
  "up left": "up and to the left",
  "up right": "up and to the right",
  "down left": "down and to the left",
  "down right": "down and to the right",
}
SIDES = {
  "left": "the left",
  "right": "the right",
  "top": "the top",
  "bottom": "the bottom",
}
EVENTS = {
  "move": ("{s} moves {way}", "{s} glides {way}", "{s} travels {way}"),
  "enter": (
    "{a} enters from {side}",
    "{a} comes in from {side}",
    "{a} appears from {side}",
  ),
  "leave": (
    "{s} leaves through {side}",
    "{s} exits through {side}",
    "{s} goes out through {side}",
  ),
  "turn": (
    "{s} moves {way} and then turns back",
    "{s} glides {way}, turns around and comes back",
    "{s} travels {way} and then returns",
  ),
  "colour": (
    "{s} turns {colour}",
    "{s} becomes {colour}",
    "{s} changes its colour to {colour}",
  ),
  "collide": (
    "{s} collides with {o} and bounces back",
    "{s} bumps into {o} and bounces off",
    "{s} hits {o} and bounces back",
  ),
  "hide": (
    "{s} hides behind {o}",
    "{s} slips behind {o}",
    "{s} goes behind {o} and stays hidden",
  ),
}
FIRST = ("First,", "To begin,")
LATER = ("Then", "Next,", "After that,")
LAST = ("Finally,", "In the end,")
ONLY = ("Then", "During the clip,")
STILL = ("stays where it is", "does not move at all", "stays still")
STILL_MANY = ("stay where they are", "do not move at all", "stay still")
SHORT = (
  "{a} {does} in front of {place}.",
  "In front of {place}, {a} {does}.",
)
MAIN = ("The main object is {a}.", "The clip is mainly about {a}.")
MAIN_START = ("It starts {zone}.", "At first it is {zone}.")
MAIN_LATE = ("At first it is not in view.", "It is not there at the start.")
MAIN_STILL = ("It stays where it is.", "It does not move at all.")
