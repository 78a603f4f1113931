"""Chunks of stored frames: what each lists, and the frames of its videos."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.proto import tf_example_pb2

from synpo_jax.data import records
from synpo_jax.runtime.terminal import in_short

LIST = "clips.jsonl"  # of a chunk


class Place(NamedTuple):
  """Where the frames of a video are stored, how many, and their content."""

  folder: str
  line: int  # of the folder's list that says so, from 1
  video: str  # the file they were decoded from
  record: int
  frames: int
  digest: str  # SHA-256 of the pixels: equal where the frames are
  times: tuple[float, ...]  # seconds from the video's start to each frame
  size: tuple[int, int] | None  # (Y, X); None in lists of earlier versions

  @property
  def seconds(self) -> float:
    """From one of the frames to the next, on average."""
    return (self.times[-1] - self.times[0]) / max(1, self.frames - 1)


class Clips(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """One chunk: frames uint8 [F, Y, X, 3], in the order they were handed in.

  The frames are stored as they are: ArrayRecord compresses, without loss.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, size, examples=(), data_dir):
    self._size, self._examples = size, examples
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self):
    frames = tfds.features.Tensor(
      shape=(None, *self._size, 3), dtype=np.uint8, encoding="bytes"
    )
    features = {
      "video": tfds.features.Text(),
      "frames": frames,
      "indices": tfds.features.Tensor(shape=(None,), dtype=np.int64),
      "duration": tfds.features.Scalar(np.float64),
      "total": tfds.features.Scalar(np.int64),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def _example_writer(self):
    return _Ordered(file_format=self.info.file_format)

  def _split_generators(self, dl_manager):
    return {"clips": enumerate(self._examples)}

  def _generate_examples(self):
    raise AssertionError("the split generators hand over the examples")


class _Ordered(tfds.core.ExampleWriter):
  """Writes the fields of a record in one order; protobuf's differs by process.

  So equal clips make equal files.
  """

  def write(self, path, examples):
    return super().write(path, ((k, _ordered(x)) for k, x in examples))


def _ordered(content: bytes) -> bytes:
  example = tf_example_pb2.Example.FromString(content)
  return example.SerializeToString(deterministic=True)


def inventory(folder: Path) -> dict[str, Place]:
  """Places of all videos in finished chunks, by key (shards.build).

  Raises records.Damaged for a list that cannot be meant.
  """
  places = {}
  for chunk in sorted(folder.glob("chunk-*")):
    try:
      lines = (chunk / LIST).read_text("utf-8").splitlines()
      for line, row in enumerate(map(json.loads, lines), 1):
        key = row.pop("key")
        places[key] = _place(chunk, line, json.loads(key)[0], **row)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as e:
      raise _damaged(chunk, e) from e
  return places


def _place(
  chunk, line, video, *, record, frames, digest, times, size=None
) -> Place:
  """A place as a line of the list has it; raises ValueError for nonsense."""
  whole = type(record) is int and type(frames) is int
  if not (whole and record >= 0 and frames > 0 and isinstance(digest, str)):
    raise ValueError(f"record {record!r}, frames {frames!r}, digest {digest!r}")
  times = tuple(map(float, times))
  if len(times) != frames:
    raise ValueError(f"{LIST} line {line} says {len(times)} times are {frames}")
  if size is not None:
    size = tuple(size)
    if [type(side) for side in size] != [int, int]:
      raise ValueError(f"{LIST} line {line} says that a frame is of {size!r}")
  stored = record, frames, digest, times, size
  return Place(str(chunk), line, video, *stored)


def _damaged(chunk, error) -> records.Damaged:
  why = in_short(error)
  return records.Damaged(
    f"{chunk}: its decoded videos cannot be read ({why}); delete that "
    "folder and start again, they are decoded anew"
  )


def digest_of(frames: UInt8[np.ndarray, "F Y X 3"]) -> str:
  """Name of frames by their content: SHA-256 in 64 hex digits."""
  return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()


class Frames:
  """Frames by number of the video; opens its shards where it is used.

  There are whole steps of them, so many frames as the model reads together:
  a video's last frame fills its last step. Only places travel to worker
  processes, not open files.
  """

  def __init__(
    self,
    places: list[Place],
    size: tuple[int | None, int | None],
    frames_per_step: int = 1,
  ):
    """size: of all frames, (Y, X); None where they follow their video."""
    self._places, self._size, self._sources = places, size, {}
    self._step = frames_per_step

  def __len__(self) -> int:
    return len(self._places)

  def count(self, number: int) -> int:
    """Frames of a video, without reading them."""
    return self._places[number].frames + self._missing(number)

  def times(self, number: int) -> tuple[float, ...]:
    """Seconds from the start of a video to each of its frames."""
    times = self._places[number].times
    return times + times[-1:] * self._missing(number)

  @property
  def follows(self) -> bool:
    """Whether sizes of frames follow the video."""
    return None in self._size

  def size(self, number: int) -> tuple[int, int]:
    """(Y, X) of a video's frames, without reading them."""
    return self._places[number].size if self.follows else self._size

  def _missing(self, number: int) -> int:
    return -self._places[number].frames % self._step

  def seconds(self, number: int) -> float:
    """From one frame of a video to the next, on average."""
    return self._places[number].seconds

  def digest(self, number: int) -> str:
    """Name of a video's frames by their content, without reading them.

    Where sizes follow the video, by their size too: pixels do not tell it.
    """
    digest = self._places[number].digest
    if not self.follows:
      return digest
    told = "{} {}x{}".format(digest, *self.size(number))
    return hashlib.sha256(told.encode()).hexdigest()

  def __getstate__(self):
    return self.__dict__ | {"_sources": {}}

  def __call__(self, number: int) -> UInt8[np.ndarray, "F Y X 3"]:
    """The frames; raises records.Damaged where they are torn or others."""
    place = self._places[number]
    try:
      stored = self._source(place.folder)[place.record]
    except Exception as error:  # each library of the stack has its own
      raise _damaged(place.folder, error) from error
    frames = stored["frames"]
    found = stored["video"].decode("utf-8"), len(frames), digest_of(frames)
    if found != (place.video, place.frames, place.digest):
      why = f"{LIST} line {place.line} says what record {place.record} is not"
      raise _damaged(place.folder, ValueError(why))
    missing = self._missing(number)
    if not missing:
      return frames
    return np.concatenate([frames, frames[-1:].repeat(missing, axis=0)])

  def _source(self, folder: str):
    if folder not in self._sources:
      clips = Clips(size=self._size, data_dir=folder)
      self._sources[folder] = clips.as_data_source(split="clips")
    return self._sources[folder]
