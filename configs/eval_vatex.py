"""VATEX: short captions against ten references; CIDEr-D, BLEU, ROUGE-L.

python -m synpo_jax.evaluate --config=configs/eval_vatex.py \
  --workdir=runs/vatex --config.data.references=vatex_test.json \
  --config.model.checkpoint=/path/to/AuroraCap-7B-VID-xtuner \
  --config.model.kept_ratio=0.1 \
  --config.root=/path/to/videos

Scores are of the whole corpus, times 100. METEOR needs Java and pycocoevalcap.
"""

from configs import evaluation


def get_config():
  c = evaluation.shared()
  c.benchmark = "vatex"
  c.data = dict(
    references="vatex_test.json",  # rows: videoID, enCap
    language="en",  # or zh: rows have chCap, and are counted by letter
    prompts=("Describe this video in one short sentence.",),
  )
  c.captions.max_new_tokens = 64
  return c
