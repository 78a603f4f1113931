"""Keypoints: how many known facts of a video its caption tells, and how right.

python -m synpo_jax.evaluate --config=configs/eval_keypoints.py \
  --workdir=runs/keypoints --config.data.references=keypoints.jsonl \
  --config.predictions=captions.jsonl

Accuracy, coverage and precision by category. Without predictions the captioner
of c.model writes the captions of --config.root. The judge's address, model and
key come from API_URL, API_MODEL and API_KEY, or from below.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "keypoints"
  # Rows: video, keypoints (texts, or objects of keypoint and category); perhaps
  # category and question.
  c.data = dict(references="keypoints.jsonl")
  c.prompts = "ours"  # ours | a JSON file with the messages relate
  c.judge = evaluation.judge()
  c.judge_tokens = dict(relate_tokens=1024)
  return c
