"""Which weights a folder holds, as a short hash that is cheap at any size."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from synpo_jax.runtime import shipped, workdir

SUFFIXES = frozenset((".json", ".jinja", ".model", ".msgpack", ".safetensors"))
WHOLE = 1 << 26  # bytes; a larger file is sampled
BLOCKS, BLOCK = 1024, 4096  # how many samples, and bytes of each


def captioner(checkpoint: str, adapter: str) -> str:
  """Hash of the weights, settings and words that a captioner is made of.

  Args:
    checkpoint: a published folder, or "" for that of the run in `adapter`.
    adapter: workdir of a training run (its newest checkpoint counts), a PEFT
      folder, or "".

  Returns:
    16 hex digits, or "" for two empty names; paths do not enter it.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  parts = []
  if workdir.is_run(adapter):
    checkpoint = (
      checkpoint or workdir.run_config(adapter)["model"]["checkpoint"]
    )
    newest = workdir.newest(adapter)
    parts = [files(newest, newest.rglob("*"))]
  elif adapter:
    parts = [_published(Path(adapter))]
  if checkpoint:
    parts.append(_published(shipped.find(checkpoint)))
  return _short("".join(parts).encode()) if parts else ""


def files(root: Path, paths: Iterable[Path]) -> str:
  """Hash of files: their names below `root`, sizes and contents.

  Of a large file the head, the end and BLOCKS evenly spread samples count:
  training changes all of a tensor, so it does not slip through them.
  """
  whole = hashlib.sha256()
  for path in sorted(path for path in paths if path.is_file()):
    name = path.relative_to(root).as_posix()
    whole.update(f"{name} {path.stat().st_size} ".encode())
    whole.update(_content(path))
  return whole.hexdigest()


def _published(folder: Path) -> str:
  """A checkpoint's own files and those of its parts, one level down."""
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder}: no such folder of weights")
  paths = (*folder.glob("*"), *folder.glob("*/*"))
  return files(folder, (path for path in paths if path.suffix in SUFFIXES))


def _content(path: Path) -> bytes:
  size, digest = path.stat().st_size, hashlib.sha256()
  with path.open("rb") as file:
    if size <= WHOLE:
      return hashlib.file_digest(file, "sha256").digest()
    for index in range(BLOCKS):
      file.seek(index * (size - BLOCK) // (BLOCKS - 1))
      digest.update(file.read(BLOCK))
  return digest.digest()


def _short(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
