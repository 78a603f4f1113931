"""What a run reads, by content: it goes on with what it began with."""

import hashlib
import json
import pathlib

from absl import logging

from synpo_jax.data import files
from synpo_jax.models import dropout
from synpo_jax.runtime import alike, digests, hosts, journal, workdir
from synpo_jax.weights import fingerprint

FILES = ("data.pairs", "heldout.pairs", "heldout.scenes")
FILES += ("captioning.references",)
MASKS = "lora.dropout's stream"  # which masks a step and a seed make
# Of the sections that a run may change when it goes on: known by path, too.
MOVABLE = ("language.references", "language.texts")


def claim(folder: str | pathlib.Path, now: dict[str, str]) -> dict[str, str]:
  """Compares what is read now with what the run in a workdir began with.

  Writes the digest of the weights that it starts from beside its config.

  Args:
    folder: the workdir.
    now: as `read` returns it.

  Returns:
    What the run's checkpoints are to keep.

  Raises:
    ValueError: an input is another one now, or another one in one of several
      processes, one line with all that differ; or dropout is drawn otherwise.
  """
  alike.check({f"the content of {name}": of for name, of in now.items()})
  then = workdir.saved_inputs(folder)
  if then is None and workdir.has_checkpoint(folder):
    logging.warning(
      "%s: an earlier version began this run and kept no digests of what it "
      "reads, so nobody can tell whether that is the same",
      folder,
    )
    return now
  then = then or {}
  _same_masks(folder, then, now)
  changed = [name for name in now if then.get(name, now[name]) != now[name]]
  if changed:
    raise ValueError(
      f"{folder}: {' and '.join(changed)} {_are(changed)} not what the run "
      f"began with (other content, by {workdir.newest(folder)}); put that "
      "back, or choose another --workdir"
    )
  if hosts.is_first():
    held = {fingerprint.BASE: now[workdir.BASE_WEIGHTS]}
    text = json.dumps(held, indent=2)
    path = pathlib.Path(folder) / fingerprint.IDENTITY
    journal.replace(path, f"{text}\n".encode())
  return then | now


def _same_masks(folder, then, now):
  """Raises ValueError for a run whose dropout was drawn otherwise."""
  if then and now.get(MASKS) != then.get(MASKS) and MASKS in now:
    raise ValueError(
      f"{folder}: the version that began this run drew other masks for "
      f"lora.dropout (by {workdir.newest(folder)}); go on with that version, "
      "or choose another --workdir"
    )


def _are(names: list[str]) -> str:
  return "is" if len(names) == 1 else "are"


def read(c, data, held) -> dict[str, str]:
  """Digest of each input of a run by the key of the config that names it.

  data, held: pipeline.Data of the pairs and of those held out, or None. Files
  that are named and not there are left out: who reads them says so.
  """
  found = {workdir.BASE_WEIGHTS: fingerprint.captioner(c.model.checkpoint, "")}
  if c.begin.adapter:
    found["begin.adapter"] = fingerprint.captioner("", c.begin.adapter)
  for name in (*FILES, *MOVABLE):
    section, key = name.split(".")
    path = c[section][key]
    if path and (digest := _digest(path)):
      shown = f"{name}={path}" if name in MOVABLE else name
      found[shown] = digest
  for name, read_ in (("data.videos", data), ("heldout.videos", held)):
    if read_ is not None and read_.frames is not None:
      found[name] = of_frames(read_.frames)
  if c.lora.rank and c.lora.dropout:
    found[MASKS] = dropout.STREAM
  return found


def _digest(path: str) -> str | None:
  """Of all files that a path or a glob names; None where none is there."""
  try:
    found = files.find(path)
  except (FileNotFoundError, ValueError):
    return None
  each = [digests.of(file) for file in found]
  if len(each) == 1:
    return each[0].hex()
  return hashlib.sha256(b"".join(each)).hexdigest()


def of_frames(frames) -> str:
  """One digest over the frames of all videos, which are not read for it."""
  whole = hashlib.sha256()
  for number in range(len(frames)):
    whole.update(bytes.fromhex(frames.digest(number)))
  return whole.hexdigest()
