"""Answers of a text model against another's, by a judge in both orders.

python -m synpo_jax.evaluate --config=configs/eval_preference.py \
  --workdir=runs/alpaca --config.model.checkpoint=/path/to/model \
  --config.data.reference_outputs=reference_outputs.json

Writes outputs.json, which AlpacaEval reads. With
--config.predictions=model_outputs.json nothing is generated.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "preference"
  c.data = dict(
    name="alpaca_eval",  # the dataset's name in outputs.json
    reference_outputs="reference_outputs.json",  # instruction, output
  )
  c.model = dict(checkpoint="")
  c.text_model = dict(
    dtype="bfloat16",
    batch_size=8,
    mesh=dict(data=-1, fsdp=1, model=1),
    attention="auto",  # auto | splash (TPU) | cudnn (GPU) | xla
    head_chunk=128,
  )
  c.answers = dict(
    template="tokenizer",  # its own chat template
    max_new_tokens=2048,
    sampling=dict(temperature=0.0, top_k=1, top_p=1.0),
  )
  c.prompts = "ours"  # ours | a JSON file
  c.judge = evaluation.judge()
  c.judge_tokens = dict(max_tokens=64)
  return c
