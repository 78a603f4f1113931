"""The synthetic world: captions marked exactly against scene graphs."""

import json
import pathlib

from synpo_jax.data import prompts as ours
from synpo_jax.evaluation import caption_metrics
from synpo_jax.evaluation.items import Benchmark, Item, limited, mean
from synpo_jax.evaluation.tokenizer import tokenize
from synpo_jax.runtime import buckets
from synpo_jax.runtime.jsonl import lines
from synpo_jax.world import scores, truth
from synpo_jax.world.quiz import CATEGORIES
from synpo_jax.world.scene import Scene, read_scenes


def chosen_scenes(
  path: str | pathlib.Path, only: str | pathlib.Path
) -> dict[str, Scene]:
  """Scenes by video id.

  only: a text of ids, JSONL rows whose "video" is a clip's file, or empty for
  all of them. Raises ValueError for ids without a scene, or when there is none.
  """
  scenes = read_scenes(str(path))
  if not only:
    return scenes
  names = _names(buckets.at(only))
  missing = [name for name in names if name not in scenes]
  if missing:
    raise ValueError(f"{path}: no scene of {missing[0]}, which {only} names")
  if not names:
    raise ValueError(f"{only} names no video; --config.data.only= takes all")
  return {name: scenes[name] for name in names}


def _names(only: pathlib.Path) -> list[str]:
  if only.suffix != ".jsonl":
    return only.read_text("utf-8").split()
  names = []
  for number, line in lines(only):
    try:
      names.append(pathlib.PurePosixPath(json.loads(line)["video"]).stem)
    except (ValueError, KeyError, TypeError):
      raise ValueError(f"{only} line {number}: no row with a video") from None
  return list(dict.fromkeys(names))


def score(
  scenes: dict[str, Scene], captions: dict[str, str]
) -> tuple[list[dict], dict]:
  """(rows, means over videos) of one caption per video.

  A row has the scores of `world.scores` (docs/scores.md), the category of
  each question, and order_accuracy: share of pairs of events told in order,
  None for clips with fewer than two. The means have standard errors, `…_se`.
  """
  rows = [_row(name, captions[name], scenes[name]) for name in captions]
  summary = scores.summary({row["id"]: row for row in rows})
  summary["order_accuracy"] = mean(row["order_accuracy"] for row in rows)
  summary["categories"] = {
    category: mean(row["categories"].get(category) for row in rows)
    for category in CATEGORIES
  }
  summary["claims"] = scores.by_kind(captions, scenes)
  tokens = [tokenize(text) for text in captions.values()]
  summary |= caption_metrics.variety(tokens) | {"videos": len(rows)}
  return rows, summary


def _row(name, caption, scene) -> dict:
  return {
    "id": name,
    "video": name,
    "caption": caption,
    **scores.score(caption, scene),
    "order_accuracy": truth.order_accuracy(caption, scene),
    "faults": list(truth.judge(caption, scene).faults),
    "categories": scores.categories(caption, scene),
  }


def list_items(c, prompts) -> list[Item]:
  """One detailed caption per clip of the synthetic world."""
  scenes = chosen_scenes(c.data.scenes, c.data.only)
  return [
    Item(video, video, "", (ours.TRAINING_QUESTION,))
    for video in limited(scenes, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """Exact marks from the scene graphs; nobody is asked."""
  scenes = chosen_scenes(c.data.scenes, c.data.only)
  rows, summary = score(scenes, captions)
  return rows, summary, None


def list_files(c) -> list[str]:
  """Scene graphs, and which of them are scored."""
  return [path for path in (c.data.scenes, c.data.only) if path]


BENCHMARK = Benchmark(
  list_items, score_captions, list_files, "exact marks from scene graphs"
)
