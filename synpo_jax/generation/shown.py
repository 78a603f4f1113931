"""What a server is shown of a shot: parts of a chat message, by their bytes."""

import base64
import hashlib
import io
import mimetypes
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from synpo_jax.generation.shots import Shot

QUALITY = 95  # of JPEGs


class Shown(NamedTuple):
  """The parts of a message that stand before the question."""

  parts: list[dict]
  digest: str  # SHA-256 of what they hold


def smaller(
  picture: UInt8[np.ndarray, "y x 3"], side: int
) -> UInt8[np.ndarray, "Y X 3"]:
  """The picture in its own shape, with no side longer than `side` pixels."""
  longest = max(picture.shape[:2])
  if longest <= side:
    return picture
  height, width = (max(1, n * side // longest) for n in picture.shape[:2])
  image = Image.fromarray(picture)
  return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def show(shot: Shot, send: str, most_bytes: int) -> Shown:
  """Frames as images, or a video: of the frames, or the shot's own file.

  send: a value of serving.SENDS; with `video` a shot without a file, as a part
  of a video is, is shown as with `frames`. Raises ValueError for more than
  `most_bytes`, OSError for a file that cannot be read.
  """
  if send == "images":
    urls = [f"data:image/jpeg;base64,{code}" for code in _frames(shot)]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
  else:
    urls = [_video(shot, most_bytes)]
    parts = [{"type": "video_url", "video_url": {"url": urls[0]}}]
  _check_size(shot, sum(map(len, urls)), most_bytes)
  digest = hashlib.sha256(" ".join(urls).encode()).hexdigest()
  return Shown(parts, digest)


def _frames(shot: Shot) -> list[str]:
  return [_base64(_jpeg(frame)) for frame in shot.frames]


def _video(shot: Shot, most_bytes: int) -> str:
  """The file's bytes; frames as vLLM takes those of a video, with commas."""
  if shot.file is None:
    return f"data:video/jpeg;base64,{','.join(_frames(shot))}"
  _check_size(shot, shot.file.stat().st_size * 4 // 3, most_bytes)
  kind = mimetypes.guess_type(shot.file.name)[0] or ""
  kind = kind if kind.startswith("video/") else "video/mp4"
  return f"data:{kind};base64,{_base64(shot.file.read_bytes())}"


def _check_size(shot, size, most_bytes):
  if size > most_bytes:
    raise ValueError(
      f"{shot.name}: {size:,} bytes to send, serving.most_bytes={most_bytes} "
      "is the most"
    )


def _jpeg(frame) -> bytes:
  file = io.BytesIO()
  Image.fromarray(frame).save(file, "JPEG", quality=QUALITY)
  return file.getvalue()


def _base64(content: bytes) -> str:
  return base64.b64encode(content).decode("ascii")
