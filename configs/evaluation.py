"""What the evaluation configs have in common: captioner and judge."""

import ml_collections
from ml_collections import config_dict

from configs import serving


def shared():
  """A config without data: eval_vdc.py and its kin add theirs."""
  c = ml_collections.ConfigDict()
  c.seed = 0  # of the choice of prompts, and of sampling
  c.limit = 0  # first so many videos (of each category); 0 takes all
  c.predictions = ""  # JSONL of captions made elsewhere; then no captioner
  c.only_predicted = False  # leave out videos without a prediction
  c.videos = "."  # files, folders or globs, separated by commas
  c.root = "videos"  # where their paths start
  c.readers = 2  # videos decoded ahead
  # What one video may cost; one that costs more is a fault. Seconds of reading
  # and decoding it, frames in it, pixels of a frame, bytes of a file.
  c.limits = dict(
    seconds=600.0, frames=500_000, pixels=40_000_000, bytes=16 * 2**30
  )
  c.model = dict(
    checkpoint="",  # folder of the captioner; "" takes the adapter's own
    adapter="",  # workdir of a run of ours, or a PEFT folder
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
  c.frames = dict(
    min_frames=8,
    max_frames=16,
    frames_per_second=0.5,
    rounding="down",  # of their places; nearest: as Qwen3-VL does
    fixed=config_dict.placeholder(int),  # for all videos; None: as above
  )
  c.captions = dict(
    candidates=1,
    max_new_tokens=1024,
    temperature=0.0,  # 0: the most probable token
    top_k=1,
    top_p=1.0,
    retrospective=False,  # a second pass sees the first answer
    caution=False,  # and is asked for care
    contrast_weight=0.0,  # of contrastive decoding; the paper's is 0.5
    # Least share of the top probability, as 0.1; None without contrast.
    contrast_cutoff=config_dict.placeholder(float),
  )
  # Where the work is done; captions do not depend on it.
  c.placing = dict(
    batch_size=16,  # videos whose captions grow at once
    prefix_buckets=128,  # prompts are padded to 1, 2, 4, 8, 12, 16 ... times it
    frame_buckets=(8, 12, 16),
    attention="auto",  # auto | splash (TPU) | cudnn (GPU) | xla
    mesh=dict(data=-1, fsdp=1, model=1),  # over the devices of one process
  )
  return c


def judge():
  """A judge, and its key where the environment has none."""
  c = asking()
  c.key = ""  # API_KEY, OPENAI_API_KEY; shown and written nowhere
  return c


def asking():
  """A judge behind an OpenAI-compatible endpoint, at temperature 0."""
  c = ml_collections.ConfigDict()
  c.base_url = ""  # API_URL, OPENAI_BASE_URL
  c.model = ""  # API_MODEL, OPENAI_MODEL
  c.temperature = config_dict.FieldReference(0.0)  # None: the server's own
  c.schema = "json_schema"  # json_object (llama-cpp-python) | none
  c.asks = 3  # of one question, until the reply can be read
  # Times each question is asked, with a seed of its own: means are scored, and
  # their spread is told. At temperature 0 it is that of the server alone.
  c.repeats = 1
  # Questions of known answers come first: more wrong ones, and it is refused.
  c.may_fail = 0
  c.concurrency = 16
  c.timeout = 120.0  # seconds, of one try
  c.tries = 6  # of one request, while the server is busy or away
  c.first_wait = 1.0  # seconds; doubles from try to try
  c.longest_wait = 300.0
  c.stop_after = 50  # requests in a row without an answer
  c.limit_name = "max_tokens"  # max_completion_tokens for some hosted models
  c.extra = {}  # further fields of a request
  return c
