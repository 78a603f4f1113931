"""Preference training of any text LM, without video (the NLP experiments).

python -m synpo_jax.train --config=configs/text_pairs.py:loss=synpo \
  --config.model.checkpoint=/path/to/Llama-3.1-8B-Instruct \
  --config.data.pairs=ultrafeedback.jsonl --workdir=runs/text

Rows as UltraFeedback's: {"prompt", "chosen": [messages], "rejected":
[messages]} whose lists differ in the last message; rows with plain texts are
read too. The optimiser's values are those of the video recipe; the paper
gives no others. Then: python -m synpo_jax.lm_eval_model.
"""

from configs import losses, vdc
from synpo_jax.runtime import names


def get_config(arg=""):
  """`arg` is `loss=…`, a key of LOSSES or MIXTURES in configs/losses.py.

  Checkpoint and pairs have to be given.
  """
  name, _, loss = (arg or "loss=synpo").partition("=")
  if name != "loss":
    raise ValueError(f"configs/text_pairs.py:{arg}: {name!r} is not loss")
  names.refuse_unknown("loss", loss, losses.LOSSES | losses.MIXTURES)
  c = vdc.paper(loss)
  c.epochs = 1
  c.model.kept_ratio = None
  c.data.update(
    pairs="ultrafeedback.jsonl",
    question=None,  # every row brings its own
    template="tokenizer",  # its own chat template
    min_score_gap=None,
    max_len=2048,
    prefix_buckets=16,
    response_buckets=tuple(range(32, 1025, 32)),
    batch_size=1,
    accumulation=64,
  )
  return c
