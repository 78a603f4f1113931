"""The real commands at their smallest, and what each of them leaves.

Each runs in a folder of its own, by relative names alone, so that a copy of
the folder at any stage of the work goes on as the first would have.
"""

import hashlib
import json
import pathlib
import threading
from collections.abc import Callable
from typing import NamedTuple

from synpo_jax.pairing import ledger

CLIPS, UPDATES = 4, 4
TIMES = {"pairs_per_s", "tokens_per_s", "waiting_share", "crc32"}
_ORBAX = threading.Lock()  # it is opened by one thread at a time


class Command(NamedTuple):
  """A command of the package, started as a user would.

  needs: files and folders that it starts from. after: the command whose folder
  has them. begins, ends: globs of what it makes first, and of what it makes
  when the moments of interest are over ("": its own end).
  """

  module: str
  arguments: tuple[str, ...]
  needs: tuple[str, ...]
  begins: str
  result: Callable[[pathlib.Path], dict]
  after: str = ""
  ends: str = ""


def trained(folder: pathlib.Path) -> dict:
  """What a run is: rows of all updates, and the bits of every array."""
  import orbax.checkpoint as ocp

  from synpo_jax.models import tree_digest

  rows = []
  for line in (folder / "run/metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    rows.append({key: row[key] for key in row if key not in TIMES})
  place = (folder / "run/checkpoints").absolute()
  with _ORBAX, ocp.CheckpointManager(place) as manager:
    step = manager.latest_step()
    how = ocp.args.Composite(state=ocp.args.StandardRestore())
    state = manager.restore(step, args=how)["state"]
    return {"rows": rows, "step": step} | tree_digest.leaves(state)


def files(*globs: str) -> Callable[[pathlib.Path], dict]:
  """SHA-256 of all files of these globs, by name."""

  def result(folder):
    found = (path for glob in globs for path in folder.glob(glob))
    return {
      str(path.relative_to(folder)): hashlib.sha256(
        path.read_bytes()
      ).hexdigest()
      for path in sorted(found)
      if path.is_file()
    }

  return result


def _changes(**sections) -> tuple[str, ...]:
  return tuple(
    f"--config.{section}.{key}={value}"
    for section, values in sections.items()
    for key, value in values.items()
  )


WORLD = ("world", "captioner")
MODEL = ("--config.model.checkpoint=captioner",)
SMALL = dict(batch_size=2, frame_buckets="(8,)", prefix_buckets=64)
RUN = (
  "--workdir=run",
  "--config.epochs=1",
  "--config.heldout.pairs=",
  "--config.keep_checkpoints=9",
  *MODEL,
  *_changes(
    world=dict(clips=0),
    data=dict(
      pairs="world/pairs.jsonl",
      videos="world",
      cache="shards",
      batch_size=1,
      min_score_gap=0.0,
    ),
    every=dict(checkpoint=1, reward_norms=0),
    lora=dict(rank=4),
  ),
)
PAIRS = tuple(f"pairs/{name}" for name in ledger.FILES.values())

COMMANDS = {
  "train": Command(
    "train",
    ("--config=vdc", *RUN),
    (*WORLD, "shards"),
    "run/metrics.jsonl",
    trained,
  ),
  "caches": Command(
    "train",
    ("--config=vdc:loss=dpo", *RUN),
    WORLD,
    "shards/*",
    trained,
    ends="run/metrics.jsonl",
  ),
  "caption": Command(
    "caption",
    ("--config=caption", "--config.videos=clips", "--config.root=world")
    + ("--config.output=out/captions.jsonl", *MODEL)
    + _changes(
      captions=dict(max_new_tokens=32), frames=dict(max_frames=8), placing=SMALL
    ),
    WORLD,
    "out/captions.jsonl",
    files("out/captions.jsonl"),
  ),
  "evaluate": Command(
    "evaluate",
    ("--config=eval_shapes", "--workdir=scores", "--config.root=world/clips")
    + MODEL
    + _changes(
      data=dict(scenes="world/scenes.jsonl", only=""),
      captions=dict(max_new_tokens=32),
      placing=SMALL,
    ),
    WORLD,
    "scores/recipe.json",
    files("scores/captions.jsonl", "scores/items.jsonl", "scores/results.json"),
  ),
  "make_pairs": Command(
    "make_pairs",
    ("--config=pairs:tiny", "--workdir=pairs", "--config.root=world", *MODEL)
    + ("--config.judge.truth.scenes=world/scenes.jsonl",)
    + _changes(
      clips=dict(max_new_tokens=32),
      candidates=dict(max_new_tokens=32, candidates=3),
      placing=SMALL,
    ),
    WORLD,
    "pairs/segments.jsonl",
    files(*PAIRS),
  ),
  "export": Command(
    "export",
    ("--workdir=run", "--format=merged", "--out=made/model"),
    ("captioner", "run"),
    "made/.model.partial-*",
    files("made/model/**/*"),
    after="train",
  ),
}
