"""Clips, pairs of them and a random captioner, for what is cached of them."""

import json
from types import SimpleNamespace

import jax

from synpo_jax.data import pipeline, text, video
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import feature_cache
from synpo_jax.weights import loading
from synpo_jax.weights.config_reading import captioner_config
from tests.support import clips, run_config

RULE = video.FrameRule(min_frames=1, max_frames=4, frames_per_second=1.0)


def make_setting(folder):
  """Clips of 1 to 4 seconds, a random captioner with an adapter, its mesh."""
  for seconds in range(1, 5):
    clip = dict(size=(48, 48), rate=5, codec="mjpeg", pixels="yuvj420p")
    clips.stamped(folder / f"v{seconds}.avi", 5 * seconds, **clip)
  c = run_config.get_config(folder)
  arch = c.model.arch.to_dict()
  arch["visual_encoder"] |= dict(num_hidden_layers=2, patch_size=16)
  arch["visual_encoder"] |= dict(kept_ratio=1.0)  # compiles faster
  arch["llm"] |= dict(num_hidden_layers=1)
  model = Captioner(captioner_config(arch), LoraConfig(4, 4.0, 0.0))
  mesh = sharding.make_mesh(data=2, fsdp=1, model=1, devices=jax.devices()[:2])
  variables = loading.load_variables(model, "", mesh, 0)
  write_pairs(folder, ["v1.avi", "v2.avi", "v3.avi"])
  return SimpleNamespace(
    folder=folder,
    c=c,
    tokenizer=text.load_tokenizer(c.model.tokenizer),
    model=model,
    mesh=mesh,
    variables=variables,
    tower=variables["params"]["tower"],
  )


def write_pairs(folder, videos):
  """Pairs of these videos, in the folder's pairs.jsonl; None: text alone."""
  rows = [
    {
      "id": str(number),
      "question": "Describe the video.",
      "chosen": "the red circle moves " * (1 + number % 2),
      "rejected": "the blue square moves",
      **({"video": name} if name else {}),
    }
    for number, name in enumerate(videos)
  ]
  path = folder / "pairs.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(setting, cache, size=(48, 48), rule=RULE, **changed):
  """The pairs of the setting's folder, as a run of two epochs reads them."""
  values = dict(
    pairs=str(setting.folder / "pairs.jsonl"),
    videos=str(setting.folder),
    cache=str(cache),
    question=None,
    template="aurora",
    min_score_gap=None,
    max_len=256,
    too_long="drop",
    prefix_buckets=(128,),
    response_buckets=(16,),
    most_shapes=8,
    frame_buckets=(4,),
    batch_size=2,
    accumulation=1,
    workers=0,
  )
  return pipeline.make(
    pipeline.Settings(**values | changed),
    rule=rule,
    preprocess=video.Preprocess(size=size),
    tokenizer=setting.tokenizer,
    blocks=setting.model.config.blocks,
    captions=2,
    epochs=2,
    seed=0,
  )


def features(setting, cache, verify=0):
  """Swaps the frames of data for features that lie in this cache."""
  return feature_cache.make(
    setting.model, setting.tower, cache, frames_at_once=4, verify=verify
  )


def said(capsys):
  """What was printed of caches, line by line."""
  lines = capsys.readouterr().out.splitlines()
  return [line for line in lines if line.startswith(("features", "referen"))]
