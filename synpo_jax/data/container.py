"""Containers and packets: counting, timing, decoding and seeking of frames."""

import array
import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import Int

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
def opened(path: Path):
  """The container and its video stream, as (container, stream)."""
  # `file:` keeps a colon in a name, or a playlist, from meaning a protocol.
  with av.open(
    f"file:{path}",
    options={"protocol_whitelist": "file"},
    metadata_errors="replace",  # titles may be of any encoding
  ) as file:
    stream = file.streams.best("video")
    if stream is None:
      raise ValueError(f"{path}: holds no video stream")
    stream.thread_type = "AUTO"
    yield file, stream


def timeline(path: Path, container, stream) -> Timeline:
  """Counts and times the packets of a stream; decodes nothing."""
  times, keys = array.array("q"), array.array("b")
  end, timed = None, True
  for packet in _packets(container, stream):
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


def _packets(container, stream) -> Iterator[av.Packet]:
  """Packets up to the end, or to where the file breaks off."""
  packets = container.demux(stream)
  while True:
    try:
      packet = next(packets)
    except (StopIteration, av.error.FFmpegError):
      return
    yield packet


def _frames(container, stream) -> Iterator[av.VideoFrame]:
  """Frames in order of presentation; undecodable packets are passed over."""
  flushed = False
  for packet in _packets(container, stream):
    flushed = packet.size == 0 and packet.dts is None
    try:
      frames = packet.decode()
    except av.error.FFmpegError:
      continue
    yield from frames
  if not flushed:
    yield from stream.codec_context.decode(None)


def sequentially(path, indices, keep):
  """Decodes all; returns ({index: picture}, frames found, their seconds)."""
  wanted, kept, times, end = set(indices.tolist()), {}, [], 0
  with opened(path) as (container, stream):
    for number, frame in enumerate(_frames(container, stream)):
      if number in wanted:
        kept[number] = keep(frame)
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


def by_seeking(path, line: Timeline, indices, keep):
  """{index: picture}, or None if frames do not come at the times expected."""
  kept, here, frames = {}, 0, iter(())
  with opened(path) as (container, stream):
    for key, index in _runs(line.keys, indices):
      if key >= 0:
        container.seek(int(line.times[key]), stream=stream)
        frames = _from(line.times[key], _frames(container, stream))
        here = key
      for time in line.times[here : index + 1]:
        frame = next(frames, None)
        if frame is None or frame.pts != time or frame.is_corrupt:
          return None
      kept[index], here = keep(frame), index + 1
  return kept


def _from(time, frames):
  """Leaves out what comes before `time`."""
  return (frame for frame in frames if frame.pts is None or frame.pts >= time)
