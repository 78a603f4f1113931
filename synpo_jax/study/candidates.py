"""What a captioner writes of clips, judged exactly, and pairs made of it."""

import functools
import pathlib

from synpo_jax.generation import batch_captions
from synpo_jax.generation.sampling import Sampling
from synpo_jax.pairing import choose
from synpo_jax.runtime import journal
from synpo_jax.runtime import progress as progress_bar
from synpo_jax.study import material
from synpo_jax.study.material import Captioner, Ground
from synpo_jax.world import scores


def make_pairs(
  c, captioner: Captioner, ground: Ground, folder: pathlib.Path, splits, pairs
) -> dict[str, pathlib.Path]:
  """Files of pairs by split, in `folder`, of the captioner's own captions.

  c: a config with `candidates` and `run`. pairs: settings of `choose_pairs`.
  """
  journal_of = folder / "candidates.jsonl"
  texts = sample(c, captioner, ground, splits, journal_of)
  paths = {}
  for split in splits:
    paths[split] = folder / f"pairs_{split}.jsonl"
    rows = choose_pairs(ground, ground.splits[split], texts, **pairs)
    if not rows:
      raise ValueError(
        f"no pair of the {split} clips has a gap of {pairs['min_gap']}; lower "
        "pairs.min_gap or sample more candidates"
      )
    journal.rewrite(paths[split], rows)
  return paths


def sample(c, captioner, ground, splits, path) -> dict[str, list[str]]:
  """{video: candidates}, kept in a journal as they are written."""
  settings = c.candidates.to_dict()
  write = functools.partial(
    batch_captions.write,
    captioner.model.clone(lora=None),
    {"params": captioner.params},
    mesh=captioner.mesh,
    sampling=Sampling(**settings.pop("sampling")),
    max_new_tokens=settings.pop("new"),
    **captioner.texts._asdict(),
    **settings,
  )
  with journal.extend(path) as (rows, append):
    for split in splits:
      data = material.read_data(
        c, captioner, ground, ground.references[split], captions=1
      )
      with progress_bar.bar(f"candidates, {split}", len(data.pairs)) as advance:
        for index in range(len(data.batches)):
          batch = data.batches[index].micro(0)
          names = [_name(data, row) for row in batch.row]
          if {*names} - {""} - rows.keys():
            made = write(batch, [name or "filler" for name in names])
            for name, captions in zip(names, made, strict=True):
              if name and name not in rows:
                append({"id": name, "captions": captions})
          advance(sum(bool(name) for name in names))
    return {name: row["captions"] for name, row in rows.items()}


def _name(data, row):
  return material.video_id(data.pairs[row].video) if row >= 0 else ""


def choose_pairs(
  ground, ids, candidates, *, min_gap, length_ratio, most=None, lists=False
) -> list[dict]:
  """Rows of pairs, judged by `world.scores`, of the first clips that have one.

  Of a clip's candidates the best by F1 of claims is chosen and the worst
  rejected, of those that are as long as the best: so facts, not length, tell
  them apart.

  Args:
    min_gap: least difference of F1.
    length_ratio: most words of the longer, in words of the shorter.
    most: pairs; None: of every clip.
    lists: rows of all those candidates with their F1 (data/lists.py) in the
      place of pairs; which a loss of pairs reads as the same pairs.
  """
  rows = []
  for video in ids:
    texts = candidates[video]
    marks = [scores.score(text, ground.scenes[video])["f1"] for text in texts]
    marks = alike(texts, marks, length_ratio)
    pair = choose.choose(texts, marks, choose.WORST)
    if isinstance(pair, str):  # the reason why there is none
      continue
    high, low = marks[pair.chosen], marks[pair.rejected]
    if high - low < min_gap:
      continue
    row = material.clip_row(video)
    if lists:
      places = [place for _, place in choose.distinct(texts, marks)]
      row |= {"captions": [texts[place] for place in places]}
      rows.append(row | {"scores": [marks[place] for place in places]})
      continue
    row |= {"chosen": texts[pair.chosen], "rejected": texts[pair.rejected]}
    rows.append(row | {"chosen_score": high, "rejected_score": low})
  return rows[:most]


def alike(texts: list[str], marks: list[float], ratio: float):
  """Marks, None where a text's length is not that of the best, the first."""
  lengths = [max(1, len(text.split())) for text in texts]
  like = lengths[marks.index(max(marks))]
  return [
    mark if max(length, like) <= ratio * min(length, like) else None
    for mark, length in zip(marks, lengths, strict=True)
  ]
