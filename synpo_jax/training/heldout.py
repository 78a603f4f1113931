"""What training changed, on clips it never saw."""

import collections

import jax
import numpy as np
from rich.table import Table

from synpo_jax.generation import decode, sampling
from synpo_jax.models import sharding
from synpo_jax.training import update
from synpo_jax.world import scene, truth

SHOWN = {  # metric -> its title in the table
  "accuracy": "ranking accuracy",
  "chosen_logp": "log-prob per token, chosen",
  "rejected_logp": "log-prob per token, rejected",
  "margin": "margin of geometric means",
  "factuality": "factuality of greedy captions (0-5)",
  "fluency": "fluency of greedy captions (0-5)",
  "qa_accuracy": "questions answered right",
}


def score_pairs(eval_step, trained, frozen, data, mesh) -> dict[str, float]:
  """Means of `update.pair_sums` over all pairs of `data`."""
  total = collections.Counter()
  for index in range(len(data.batches)):
    batch = sharding.put_batch(data.batches[index], mesh)
    total.update(jax.device_get(eval_step(trained, frozen, batch)))
  means = update.means(total)
  return {name: float(value) for name, value in means.items()}


def write_captions(model, variables, data, tokenizer, end, *, most, new, mesh):
  """Greedy captions {video: text} of the first `most` videos of `data`.

  new: longest caption, in tokens. end: the token that ends a caption.
  """
  captions = {}
  for index in range(len(data.batches)):
    if len(captions) >= most:
      break
    batch = {k: v[0] for k, v in data.batches[index].items()}
    names = [data.pairs[row].video for row in batch["row"]]
    keep = ("prefix", "prefix_mask", "frames", "features")
    prompts = {k: v for k, v in batch.items() if k in keep}
    made = decode.generate(
      model,
      variables,
      jax.device_put(prompts, sharding.rows_sharding(mesh)),
      decode.row_keys(0, [str(name) for name in names]),
      candidates=1,
      max_new_tokens=new,
      how=sampling.GREEDY,
      eos_ids=(end,),
    )
    for name, row, ids in zip(names, batch["row"], made.tokens, strict=True):
      if row >= 0 and len(captions) < most:
        text = tokenizer.decode(ids[0], skip_special_tokens=True)
        captions.setdefault(name, text.strip())
  return captions


def score_captions(captions, scenes_path) -> dict[str, float]:
  """Mean exact scores of captions against their clips' scene graphs."""
  scenes = scene.read_scenes(scenes_path)
  rows = []
  for video, caption in captions.items():
    told = scenes[video.rpartition("/")[2].removesuffix(".mp4")]
    judged = truth.judge(caption, told)
    rows.append(
      {
        "factuality": judged.factuality,
        "fluency": judged.fluency,
        "qa_accuracy": np.mean(list(truth.qa_accuracy(caption, told).values())),
      }
    )
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def table(before: dict, after: dict) -> Table:
  """Before and after, side by side."""
  shown = Table("held-out clips", "before", "after")
  for name, title in SHOWN.items():
    if name in before:
      values = (f"{scores[name]:.3f}" for scores in (before, after))
      shown.add_row(title, *values)
  return shown
