"""VDCscore: five categories, two questions to a judge per question.

python -m synpo_jax.evaluate --config=configs/eval_vdc.py --workdir=runs/vdc \
  --config.model.checkpoint=/path/to/AuroraCap-7B-VID-xtuner \
  --config.model.kept_ratio=0.1 \
  --config.data.questions=/path/to/VDC --config.root=/path/to/videos

The published judge is Llama-3.1-8B-Instruct: serve it with SGLang or vLLM and
set API_URL and API_MODEL, or the keys of c.judge.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "vdc"
  c.data = dict(
    questions="data/vdc",  # folder of the published CATEGORY.jsonl files
    categories=("camera", "short", "background", "main_object", "detailed"),
  )
  c.prompts = "auto"  # auto | ours | lmms_eval | a JSON file
  c.judge = evaluation.judge()
  c.judge_tokens = dict(answer_tokens=256, compare_tokens=256)
  return c
