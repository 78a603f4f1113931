"""A scene made by hand, and a caption that tells all of it."""

from synpo_jax.world.scene import Event, Facts, Scene, Thing

FACTS = Facts(
  "stripes",
  "grey",
  "pan right",
  (
    Thing("circle", "red", "large", "top left"),
    Thing("star", "blue", "small", "middle right"),
    Thing("ring", "white", "small", None),
  ),
  (
    Event("turn", 0, "down"),
    Event("enter", 2, "bottom"),
    Event("collide", 1, None, 2),
    Event("colour", 1, "green"),
  ),
)
SCENE = Scene("hand", 0, 8, 40, FACTS, (), (), ())
TOLD = (
  "The background is a wall with grey stripes. The camera pans to the right."
  " At first there is a large red circle at the top left and a small blue star"
  " on the right. First, the red circle moves down and then turns back. Next, a"
  " small white ring enters from the bottom. Then the blue star hits the white"
  " ring and bounces back. Finally, the blue star turns green."
)
