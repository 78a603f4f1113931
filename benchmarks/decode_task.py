"""One measurement of benchmarks.decode, and how it is timed."""

import os
import time
from typing import NamedTuple

from benchmarks import workload

SHAPES = workload.SIZES["smollm2_135m"]
DRAW = dict(temperature=0.9, top_k=32, top_p=0.95)
NO_TOKEN = -1  # as the end: nothing ends early


class Task(NamedTuple):
  """One measurement."""

  kind: str
  repeats: int
  checkpoint: str = ""  # folder; "" for random weights
  prompt: int = 0  # tokens
  new: int = 0  # tokens of each candidate
  candidates: int = 0
  clip: str = ""
  videos: int = 0  # prompts, of a mixture of lengths
  together: int = 0  # of them at a time


def timed(work, repeats: int) -> list[float]:
  """Seconds of each run of `work` behind a first one that is not counted."""
  work()
  out = []
  for _ in range(repeats):
    start = time.perf_counter()
    work()
    out.append(time.perf_counter() - start)
  return out


def torch_model(checkpoint: str):
  """Transformers' model on PyTorch, on all cores; "" for random weights."""
  import torch
  import transformers

  torch.manual_seed(0)
  torch.set_num_threads(os.cpu_count())
  if not checkpoint:
    config = transformers.LlamaConfig(**SHAPES)
    return transformers.LlamaForCausalLM(config).eval()
  return transformers.AutoModelForCausalLM.from_pretrained(
    checkpoint, dtype=torch.float32
  ).eval()
