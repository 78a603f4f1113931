"""How fast captions and frames come, beside PyTorch and plain decoding.

python -m benchmarks.decode --text
python -m benchmarks.decode --clip=runs/smol/clips/bigbuckbunny.mp4

Every measurement is a process of its own; those to be compared take turns, so
that a busy machine is busy for both. Shown are medians over the rounds.
`python -m synpo_jax.wheels --out=runs/smol` unpacks the clip.

Text: SmolLM2-135M's shapes with random weights, float32, sampled (temperature
0.9, top-k 32, top-p 0.95), nothing ends early. Video: 8 frames of the clip
as RGB, against decoding every frame into memory first.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from rich.console import Console
from rich.table import Table

PROMPT = flags.DEFINE_integer("prompt", 128, "Tokens of the prompt.")
NEW = flags.DEFINE_integer("new", 128, "Tokens generated per candidate.")
CANDIDATES = flags.DEFINE_list("candidates", ["1", "10"], "Rows per prompt.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each kind.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs in each process.")
TEXT = flags.DEFINE_bool("text", False, "Measure generation.")
CLIP = flags.DEFINE_string("clip", None, "Measure reading this video.")
CHILD = flags.DEFINE_string("child", None, "One measurement; used inside.")

SHAPES = dict(
  vocab_size=49152,
  hidden_size=576,
  intermediate_size=1536,
  num_hidden_layers=30,
  num_attention_heads=9,
  num_key_value_heads=3,
  rms_norm_eps=1e-5,
  rope_theta=100000.0,
  tie_word_embeddings=True,
)
NO_TOKEN = -1  # as the end: nothing ends early


def timed(work):
  """Seconds of each run of `work` behind a first one that is not counted."""
  work()
  out = []
  for _ in range(REPEATS.value):
    start = time.perf_counter()
    work()
    out.append(time.perf_counter() - start)
  return out


def ours():
  """Seconds of one prompt and all its candidates, by synpo_jax.decode."""
  import jax.numpy as jnp
  import numpy as np

  from synpo_jax import decode
  from synpo_jax.models import config, weights
  from synpo_jax.models.captioner import Captioner
  from synpo_jax.sampling import Sampling

  sizes = config.captioner_config(dict(SHAPES, model_type="llama"))
  model = Captioner(sizes)
  params = weights.init(model, 0, dtype=jnp.float32)
  ids = np.random.default_rng(0).integers(3, 1000, (1, PROMPT.value))
  batch = dict(
    prefix=ids.astype(np.int32), prefix_mask=np.ones(ids.shape, bool)
  )

  def work():
    decode.generate(
      model,
      {"params": params},
      batch,
      decode.row_keys(0, ["prompt"]),
      candidates=int(CANDIDATES.value[0]),
      max_new_tokens=NEW.value,
      how=Sampling(temperature=0.9, top_k=32, top_p=0.95),
      eos_ids=(NO_TOKEN,),
    )

  return timed(work)


def theirs():
  """The same by Transformers' generate on PyTorch."""
  import torch
  import transformers

  torch.manual_seed(0)
  torch.set_num_threads(os.cpu_count())
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPES))
  model.eval()
  ids = torch.randint(3, 1000, (1, PROMPT.value))

  def work():
    model.generate(
      ids,
      attention_mask=torch.ones_like(ids),
      do_sample=True,
      temperature=0.9,
      top_k=32,
      top_p=0.95,
      num_return_sequences=int(CANDIDATES.value[0]),
      max_new_tokens=NEW.value,
      min_new_tokens=NEW.value,
      pad_token_id=0,
    )

  return timed(work)


def frames_ours():
  """Seconds of 8 frames of the clip by synpo_jax.data.video."""
  from synpo_jax.data import video

  rule = video.FrameRule(8, 8, 1.0, fixed=8)
  return timed(lambda: video.read(CLIP.value, rule))


def frames_all():
  """Seconds of the same frames after decoding every one into memory."""
  import av
  import numpy as np

  from synpo_jax.data import video

  def work():
    with av.open(CLIP.value) as file:
      file.streams.video[0].thread_type = "AUTO"
      pictures = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    np.stack([pictures[i] for i in video.spread(0, len(pictures) - 1, 8)])

  return timed(work)


def repeated(path, times, folder):
  """A file that shows `path` several times over, without encoding anew."""
  import av

  out = os.path.join(folder, f"{times}_{os.path.basename(path)}")
  with av.open(out, "w") as target:
    stream, shift = None, 0
    for _ in range(times):
      with av.open(path) as source:
        first = source.streams.video[0]
        stream = stream or target.add_stream_from_template(first)
        packets = [p for p in source.demux(first) if p.size]
        for packet in packets:
          packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
          packet.stream = stream
          target.mux(packet)
        shift = max(p.pts + p.duration for p in packets)
  return out


KINDS = {f.__name__: f for f in (ours, theirs, frames_ours, frames_all)}


def measure(kind, **changed):
  """Runs one kind in a process: median seconds, peak MB of memory."""
  values = {"prompt": PROMPT.value, "new": NEW.value, "clip": CLIP.value}
  values |= {"repeats": REPEATS.value, **changed, "child": kind}
  command = [sys.executable, "-m", "benchmarks.decode"]
  command += [f"--{k}={v}" for k, v in values.items() if v is not None]
  done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
  found = json.loads(done.stdout.splitlines()[-1])
  return statistics.median(found["seconds"]), found["peak_mb"]


def compare(first, second, **changed):
  """Medians over rounds of both kinds, which take turns."""
  runs = {first: [], second: []}
  for _ in range(ROUNDS.value):
    for kind in runs:
      runs[kind].append(measure(kind, **changed))
  return [
    [statistics.median(column) for column in zip(*rows, strict=True)]
    for rows in runs.values()
  ]


def text_table():
  """Generation, for each number of candidates."""
  title = f"{PROMPT.value} tokens in, {NEW.value} out, float32, CPU"
  table = Table("candidates", "synpo_jax", "transformers", "ratio", title=title)
  for count in CANDIDATES.value:
    rows = compare("ours", "theirs", candidates=count)
    speeds = [int(count) * NEW.value / seconds for seconds, _ in rows]
    cells = [
      f"{speed:.1f} tokens/s, {peak:.0f} MB"
      for speed, (_, peak) in zip(speeds, rows, strict=True)
    ]
    table.add_row(count, *cells, f"{speeds[0] / speeds[1]:.2f}x")
  return table


def video_table():
  """Reading 8 frames, and the memory it takes of a longer clip."""
  table = Table("8 frames", "seconds", "peak MB", title=CLIP.value)
  rows = compare("frames_ours", "frames_all")
  for name, (seconds, peak) in zip(
    ("synpo_jax", "all frames first"), rows, strict=True
  ):
    table.add_row(name, f"{seconds:.3f}", f"{peak:.0f}")
  table.add_row("ratio", f"{rows[1][0] / rows[0][0]:.2f}x", "")
  with tempfile.TemporaryDirectory() as folder:
    longer = repeated(CLIP.value, 4, folder)
    for name, kind in zip(
      ("synpo_jax", "all frames first"),
      ("frames_ours", "frames_all"),
      strict=True,
    ):
      seconds, peak = measure(kind, clip=longer)
      name = f"{name}, 4 times as long"
      table.add_row(name, f"{seconds:.3f}", f"{peak:.0f}")
  return table


def main(argv):
  """Prints the tables that were asked for."""
  del argv
  if CHILD.value:
    seconds = KINDS[CHILD.value]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))
    return
  if not (TEXT.value or CLIP.value):
    sys.exit("error: give --text or --clip=FILE, or both")
  console = Console()
  if TEXT.value:
    console.print(text_table())
  if CLIP.value:
    console.print(video_table())


if __name__ == "__main__":
  app.run(main)
