"""What is read of a video and asked of it, and how frames are stacked."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from synpo_jax.data import padding, prompts, text, video
from synpo_jax.data.limits import Limits
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import buckets

NAMES_VERSION = "2026-12-a"  # changes when `Shot.name` does


class Shot(NamedTuple):
  """Something to be captioned: a video, or a part of one."""

  id: str
  frames: UInt8[np.ndarray, "F Y X 3"]
  weak: UInt8[np.ndarray, "f Y X 3"] | None = None  # for contrastive decoding
  part: int | None = None  # None for all of a video
  file: Path | None = None  # the video's own, for those who show all of it
  times: Sequence[float] = ()  # seconds to each frame, from the start
  weak_times: Sequence[float] = ()

  @property
  def name(self) -> str:
    """What its random keys come from; a whole video's is its id."""
    return self.id if self.part is None else f"{self.id} part {self.part}"


@dataclasses.dataclass(frozen=True)
class Ask:
  """What is asked of every shot: a config's `captions` section and more.

  seed: of sampling; a caption depends on it and on the shot's name and
  frames, not on the shots around it. candidates: captions per shot.
  temperature, top_k, top_p: of sampling; temperature 0 is greedy.
  retrospective: a second pass sees the first answer and betters it.
  caution: the second pass is asked for care (clip captions).
  contrast_weight: of contrastive decoding, 0 for none; every shot then needs
  weak frames, and one whose weak frames are all its frames goes without.
  contrast_cutoff: see `sampling.contrast`; None for none.
  """

  seed: int
  question: str
  candidates: int
  max_new_tokens: int
  temperature: float
  top_k: int
  top_p: float
  retrospective: bool
  caution: bool
  contrast_weight: float
  contrast_cutoff: float | None

  def __post_init__(self):
    if not self.contrast_weight >= 0:  # NaN is none either
      raise ValueError(
        f"contrast_weight={self.contrast_weight}: must be 0 (no contrast) or "
        "more"
      )

  @property
  def contrast(self) -> bool:
    """Whether shots need weak frames."""
    return self.contrast_weight > 0


class Served(NamedTuple):
  """Which system behind an endpoint wrote a caption."""

  endpoint: str  # its address, without what opens it
  model: str  # the name that it is served by
  fingerprints: frozenset[str]  # as the server told them; empty without any
  seeded: bool  # whether it was given seeds


class Text(NamedTuple):
  """One caption: as first written, after the second look, and its cost."""

  first: str
  last: str
  tokens: int  # generated in both passes
  served: Served | None = None  # None for one that was written here


class Captioned(NamedTuple):
  """The captions of a shot, known by its id and part."""

  id: str
  part: int | None
  texts: list[Text]


def again(answer: str, ask: Ask) -> str:
  """The second question; an empty first answer is asked for once more."""
  answer = answer.replace(text.MARK, "").strip()  # it would mean a video
  if not answer:
    return ask.question
  return prompts.retrospective(
    answer, question=ask.question, caution=ask.caution
  )


def origin(texts: list[Text]) -> dict[str, dict | None]:
  """What the row of some captions says of the server that wrote them, if any.

  {"served": {"endpoint", "model", "system_fingerprint"}}, or {}; and that the
  row has no seed, where the server takes none.
  """
  found = [one.served for one in texts if one.served]
  if not found:
    return {}
  told = sorted(frozenset().union(*(one.fingerprints for one in found)))
  about = {"endpoint": found[0].endpoint, "model": found[0].model}
  about["system_fingerprint"] = ", ".join(told) or None
  return {"served": about} | ({} if found[0].seeded else {"seed": None})


def read(
  id_: str,
  path: str | Path,
  rule: Callable,
  prepare: Callable,
  *,
  contrast: bool,
  limits: Limits | None = None,
  whole: bool = False,
) -> tuple[Shot, video.Clip]:
  """A video as a shot, and the clip it was taken from.

  prepare: takes a frame, and how many are read of the video. With `contrast`
  the shot has weak frames too: (n + 2) // 3 for n frames, spread over the whole
  video on their own, as in the official release; both sets are of the size of
  the first, decoded in one go, and `clip.frames` holds them together. With
  `whole` the file itself is to be shown, and of its frames the first is read.
  """
  if whole:
    first = video.counted(lambda *_: np.zeros(1, np.int64), prepare)
    clip = video.read(path, *first, limits)
    return Shot(id_, clip.frames, file=buckets.at(path)), clip
  if not contrast:
    clip = video.read(path, *video.counted(rule, prepare), limits)
    return Shot(id_, clip.frames, times=clip.times), clip
  wanted = {}
  rule, prepare = video.counted(rule, prepare)

  def both(duration, total):
    full = rule(duration, total)
    weak = video.spread(0, total - 1, video.contrast_count(len(full)))
    wanted.update(full=full, weak=weak)
    return np.union1d(full, weak)

  clip = video.read(path, both, prepare, limits)
  full, weak = (
    np.searchsorted(clip.indices, wanted[x]) for x in ("full", "weak")
  )
  told = {
    "times": [clip.times[i] for i in full],
    "weak_times": [clip.times[i] for i in weak],
  }
  return Shot(id_, clip.frames[full], clip.frames[weak], **told), clip


def has_contrast(shot: Shot) -> bool:
  """Whether the weak frames are others than the full ones."""
  return shot.weak is not None and len(shot.weak) < len(shot.frames)


def frame_bucket(config: CaptionerConfig, buckets, count: int) -> int:
  """Frames that a shot of `count` is padded to; whole steps of the tower.

  Raises ValueError where no bucket is large enough.
  """
  step = config.frames_per_step
  whole = np.array([-(-count // step) * step])
  try:
    return int(padding.round_up(whole, buckets)[0])
  except ValueError as error:
    raise ValueError(f"frame_buckets: {error} frames; add one") from None


def stack(clips: list[np.ndarray], rows: int, frames: int, step: int):
  """(uint8 [rows, frames, Y, X, 3], real frames of each clip).

  Zeros behind a clip's own frames; a last step that is not whole is filled
  with its last frame.
  """
  out = np.zeros((rows, frames, *clips[0].shape[1:]), np.uint8)
  counts = []
  for row, clip in enumerate(clips):
    missing = -len(clip) % step
    clip = np.concatenate([clip, clip[-1:].repeat(missing, axis=0)])
    out[row, : len(clip)] = clip
    counts.append(len(clip))
  return out, counts
