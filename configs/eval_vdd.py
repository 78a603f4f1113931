"""VDD: detail orientation of descriptions, 0 to 5 by a judge.

python -m synpo_jax.evaluate --config=configs/eval_vdd.py --workdir=runs/vdd \
  --config.model.checkpoint=/path/to/AuroraCap-7B-VID-xtuner \
  --config.model.kept_ratio=0.1 \
  --config.data.references=vdd.jsonl --config.root=/path/to/videos
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "vdd"
  c.data = dict(references="vdd.jsonl")  # rows: video_name, question, answer
  c.prompts = "auto"  # auto | ours | lmms_eval | a JSON file
  c.judge = evaluation.judge()
  c.judge_tokens = dict(max_tokens=64)
  return c
