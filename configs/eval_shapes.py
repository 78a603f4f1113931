"""The synthetic world: exact marks from scene graphs, no judge.

python -m synpo_jax.evaluate --config=configs/eval_shapes.py \
  --workdir=runs/shapes --config.root=world/clips \
  --config.data.scenes=world/scenes.jsonl \
  --config.data.only=world/heldout.jsonl

The files are those that python -m synpo_jax.world --out=world writes;
--config.data.only= scores every clip of a world without held-out ones.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "shapes"
  c.root = "world/clips"
  c.data = dict(
    scenes="world/scenes.jsonl",
    # What to score: a text of ids, or JSONL rows with a video; empty: all.
    only="world/heldout.jsonl",
  )
  c.model.update(
    checkpoint="synpo_jax/assets/tiny", kept_ratio=None, dtype="float32"
  )
  c.captions.max_new_tokens = 128
  c.frames.update(min_frames=8, max_frames=8)
  c.placing.update(prefix_buckets=64, frame_buckets=(8,))
  return c
