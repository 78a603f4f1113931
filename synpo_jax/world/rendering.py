"""Renders scenes of the synthetic world to real H.264 clips.

A clip is 96 x 96 pixels by default, 4 to 8 seconds at 6 to 12 frames per
second. The same seed gives the same pixels, and with the same build of
libx264 the same bytes.

  (`synpo_jax.world` writes whole folders of them.)
"""

import functools
import hashlib
import math
import os
import platform
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8

from synpo_jax.world.scene import (
  COLOURS,
  RADIUS,
  Scene,
  Track,
  camera_at,
  to_json,
  to_screen,
)

WORLD = "synpo-shapes-3"  # raise it when a scene gives other pixels
EDGE = 96  # pixels, both ways
GRAIN = 192  # pixels per world unit in the painted backgrounds
REACH = 0.4  # how far a background goes on beyond the first view, each side
LAMP = 0.4  # of its light a wall loses from one end to the other
OUTLINE = 0.014  # width of the line around every thing, in picture widths
TONES = {"grey": (178, 178, 182), "brown": (188, 152, 116)}
LIGHTS = {"grey": (226, 226, 230), "brown": (232, 210, 182)}
# One thread, and no wide vectors: AVX-512 gave other bytes for the same frames
# about once in a thousand clips, and SSE2 gives those of plain C.
ASM = "SSE2" if platform.machine() in ("x86_64", "AMD64") else "0"
CODEC = {
  "preset": "veryfast",
  "crf": "12",
  "threads": "1",
  "bf": "0",
  "x264-params": f"asm={ASM}",
}


@functools.lru_cache(maxsize=16)
def backdrop(kind: str, tone: str) -> UInt8[np.ndarray, "Y X 3"]:
  """The painted world behind the things, `GRAIN` pixels to the unit."""
  axis = (np.arange(round((1 + 2 * REACH) * GRAIN)) + 0.5) / GRAIN - REACH
  x, y = np.meshgrid(axis, axis)
  paint = {"field": _field, "night": _night}
  if kind in paint:
    return paint[kind](x, y, tone).astype(np.uint8)
  picture = np.empty((*x.shape, 3))
  picture[:] = TONES[tone]
  if kind == "stripes":
    picture[(x % 0.2) < 0.1] = LIGHTS[tone]
  elif kind == "checks":
    picture[((x // 0.125 + y // 0.125) % 2) == 0] = LIGHTS[tone]
  return (picture * _light(x)).astype(np.uint8)


def _light(x) -> Float[np.ndarray, "Y X 1"]:
  """A lamp on the left: how bright a wall is there, which shows a pan."""
  return 1.0 - LAMP * ((x + REACH) / (1 + 2 * REACH))[..., None]


def _field(x, y, tone: str) -> Float[np.ndarray, "Y X 3"]:
  """Grass below, sky above, trees; a sun, or clouds before a grey sky."""
  sunny = tone == "sunny"
  picture = np.empty((*x.shape, 3))
  picture[:] = (150, 205, 240) if sunny else (182, 188, 196)
  if sunny:
    picture[np.hypot(x - 0.72, y - 0.12) < 0.1] = (255, 240, 150)
  else:
    for cx, cy in ((-0.2, 0.16), (0.25, 0.1), (0.7, 0.18), (1.2, 0.12)):
      cloud = np.hypot((x - cx) / 2.2, y - cy) < 0.075
      picture[cloud] = (240, 242, 245)
  for cx in (-0.28, 0.1, 0.48, 0.86, 1.24):
    picture[(np.abs(x - cx) < 0.02) & (y > 0.4) & (y < 0.56)] = (120, 95, 70)
    picture[np.hypot(x - cx, y - 0.4) < 0.07] = (96, 140, 92)
  ground = y > 0.55
  picture[ground] = (150, 190, 120)
  picture[ground & ((x * 0.7 + y) % 0.22 < 0.04)] = (132, 174, 104)
  return picture


def _night(x, y, tone: str) -> Float[np.ndarray, "Y X 3"]:
  """A dark sky full of stars, with or without a moon, above dark hills."""
  picture = np.empty((*x.shape, 3))
  picture[:] = (34, 34, 74)
  rng = np.random.default_rng(7)
  for cx, cy in rng.uniform((-REACH, -REACH), (1 + REACH, 0.8), (130, 2)):
    picture[np.hypot(x - cx, y - cy) < 0.011] = (200, 200, 225)
  if tone == "moon":
    moon = np.hypot(x - 0.3, y - 0.16) < 0.12
    moon &= np.hypot(x - 0.36, y - 0.13) > 0.1
    picture[moon] = (245, 240, 205)
  hills = y > 0.84 + 0.05 * np.sin(9 * x)
  picture[hills] = (22, 44, 46)
  return picture


def frames(scene: Scene, edge: int = EDGE) -> UInt8[np.ndarray, "F Y X 3"]:
  """All pictures of a clip."""
  moments = np.linspace(0.0, 1.0, scene.frames)
  return np.stack([picture(scene, float(t), edge) for t in moments])


def picture(
  scene: Scene, t: float, edge: int = EDGE
) -> UInt8[np.ndarray, "Y X 3"]:
  """The clip at moment t (0 to 1), as the camera sees it."""
  camera = scene.facts.camera
  canvas = _view(scene, t, edge)
  _, scale = camera_at(camera, t)
  for index in scene.layers:
    track, thing = scene.tracks[index], scene.facts.things[index]
    if track.present[0] <= t <= track.present[1]:
      x, y = to_screen(camera, t, *place(track, t))
      radius = RADIUS[thing.size] * scale
      _draw(canvas, thing.shape, colour(track, t), x, y, radius)
  return np.rint(canvas).astype(np.uint8)


def place(track: Track, t: float) -> tuple[float, float]:
  """World place of a thing at moment t."""
  times, xs, ys = zip(*track.knots, strict=True)
  return float(np.interp(t, times, xs)), float(np.interp(t, times, ys))


def colour(track: Track, t: float) -> str:
  """Colour of a thing at moment t."""
  return [name for start, name in track.colours if start <= t][-1]


def _view(scene: Scene, t: float, edge: int) -> Float[np.ndarray, "Y X 3"]:
  facts = scene.facts
  painted = backdrop(facts.background, facts.tone)
  screen = (np.arange(edge) + 0.5) / edge
  centre, scale = camera_at(facts.camera, t)
  column = ((screen - 0.5) / scale + centre + REACH) * GRAIN
  row = ((screen - 0.5) / scale + 0.5 + REACH) * GRAIN
  return painted[row.astype(int)[:, None], column.astype(int)].astype(float)


def _draw(canvas, shape: str, name: str, x, y, radius) -> None:
  """Paints one thing, edges smoothed over a pixel, with its outline."""
  edge = len(canvas)
  low = [max(0, math.floor((c - radius) * edge) - 1) for c in (x, y)]
  high = [min(edge, math.ceil((c + radius) * edge) + 1) for c in (x, y)]
  if low[0] >= high[0] or low[1] >= high[1]:
    return
  across = (np.arange(low[0], high[0]) + 0.5) / edge - x
  down = (np.arange(low[1], high[1]) + 0.5) / edge - y
  far = OUTSIDE[shape](across[None, :] / radius, down[:, None] / radius)
  far = far * radius * edge  # pixels outside the shape's line
  width = OUTLINE * edge
  body = np.clip(0.5 - far, 0.0, 1.0)[..., None]
  inner = np.clip(0.5 - (far + width), 0.0, 1.0)[..., None]
  line = (240, 240, 240) if name == "black" else (25, 25, 25)
  paint = inner * COLOURS[name] + (1.0 - inner) * np.array(line)
  patch = canvas[low[1] : high[1], low[0] : high[0]]
  patch += body * (paint - patch)


def _star(x, y):
  """Signed distance to a five-pointed star of radius 1, nearly."""
  angle = np.arctan2(x, -y)
  sector = 2 * np.pi / 5
  angle = np.abs((angle + sector / 2) % sector - sector / 2)
  radius = np.hypot(x, y)
  inner = 0.46
  tip, notch = (1.0, 0.0), (math.cos(0.2 * math.pi), math.sin(0.2 * math.pi))
  edge_x, edge_y = inner * notch[0] - tip[0], inner * notch[1] - tip[1]
  length = math.hypot(edge_x, edge_y)
  px, py = radius * np.cos(angle) - tip[0], radius * np.sin(angle) - tip[1]
  return (edge_x * py - edge_y * px) / -length


# Distance outside the shape (negative inside) at points of the unit disc.
OUTSIDE = {
  "circle": lambda x, y: np.hypot(x, y) - 1.0,
  "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.86,
  "triangle": lambda x, y: np.maximum(
    0.894 * np.abs(x) - 0.447 * (y + 1.0), y - 0.86
  ),
  "star": _star,
  "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.7) - 0.3,
}


def encode(path: str | Path, scene: Scene, edge: int = EDGE) -> None:
  """Writes the clip as H.264 in mp4; the file appears only when whole."""
  part = Path(path).with_suffix(".part.mp4")
  with av.open(str(part), "w") as container:
    container.metadata["comment"] = fingerprint(scene)
    stream = container.add_stream("libx264", rate=scene.fps, options=CODEC)
    stream.width = stream.height = edge
    stream.pix_fmt = "yuv420p"
    stream.time_base = Fraction(1, scene.fps)
    for image in frames(scene, edge):
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  os.replace(part, path)


def fingerprint(scene: Scene) -> str:
  """Names a scene by its content; every clip carries it in its metadata."""
  digest = hashlib.sha256(to_json(scene).encode())
  return f"{WORLD}:{digest.hexdigest()[:16]}"


def is_rendered(path: str | Path, scene: Scene) -> bool:
  """Whether the file is there and shows exactly this scene."""
  if not Path(path).exists():
    return False
  try:
    with av.open(str(path), options={"format_whitelist": "mov"}) as container:
      return container.metadata.get("comment") == fingerprint(scene)
  except (av.error.FFmpegError, UnicodeDecodeError):  # damaged
    return False
