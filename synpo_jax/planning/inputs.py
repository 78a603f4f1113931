"""What a run reads and where it writes, looked at before anything is made."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

from synpo_jax import losses
from synpo_jax.data import files, pairs, rows, text, tokenizer_folder
from synpo_jax.planning import disk
from synpo_jax.runtime import buckets, shipped
from synpo_jax.runtime.flags import Change
from synpo_jax.training import best, job, packing, tracking
from synpo_jax.weights import config_reading, folders, tensor_names

ROWS = 100  # of a file of pairs that are read
MADE = "the run's own world makes it"


class Finding(NamedTuple):
  """What was looked at, what is there or what is wrong, and which of both."""

  what: str
  told: str
  ok: bool


def look(
  c, changed: dict[str, Change], config: str, workdir: str
) -> Iterator[Finding]:
  """Yields everything that a training config reads, and the disk it fills.

  changed: what the command line gave of the config (runtime.flags.changed);
  config: the --config it gave.
  """
  for what, check in (
    ("loss", lambda: check_loss(c, changed, config)),
    ("checkpoint", lambda: check_checkpoint(c)),
    ("tokenizer", lambda: check_tokenizer(c)),
    ("packing", lambda: check_packing(c)),
    ("pairs", lambda: check_pairs(c)),
    ("videos", lambda: check_videos(c)),
    ("held-out pairs", lambda: check_heldout(c)),
    ("trackers", lambda: check_trackers(c)),
    ("workers", lambda: check_workers(c)),
    ("disk", lambda: check_disk(c, workdir)),
  ):
    try:
      yield Finding(what, check(), True)
    except (ValueError, OSError) as error:
      yield Finding(what, str(error), False)


def check(c, changed: dict[str, Change], config: str) -> None:
  """Raises ValueError or OSError for what would stop a run before its data.

  The loss and its coefficients, and whether checkpoint, pairs and tokenizer
  are there and can be read; only the beginnings of files are.
  """
  check_loss(c, changed, config)
  check_trackers(c)
  check_checkpoint(c)
  check_packing(c)
  check_pairs(c)
  check_heldout(c)
  check_tokenizer(c)


def check_loss(c, changed: dict[str, Change], config: str) -> str:
  """The loss in words.

  Raises ValueError for an unknown one, for coefficients that are not its own,
  for a name from the command line with the coefficients of another loss, and
  for updates of one pair where it compares pairs.
  """
  name, given = c.loss.name, c.loss.coefficients.to_dict()
  if not losses.is_mixture(given):
    losses.check_name(name)
  before = changed["loss.name"].before if "loss.name" in changed else name
  kept = [key for key in given if f"loss.coefficients.{key}" not in changed]
  kept = [] if losses.is_mixture(given) else kept
  if name != before and kept and "loss.coefficients" not in changed:
    raise ValueError(
      f"--config.loss.name={name} would keep {', '.join(kept)} of {before}; "
      f"give --config={_with_loss(config, name)} instead"
    )
  loss = losses.make(**c.loss.to_dict())
  together = c.data.batch_size * c.data.accumulation
  losses.check_together(loss, together, f"an update holds {together}")
  losses.check_gap(loss.all_pairs, c.data.min_score_gap)
  return str(loss)


def _with_loss(config: str, name: str) -> str:
  """A --config with another loss in its argument."""
  file, _, argument = config.partition(":")
  others = [
    part
    for part in argument.split(",")
    if part and not part.startswith("loss=")
  ]
  return f"{file}:{','.join([*others, f'loss={name}'])}"


def check_checkpoint(c) -> str:
  """Where the weights come from; the headers of its files are read."""
  if not c.model.checkpoint:
    if not c.model.arch:
      raise ValueError("set model.checkpoint to a folder (arch holds no sizes)")
    job.seen(c, config_reading.captioner_config(c.model.arch.to_dict()))
    return "random weights of the sizes in model.arch"
  folder = shipped.find(c.model.checkpoint)
  if not folder.is_dir():
    raise FileNotFoundError(f"model.checkpoint={folder}: no such folder")
  config = job.seen(c, config_reading.captioner_config(folder))
  parts = {leaf.part for leaf in tensor_names.leaves(config)}
  tensors = sum(len(folders.open_folder(folder / part)) for part in parts)
  return f"{folder}: {tensors} tensors"


def check_tokenizer(c) -> str:
  """The tokenizer's folder, and how captions end."""
  folder = c.model.tokenizer or c.model.checkpoint
  if not folder:
    raise ValueError("set model.tokenizer to a folder, or model.checkpoint")
  tokenizer = tokenizer_folder.load_tokenizer(folder)
  end = text.ending(tokenizer, c.data.template).id
  token = tokenizer.convert_ids_to_tokens(end)
  return f"{folder}: {len(tokenizer)} tokens, captions end with {token}"


def check_packing(c) -> str:
  """Whether pairs can share rows, if they are to."""
  if not c.data.packing:
    return "none wanted"
  folder = c.model.checkpoint and shipped.find(c.model.checkpoint)
  try:
    config = config_reading.captioner_config(folder or c.model.arch.to_dict())
  except (ValueError, OSError):  # said of the checkpoint
    return "not known without the checkpoint's sizes"
  packing.check(c, config)
  return f"pairs share rows of {c.data.packing} positions"


def check_pairs(c) -> str:
  """How many of the first rows can be read; all must."""
  captions = losses.make(**c.loss.to_dict()).captions
  scored = captions > 1 and c.data.min_score_gap is not None
  return _check_rows(c, c.data.pairs, captions, scored)


def check_heldout(c) -> str:
  """The same of the held-out pairs, if there are to be any."""
  if not c.heldout.pairs:
    return "none wanted"
  loss = losses.make(**c.loss.to_dict())
  scored = loss.all_pairs is not None
  return _check_rows(c, c.heldout.pairs, max(2, loss.captions), scored)


def _check_rows(c, path, captions, scored) -> str:
  if is_made(c, path):
    return f"{path}: {MADE}"
  read = _first_rows(c, path, captions, scored)
  return f"{path}: its first {len(read)} rows can be read"


def _first_rows(c, path, captions, scored) -> list[pairs.Pair]:
  read = []
  streams = (files.stream(file) for file in files.find(path))
  every = itertools.chain.from_iterable(streams)
  for place, held in itertools.islice(every, ROWS):
    try:
      row = rows.read(held, c.data.question, captions, scored)
    except rows.Fault as fault:
      raise ValueError(f"{place}: {fault}") from fault
    read.append(row.pair)
  if not read:
    raise ValueError(f"{path}: holds no rows")
  return read


def check_videos(c) -> str:
  """Whether the videos of the first rows are there; a run leaves some out."""
  if is_made(c, c.data.videos):
    return f"{c.data.videos}: {MADE}"
  if is_made(c, c.data.pairs):
    return f"{c.data.pairs}, which names them: {MADE}"
  read = _first_rows(c, c.data.pairs, 1, False)
  names = {pair.video for pair in read} - {None}
  if not names:
    return f"none named in the first {len(read)} rows"
  if not buckets.at(c.data.videos).is_dir():
    raise FileNotFoundError(f"data.videos={c.data.videos}: no such folder")
  located = pairs.locate(names, c.data.videos)
  told = f"{len(located.paths)} of {len(names)} videos of the first rows"
  if not located.paths:
    first, why = next(iter(located.missing.items()))
    raise FileNotFoundError(f"none of {len(names)} videos; {first}: {why}")
  return f"{c.data.videos}: {told}"


def is_made(c, path) -> bool:
  """Whether a path lies in the world that the run renders before it starts."""
  inside = buckets.at(path).is_relative_to(c.world.folder)
  return bool(c.world.clips) and inside


def check_disk(c, workdir: str) -> str:
  """What the run will write, and what is free for it."""
  named = []
  if not is_made(c, c.data.pairs):
    with contextlib.suppress(ValueError, OSError):  # said of the pairs
      named = [pair.video for pair in _first_rows(c, c.data.pairs, 1, False)]
  return disk.check(c, workdir, named)


def check_trackers(c) -> str:
  """Where rows go beside metrics.jsonl; what that needs is installed."""
  tracking.check(c.log.to)
  best.check(c)
  return ", ".join(c.log.to) or "none wanted"


def check_workers(c) -> str:
  """Whether there are cores for the processes that decode and read ahead."""
  cores = len(os.sched_getaffinity(0))
  told = f"{c.data.workers} for {cores} cores"
  if c.data.workers > cores:
    told += f"; data.workers={cores} would do as well, in less memory"
  return told
