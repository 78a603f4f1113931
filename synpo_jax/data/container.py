"""Containers and packets: counting, timing, decoding and seeking of frames.

Only containers of FORMATS are opened, which hold all that they show: not
playlists, lists of files, or patterns of pictures' names.
"""

import array
import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from jaxtyping import Int

from synpo_jax.data.limits import Budget

# FFmpeg's names of containers: one file each, which has frames of its own.
FORMATS = (
  *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "gif"),
  *("mpegvideo", "m4v", "h264", "hevc", "obu", "ivf", "mxf", "dv", "nut", "rm"),
)
# Codecs that show exactly one frame per packet and start afresh at key frames.
SEEKABLE = frozenset(
  ("h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "ffv1")
)


class Timeline(NamedTuple):
  """What the packets of a video stream say, before anything is decoded."""

  times: Int[np.ndarray, "N"]  # ascending presentation times, in ticks
  keys: Int[np.ndarray, "n"]  # positions of the key frames in `times`
  seekable: bool  # may we jump to a key frame and count on from there?
  duration: float
  promised: int


@contextlib.contextmanager
def opened(path: Path, budget: Budget):
  """The container and its video stream, as (container, stream).

  Raises ValueError for what holds no video, or frames above the limit.
  """
  with _open(path, budget) as file:
    stream = _video_stream(path, file)
    budget.check_size(*_shown_size(stream))
    stream.thread_type = "AUTO"
    if budget.pixels is not None:  # of each frame, whatever the header says
      stream.codec_context.options = {"max_pixels": str(budget.pixels)}
    yield file, stream


def _open(path: Path, budget: Budget):
  # `file:` keeps a colon in a name, or a playlist, from meaning a protocol.
  options = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(FORMATS),
  }
  try:
    return av.open(
      f"file:{path}",
      options=options,
      metadata_errors="replace",  # titles may be of any encoding
      timeout=budget.seconds,
    )
  except av.error.ExitError as error:
    raise budget.late() from error
  except av.error.ArgumentError as error:
    raise ValueError(
      f"{path}: cannot be read as video: its container is damaged, or none "
      f"of {', '.join(FORMATS)} (a playlist, a list of files and a picture are "
      "no videos)"
    ) from error


def _video_stream(path: Path, file):
  """The stream that a player would show; covers of albums are none."""
  stream = file.streams.best("video")
  if stream is None:
    raise ValueError(f"{path}: holds no video stream")
  if _is_cover(stream):
    moving = [other for other in file.streams.video if not _is_cover(other)]
    if not moving:
      raise ValueError(
        f"{path}: its only picture is attached, as the cover of an album; it "
        "holds no video"
      )
    stream = moving[0]
  if stream.codec_context is None:
    raise ValueError(f"{path}: no decoder for its video stream")
  return stream


def _is_cover(stream) -> bool:
  return bool(stream.disposition & Disposition.attached_pic)


def _shown_size(stream) -> tuple[int, int]:
  """(width, height) with square pixels."""
  context = stream.codec_context
  return shown_size(context.width, context.height, pixel_shape(stream))


def pixel_shape(stream) -> Fraction:
  """Width of a pixel by its height; 1 where the file does not say."""
  shape = stream.sample_aspect_ratio
  return shape if shape is not None and shape > 0 else Fraction(1)


def shown_size(width: int, height: int, shape: Fraction) -> tuple[int, int]:
  """(width, height) of the picture when its pixels are made square.

  The side that is too short grows, as in players, and the other stays: the
  width where pixels are wide, the height where they are tall.
  """
  if shape >= 1:
    return round(width * shape), height
  return width, round(height / shape)


def timeline(path: Path, container, stream, budget: Budget) -> Timeline:
  """Counts and times the packets of a stream; decodes nothing."""
  times, keys = array.array("q"), array.array("b")
  end, timed = None, True
  for packet in _packets(container, stream, budget):
    if packet.size == 0 or packet.is_discard:
      continue
    time = packet.dts if packet.pts is None else packet.pts
    timed = timed and packet.pts is not None
    times.append(0 if time is None else time)
    last = times[-1] + (packet.duration or 0)
    end = last if end is None else max(end, last)
    keys.append(packet.is_keyframe)
  if not times:
    raise ValueError(f"{path}: holds no video frame")
  order = np.argsort(times, kind="stable")
  ordered = np.asarray(times)[order]
  keys = np.flatnonzero(np.asarray(keys)[order])
  seekable = (
    timed
    and stream.codec_context.name in SEEKABLE
    and bool(np.all(np.diff(ordered) > 0))
    and keys[:1].tolist() == [0]
  )
  duration = _duration(ordered, end, stream)
  return Timeline(ordered, keys, seekable, duration, stream.frames)


def _duration(times, end: int, stream) -> float:
  """Seconds from the first time to `end`, in ticks of the stream.

  A last frame without a length of its own gets the average of the others.
  Containers that round times to milliseconds are corrected to the exact
  length where the stream states a frame rate that agrees with the times.
  """
  tick, rate = stream.time_base, stream.average_rate or stream.guessed_rate
  span = Fraction(int(end - times[0]))
  if end <= times[-1]:
    gaps = len(times) - 1
    span += span / gaps if gaps and span else 1 / (rate * tick) if rate else 0
  nominal = len(times) / rate if rate else None
  if nominal is not None and abs(nominal - span * tick) <= 2 * tick:
    return float(nominal)
  return float(span * tick)


def _packets(container, stream, budget: Budget) -> Iterator[av.Packet]:
  """Packets up to the end, or to where the file breaks off."""
  packets = container.demux(stream)
  for number in itertools.count(1):
    try:
      packet = next(packets)
    except av.error.ExitError as error:
      raise budget.late() from error
    except (StopIteration, av.error.FFmpegError):
      return
    if packet.size:
      budget.check_frame(number)
    yield packet


def _frames(container, stream, budget: Budget) -> Iterator[av.VideoFrame]:
  """Frames in order of presentation; undecodable packets are passed over."""
  flushed = False
  for packet in _packets(container, stream, budget):
    flushed = packet.size == 0 and packet.dts is None
    try:
      frames = packet.decode()
    except av.error.FFmpegError:
      continue
    yield from frames
  if not flushed:
    yield from _flushed(stream)


def _flushed(stream) -> list[av.VideoFrame]:
  """What the decoder still holds when the file breaks off."""
  try:
    return stream.codec_context.decode(None)
  except av.error.FFmpegError:
    return []


def sequentially(path, indices, keep, budget: Budget):
  """Decodes all; returns ({index: picture}, frames found, their seconds)."""
  wanted, kept, times, end = set(indices.tolist()), {}, [], 0
  with opened(path, budget) as (container, stream):
    shape = pixel_shape(stream)
    for number, frame in enumerate(_frames(container, stream, budget)):
      budget.check_frame(number + 1)
      if number in wanted:
        kept[number] = keep(frame, shape)
      times.append(frame.pts or 0)
      end = max(end, times[-1] + (frame.duration or 0))
    if not times:
      raise ValueError(f"{path}: no frame can be decoded")
    return kept, len(times), _duration(np.sort(times), end, stream)


def _runs(keys, indices) -> Iterator[tuple[int, int]]:
  """(key frame to jump to, or -1 to go on from here; index to reach)."""
  here = -1
  for index in np.unique(indices).tolist():
    key = int(keys[np.searchsorted(keys, index, side="right") - 1])
    yield (key if key > here else -1), index
    here = index


def cost(keys, indices) -> int:
  """Frames that by_seeking decodes."""
  cost, here = 0, -1
  for key, index in _runs(keys, indices):
    cost += index - (here if key < 0 else key - 1)
    here = index
  return cost


def by_seeking(path, line: Timeline, indices, keep, budget: Budget):
  """{index: picture}, or None if frames do not come at the times expected."""
  kept, here, frames = {}, 0, iter(())
  with opened(path, budget) as (container, stream):
    shape = pixel_shape(stream)
    for key, index in _runs(line.keys, indices):
      if key >= 0:
        container.seek(int(line.times[key]), stream=stream)
        frames = _from(line.times[key], _frames(container, stream, budget))
        here = key
      for time in line.times[here : index + 1]:
        frame = next(frames, None)
        if frame is None or frame.pts != time or frame.is_corrupt:
          return None
      kept[index], here = keep(frame, shape), index + 1
  return kept


def _from(time, frames):
  """Leaves out what comes before `time`."""
  return (frame for frame in frames if frame.pts is None or frame.pts >= time)
