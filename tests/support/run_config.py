"""A run of seconds: a random captioner on a very small synthetic world."""

from configs import vdc, warm_start


def get_config(arg):
  """`configs/vdc.py` with smaller numbers.

  arg: the folder in which everything lies, and behind a comma the loss.
  """
  folder, _, loss = str(arg).partition(",")
  c = vdc.get_config(f"loss={loss}" if loss else "")
  c.epochs = 2
  c.model.update(checkpoint="", tokenizer="synpo_jax/assets/tiny")
  llm = dict(
    warm_start.LLM,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
  )
  tower = dict(
    warm_start.TOWER,
    image_size=48,
    kept_ratio=0.3,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=2,
  )
  c.model.arch = dict(llm=llm, visual_encoder=tower, projector=dict(depth=2))
  c.lora.update(rank=4, alpha=4.0, dropout=0.1)
  c.world.update(folder=f"{folder}/world", clips=20, heldout=4)
  c.data.update(
    pairs=f"{folder}/world/pairs.jsonl",
    videos=f"{folder}/world",
    cache=f"{folder}/shards",
    min_score_gap=0.0,
    batch_size=2,
    accumulation=2,
    prefix_buckets=256,
  )
  c.optim.lr = 1e-2
  c.every.update(checkpoint=2, reward_norms=3)
  c.heldout.update(
    pairs=f"{folder}/world/heldout.jsonl",
    videos=f"{folder}/world",
    scenes=f"{folder}/world/scenes.jsonl",
    captions=4,
    max_new_tokens=8,
  )
  return c
