"""Videos to captions.

python -m synpo_jax.caption --config=configs/caption.py \
  --config.videos='clips/*.mp4'
python -m synpo_jax.caption --config=configs/caption.py:paper \
  --config.videos=clips --config.model.checkpoint=/path/to/AuroraCap \
  --config.model.kept_ratio=0.1 --config.model.dtype=bfloat16 \
  --config.model.adapter=runs/vdc

  --config.model.endpoint=http://localhost:8000/v1 --config.serving.model=NAME

has a server write them in place of the checkpoint.

Argument: `greedy` (the default) or `paper`: the official release's last step,
sampled with contrastive decoding and a second, retrospective pass.
"""

import functools

import ml_collections
from ml_collections import config_dict

from configs import serving
from synpo_jax.data import prompts


def get_config(arg="greedy"):
  c = ml_collections.ConfigDict()
  # None, until the command line sets a number.
  number = functools.partial(config_dict.placeholder, float)
  whole = functools.partial(config_dict.placeholder, int)
  c.videos = "."  # files, folders, globs or .jsonl lists, separated by commas
  c.root = "."  # where their paths start
  c.output = "captions.jsonl"  # grows by a row per video; rows in it are kept
  c.question = prompts.TRAINING_QUESTION
  c.seed = 0
  c.readers = 2  # videos decoded ahead
  # What one video may cost; one that costs more is a fault. Seconds of reading
  # and decoding it, frames in it, pixels of a frame, bytes of a file.
  c.limits = dict(
    seconds=600.0, frames=500_000, pixels=40_000_000, bytes=16 * 2**30
  )
  c.model = dict(
    checkpoint="synpo_jax/assets/tiny",  # folder; "" takes the adapter's own
    adapter="",  # workdir of a run of ours, or a PEFT folder
    kept_ratio=number(),  # visual tokens that stay; None: the run's, or all
    dtype="float32",  # bfloat16 on accelerators
    base="float",  # int8: the decoder's linear layers in a byte a weight
    kv="float",  # int8: keys and values too; captions differ a little
    template="aurora",  # chat format: a key of data/text.py's TEMPLATES
    # auto: sizes that follow the video, of so many tokens in all, where the
    # model's own processor has such (Qwen-VL); else crop. Or squash.
    pixels=dict(resize="auto", resample="bicubic", tokens=1152),
    endpoint="",  # address of a server that writes the captions instead
  )
  c.serving = serving.serving()
  c.frames = dict(min_frames=8, max_frames=16, frames_per_second=0.5)
  c.frames.rounding = "down"  # of their places; nearest: as Qwen3-VL does
  c.frames.fixed = whole()  # their number for all videos; None: as above
  c.captions = dict(
    candidates=1,
    max_new_tokens=1024,
    temperature=0.0,  # 0: the most probable token
    top_k=1,
    top_p=1.0,
    retrospective=False,  # a second pass sees the first answer
    caution=False,  # and is asked for care
    contrast_weight=0.0,  # of contrastive decoding; the paper's is 0.5
    contrast_cutoff=number(),  # least share of the top one, as 0.1, or None
  )
  # Where the work is done; captions do not depend on it.
  c.placing = dict(
    batch_size=8,  # videos whose captions grow at once
    prefix_buckets=64,  # prompts are padded to 1, 2, 4, 8, 12, 16 ... times it
    frame_buckets=(8, 16),
    attention="auto",  # auto | splash (TPU) | cudnn (GPU) | xla
    mesh=dict(data=-1, fsdp=1, model=1),  # over the devices of one process
  )
  if arg == "paper":
    c.captions.update(temperature=0.5, top_k=32, top_p=0.9)
    c.captions.update(retrospective=True, contrast_weight=0.5)
  elif arg != "greedy":
    raise ValueError(f"configs/caption.py:{arg}: choose greedy or paper")
  return c
