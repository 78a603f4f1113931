"""Small video files for tests; every frame shows its own number."""

from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

BITS = (3, 4)  # cells, row by row; the first is the highest bit


def stamp(number, height=48, width=64):
  """Picture whose black and white cells spell `number`, uint8 [Y, X, 3]."""
  bits = np.array(list(f"{number:012b}")).astype(np.uint8).reshape(BITS)
  rows = np.arange(height) * BITS[0] // height
  columns = np.arange(width) * BITS[1] // width
  grey = 16 + 220 * bits[rows][:, columns]
  return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def number(picture):
  """The number that a picture spells, however it was compressed."""
  bits = []
  for band in np.array_split(picture.mean(axis=2), BITS[0], axis=0):
    for cell in np.array_split(band, BITS[1], axis=1):
      bits.append(str(int(np.median(cell) > 126)))
  return int("".join(bits), 2)


def numbers(pictures):
  """The numbers of all pictures."""
  return [number(picture) for picture in pictures]


def write(
  path,
  pictures,
  rate=25,
  codec="libx264",
  pixels="yuv420p",
  ticks=None,
  rotation=0,
  codec_options=None,
  options=None,
  pixel_shape=None,
):
  """Encodes pictures; `ticks` are their times in 1/1000 s, else by rate.

  pixel_shape: width of a pixel by its height, where it is not square.
  """
  rate = Fraction(rate)
  tick = Fraction(1, 1000) if ticks else 1 / rate
  with av.open(str(path), "w", options=options or {}) as file:
    stream = file.add_stream(codec, rate=rate, options=codec_options or {})
    stream.pix_fmt, first = pixels, True
    for i, picture in enumerate(pictures):
      if first:
        stream.height, stream.width = picture.shape[:2]
        stream.codec_context.time_base = tick
        if pixel_shape is not None:
          stream.codec_context.sample_aspect_ratio = pixel_shape
        if rotation:
          stream.set_display_rotation(rotation)
        first = False
      frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
      frame.pts = ticks[i] if ticks else i
      frame.time_base = tick
      file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
  return path


def stamped(path, count, *, size=(48, 64), **settings):
  """A clip of `count` numbered frames."""
  return write(path, (stamp(i, *size) for i in range(count)), **settings)


def changing(path, count=5):
  """A clip of `count` frames of 48x64, and as many of 96x128 behind them."""
  how = dict(codec="mjpeg", pixels="yuvj420p")
  time, parts = (
    0,
    [
      stamped(path.with_suffix(f".{rows}.mkv"), count, size=size, **how)
      for rows, size in ((48, (48, 64)), (96, (96, 128)))
    ],
  )
  with av.open(str(path), "w") as file:
    stream = file.add_stream("mjpeg", rate=25)
    stream.pix_fmt, stream.height, stream.width = "yuvj420p", 48, 64
    for part in parts:
      with av.open(str(part)) as read:
        for packet in read.demux(video=0):
          if packet.size:
            packet.pts = packet.dts = time
            packet.stream = stream
            file.mux(packet)
            time += 40
  return path


def album(path):
  """A second of sound with the picture of a cover attached."""
  with av.open(str(path), "w") as file:
    sound = file.add_stream("aac", rate=16000)
    cover = file.add_stream("mjpeg", rate=1)
    cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
    cover.disposition = Disposition.attached_pic
    file.mux(sound.encode(_silence(1)))
    file.mux(sound.encode(None))
    picture = av.VideoFrame.from_ndarray(stamp(1), format="rgb24")
    picture.pts = 0
    file.mux(cover.encode(picture))
    file.mux(cover.encode(None))
  return path


def _silence(seconds):
  frame = av.AudioFrame.from_ndarray(
    np.zeros((1, 16000 * seconds), np.float32), format="fltp", layout="mono"
  )
  frame.sample_rate = 16000
  return frame


def tone(path, seconds=1):
  """A file with sound and no picture."""
  with av.open(str(path), "w") as file:
    stream = file.add_stream("aac", rate=16000)
    file.mux(stream.encode(_silence(seconds)))
    file.mux(stream.encode(None))
  return path


def decoded(path) -> np.ndarray:
  """The frames [N, H, W, 3], uint8, of a clip."""
  with av.open(str(path)) as container:
    frames = container.decode(video=0)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
