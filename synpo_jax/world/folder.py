"""Writes a whole folder of the synthetic world: clips, scenes and rows.

python -m synpo_jax.world --out=world --clips=2000 --seed=0

clips/ID.mp4     the videos            scenes.jsonl  their scene graphs
sft.jsonl        captions to learn     pairs.jsonl   pairs with scores
heldout.jsonl    pairs of clips that appear in no other row
"""

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from synpo_jax.data import records
from synpo_jax.runtime import journal, stopping
from synpo_jax.world import annotators, rendering, staging
from synpo_jax.world import rows as world_rows
from synpo_jax.world.scene import Scene, read_scenes, write_scenes


def render_world(
  folder: str | Path, seeds: Iterable[int], workers: int = 1
) -> list[Scene]:
  """Renders the clips of some seeds that are not there yet.

  Writes folder/clips/ID.mp4 for every seed, and folder/scenes.jsonl, which
  keeps what other calls put there and is written only when scenes are new.
  Safe to interrupt and call again, also at once from several processes: a clip
  appears under its name only when it is whole, and one that shows another
  scene under the same name is rendered anew. Returns the seeds' scenes.
  """
  folder = Path(folder)
  with records.alone(folder):
    return _render_world(folder, seeds, workers)


def _render_world(folder: Path, seeds, workers: int) -> list[Scene]:
  (folder / "clips").mkdir(exist_ok=True)
  work = functools.partial(_render, str(folder / "clips"))
  seeds = list(seeds)
  if workers == 1:
    scenes = [work(seed) for seed in seeds]
  else:
    with stopping.unheard():
      pool = multiprocessing.get_context("spawn").Pool(workers)
    with pool:
      scenes = pool.map(work, seeds, chunksize=16)
  sidecar = folder / "scenes.jsonl"
  known = read_scenes(str(sidecar)) if sidecar.exists() else {}
  asked = {scene.video: scene for scene in scenes}
  if any(known.get(name) != scene for name, scene in asked.items()):
    part = sidecar.with_suffix(".part")
    write_scenes(str(part), (known | asked).values())
    os.replace(part, sidecar)
  return scenes


def _render(clips: str, seed: int) -> Scene:
  scene = staging.sample(seed)
  path = Path(clips) / f"{scene.video}.mp4"
  if not rendering.is_rendered(path, scene):
    rendering.encode(path, scene)
  return scene


def write_world(
  folder: str | Path,
  *,
  clips: int,
  seed: int,
  heldout: int,
  rows_per_clip: int = 4,
  pairs_per_clip: int = 1,
  workers: int = 1,
  shares: Mapping[str, float] | None = None,
) -> None:
  """Renders `clips` clips and writes the rows of all but the held-out ones.

  A file that holds these rows already is left alone: a run may be reading it.

  Args:
    folder: made if missing; finished clips are kept.
    clips: how many; their seeds are seed, seed + 1, and so on.
    seed: of the first clip.
    heldout: the last so many clips appear in no row.
    rows_per_clip: caption rows a clip gets, each in other words.
    pairs_per_clip: preference pairs a clip gets.
    workers: processes that render.
    shares: of the annotators who write the captions to learn, by style
      (`annotators.STYLES`); None for true captions of every kind of request.
  """
  if not 0 <= heldout < clips:
    raise ValueError(f"cannot hold out {heldout} of {clips} clips")
  make = world_rows.sft_row
  if shares is not None:
    annotators.check(shares)
    make = functools.partial(world_rows.mixture_row, shares=shares)
  folder = Path(folder)
  scenes = render_world(folder, range(seed, seed + clips), workers)
  train = scenes[: clips - heldout]
  captions = _rows(make, train, rows_per_clip, stream=1)
  _write_new(folder / "sft.jsonl", captions)
  pairs = _rows(world_rows.pair_row, train, pairs_per_clip, stream=2)
  _write_new(folder / "pairs.jsonl", pairs)
  unseen = _rows(world_rows.pair_row, scenes[clips - heldout :], 1, stream=3)
  _write_new(folder / "heldout.jsonl", unseen)


def _write_new(path: Path, rows: Iterable[dict]) -> None:
  """Replaces the rows of a file in one step, if they are others."""
  rows = list(rows)
  with records.alone(path.parent):
    content = b"".join(map(journal.dump, rows))
    if not path.exists() or path.read_bytes() != content:
      journal.replace(path, content)


def _rows(
  make: Callable, scenes: list[Scene], each: int, *, stream: int
) -> Iterator[dict]:
  """Rows of one kind; every row draws from numbers of its own."""
  for scene in scenes:
    for index in range(each):
      rng = np.random.default_rng([scene.seed, index, stream])
      yield make(scene, f"clips/{scene.video}.mp4", rng)
