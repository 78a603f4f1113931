"""What benchmarks.decode measures, each in a process of its own."""

import os

import numpy as np

from benchmarks import decode_mixture
from benchmarks.decode_served import served
from benchmarks.decode_task import (
  DRAW,
  NO_TOKEN,
  SHAPES,
  Task,
  timed,
  torch_model,
)
from synpo_jax.models import initial
from synpo_jax.weights import config_reading


def ids(task: Task) -> np.ndarray:
  """The prompt, int64 [1, P]; the same for both sides."""
  return np.random.default_rng(0).integers(3, 40000, (1, task.prompt))


def ours(task: Task) -> list[float]:
  """A prompt and all its candidates by synpo_jax.generation.decode."""
  import jax.numpy as jnp

  from synpo_jax.generation import decode
  from synpo_jax.generation.decode_loop import Prompts
  from synpo_jax.generation.sampling import Sampling
  from synpo_jax.models.captioner import Captioner
  from synpo_jax.weights import folders

  source = task.checkpoint or SHAPES
  sizes = config_reading.captioner_config(source)
  model = Captioner(sizes)
  if task.checkpoint:
    params = folders.load(task.checkpoint, sizes, dtype=jnp.float32)
  else:
    params = initial.params(model, 0, dtype=jnp.float32)
  prompt = ids(task).astype(np.int32)
  batch = Prompts(prompt, np.ones(prompt.shape, bool))

  def work():
    decode.generate(
      model,
      {"params": params},
      batch,
      decode.row_keys(0, ["prompt"]),
      candidates=task.candidates,
      max_new_tokens=task.new,
      sampling=Sampling(**DRAW),
      eos_ids=(NO_TOKEN,),
    )

  return timed(work, task.repeats)


def theirs(task: Task) -> list[float]:
  """The same by Transformers' generate on PyTorch."""
  import torch

  model = torch_model(task.checkpoint)
  prompt = torch.tensor(ids(task))

  def work():
    model.generate(
      prompt,
      attention_mask=torch.ones_like(prompt),
      do_sample=True,
      num_return_sequences=task.candidates,
      max_new_tokens=task.new,
      min_new_tokens=task.new,
      pad_token_id=0,
      **DRAW,
    )

  return timed(work, task.repeats)


def frames_ours(task: Task) -> list[float]:
  """8 frames of the clip by synpo_jax.data.video."""
  from synpo_jax.data import video

  rule = video.FrameRule(8, 8, 1.0, fixed=8)
  return timed(lambda: video.read(task.clip, rule), task.repeats)


def frames_all(task: Task) -> list[float]:
  """The same frames after decoding every one into memory."""
  import av

  from synpo_jax.data import video

  def work():
    with av.open(task.clip) as file:
      file.streams.video[0].thread_type = "AUTO"
      pictures = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    np.stack([pictures[i] for i in video.spread(0, len(pictures) - 1, 8)])

  return timed(work, task.repeats)


def repeated(path: str, times: int, folder: str) -> str:
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
KINDS |= decode_mixture.KINDS | {"served": served}
