"""AutoDQ: events of a caption and of its reference, entailed both ways.

python -m synpo_jax.evaluate --config=configs/eval_events.py \
  --workdir=runs/events --config.data.references=events.jsonl \
  --config.predictions=captions.jsonl

Precision, recall and F1 by category (DREAM-1K's measure). Without predictions
the captioner of c.model writes the captions of --config.root. The judge's
address, model and key come from API_URL, API_MODEL and API_KEY, or from below.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "events"
  # Rows: video, reference; perhaps category, question, events (of the
  # reference, a list of sentences; else the judge lists them).
  c.data = dict(references="events.jsonl")
  c.prompts = "ours"  # ours | a JSON file with the messages events and relate
  c.judge = evaluation.judge()
  c.judge_tokens = dict(event_tokens=512, relate_tokens=1024)
  return c
