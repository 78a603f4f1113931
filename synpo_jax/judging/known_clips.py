"""Two clips that every judge can tell apart, told rightly and wrongly.

What a judge is tried with is made of these. They are short and plain: who
mistakes one for the other, or does not mind who did what, cannot judge.
"""

from typing import NamedTuple


class Clip(NamedTuple):
  """A clip in words, and in others."""

  told: str
  retold: str


NOTES = (  # on the parts of BENCH, in order
  "A woman in a yellow coat stands before an old man who sits on a park"
  " bench. She hands him a book.",
  "The old man opens the book and reads a page aloud. The woman in the"
  " yellow coat listens.",
  "He gives the book back to her. She walks away to the left, and he stays"
  " on the bench.",
)
BENCH = Clip(
  told="The video shows a woman in a yellow coat who walks up to an old man on"
  " a park bench and hands him a book. He opens it and reads a page aloud"
  " while she stands there and listens. Then he gives the book back to her,"
  " and she walks away to the left while he stays on the bench.",
  retold="In a park, an old man sits on a bench. A woman wearing a yellow coat"
  " passes him a book, from which he reads one page to her aloud. When he has"
  " returned it she leaves towards the left, and he remains seated.",
)
# BENCH with the people swapped: who does what is the other way round.
SWAPPED = (
  "The video shows an old man in a yellow coat who walks up to a woman"
  " on a park bench and hands her a book. She opens it and reads a page aloud"
  " while he stands there and listens. Then she gives the book back to him,"
  " and he walks away to the left while she stays on the bench."
)

KITCHEN = Clip(
  told="The video shows two cooks in white who chop onions in a bright kitchen."
  " The taller one tips them into a black pan, from which flames rise, and the"
  " shorter one laughs and steps back from the stove.",
  retold="A pair of cooks dressed in white cut up onions in a well-lit kitchen."
  " Flames shoot up as the taller of them empties the onions into a black pan;"
  " the shorter one moves away from the stove, laughing.",
)

BROKEN = (
  "the the of woman and and the picture picture of yellow of yellow of yellow"
  " of of book the and image still image the the on on and"
)
NOTHING = "Something happens in this video."
