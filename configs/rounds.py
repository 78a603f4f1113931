"""Rounds of preference training: sample, judge, pair, train, evaluate, again.

python -m synpo_jax.rounds --config=configs/rounds.py --workdir=runs/rounds
python -m synpo_jax.rounds \
  --config=configs/rounds.py:model=auroracap_7b,loss=dpo \
  --config.checkpoint=/path/to/AuroraCap-7B-VID-xtuner \
  --config.pairs.videos='clips/*.mp4' --config.evaluate.root=/path/to/videos \
  --config.evaluate.data.questions=/path/to/VDC --workdir=runs/rounds

`pairs`, `train` and `evaluate` are the configs of make_pairs, train and
evaluate, whose functions do the work of each round. Arguments are those of
`configs/vdc.py`; without any, the shipped captioner learns from the synthetic
world, minutes on a laptop.
"""

import ml_collections
from ml_collections import config_dict

from configs import eval_shapes, eval_vdc, pairs, vdc


def get_config(arg=""):
  """`arg` is `model=…,loss=…`; both may be left out."""
  c = ml_collections.ConfigDict()
  c.rounds = 2
  c.checkpoint = ""  # folder of the captioner that the first round begins with
  # After a round the adapter is merged into the weights, and the next begins
  # with a fresh one, or kept, and the next goes on with it: merge | keep.
  c.adapter = "merge"
  # Of losses that have one: what the captioner was before a round, or, with
  # adapter=keep, before the first: refresh | first.
  c.reference = "refresh"
  # What becomes of the pairs of earlier rounds: drop | keep | mix, which draws
  # them until they are `older_share` of a round's pairs, as 0.25.
  c.older = "drop"
  c.older_share = config_dict.placeholder(float)
  # How each round's adapter gets to pairs.model.endpoint, where that writes the
  # captions: vllm (its /v1/load_lora_adapter, which reads a folder that it
  # shares with this machine). It wants adapter=keep.
  c.load_adapters = ""
  c.samples = 3  # held-out videos whose captions the page shows
  c.pairs = pairs.get_config()
  c.train = vdc.get_config(arg)
  # As evaluate does it every round, for any of its configs but preference's.
  c.evaluate = eval_vdc.get_config()
  if not c.train.world.clips:
    return c
  return embedded(c)


def embedded(c):
  """The shipped captioner on the synthetic world, judged by its truth."""
  c.checkpoint = "synpo_jax/assets/tiny"
  c.pairs = pairs.get_config("tiny")
  c.evaluate = eval_shapes.get_config()
  c.pairs.model.checkpoint = c.train.model.checkpoint = ""
  c.evaluate.model.checkpoint = c.train.data.pairs = ""
  c.train.world.update(folder="runs/world", clips=224, heldout=96)
  c.train.heldout.update(pairs="", controls=0)  # evaluate scores the rounds
  world = c.train.world.folder
  c.pairs.videos, c.pairs.root = "pairs.jsonl", world
  c.pairs.judge.truth.scenes = f"{world}/scenes.jsonl"
  # The truth needs no notes on parts to compare with.
  c.pairs.clips.update(frames=2, retrospective=False, max_new_tokens=1)
  c.pairs.candidates.update(
    retrospective=False, candidates=6, max_new_tokens=96
  )
  c.pairs.placing.batch_size = 16
  # Points of 13.5; as long as the chosen one, so that facts tell them apart.
  c.pairs.pairs.update(negative="length", least_gap=0.5, tolerance=0.15)
  c.train.data.min_score_gap = 0.5
  c.train.every.reward_norms = 0
  c.evaluate.root = f"{world}/clips"
  c.evaluate.data.update(
    scenes=f"{world}/scenes.jsonl", only=f"{world}/heldout.jsonl"
  )
  c.evaluate.captions.max_new_tokens = 96
  return c
