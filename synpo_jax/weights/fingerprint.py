"""Which weights a folder holds, by the content of its files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from absl import logging

from synpo_jax.runtime import buckets, digests, json_file, shipped, workdir

SUFFIXES = frozenset((".json", ".jinja", ".msgpack", ".safetensors"))
SUFFIXES |= {".model", ".tiktoken"}  # of tokenizers
NAMES = frozenset(("merges.txt", "vocab.txt"))
IDENTITY, BASE = "identity.json", "captioner_digest"  # what a run keeps


def captioner(checkpoint: str, adapter: str) -> str:
  """Hash of the weights, settings and words that a captioner is made of.

  Every byte counts; what that costs is said at `digests.of`.

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
    parts = [files(newest, buckets.files(newest))]
  elif adapter:
    parts = [_published(buckets.at(adapter))]
  if checkpoint:
    parts.append(_published(shipped.find(checkpoint)))
  return _short("".join(parts).encode()) if parts else ""


def check_base(run: str | Path, checkpoint: str) -> None:
  """Compares a checkpoint with the one that a run started from, by content.

  The run's newest checkpoint says which, else `identity.json` beside it. Where
  neither does, a warning says so; random weights (no checkpoint) are not
  compared. Raises ValueError for other weights, and where the two differ.
  """
  if not checkpoint:
    return
  kept = buckets.at(run) / IDENTITY
  then = (workdir.saved_inputs(run) or {}).get(workdir.BASE_WEIGHTS)
  if kept.exists():
    noted = json_file.read(kept).get(BASE)
    if (then := then or noted) != noted:
      raise ValueError(
        f"{kept}: the weights that the run started from have another digest "
        f"there ({noted}) than in {workdir.newest(run)} ({then}); one of the "
        "two is damaged: delete that one"
      )
  if then is None:
    logging.warning(
      "%s keeps no digest of the checkpoint it started from, so nobody can "
      "tell whether %s holds the same weights",
      *(run, checkpoint),
    )
  elif (now := captioner(checkpoint, "")) != then:
    raise ValueError(
      f"{checkpoint}: these are not the files that {run} started from (digest "
      f"{now} here, {then!r} there); name the folder that holds those"
    )


def files(root: Path, paths: Iterable[Path]) -> str:
  """Hash of files: their names below `root`, sizes and contents."""
  whole = hashlib.sha256()
  for path in sorted(path for path in paths if path.is_file()):
    name = path.relative_to(root).as_posix()
    whole.update(f"{name} {path.stat().st_size} ".encode())
    whole.update(digests.of(path))
  return whole.hexdigest()


def _published(folder: Path) -> str:
  """A checkpoint's own files and those of its parts, one level down."""
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder}: no such folder of weights")
  paths = (*folder.glob("*"), *folder.glob("*/*"))
  return files(folder, (path for path in paths if _counts(path)))


def _counts(path: Path) -> bool:
  return path.suffix in SUFFIXES or path.name in NAMES


def _short(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
