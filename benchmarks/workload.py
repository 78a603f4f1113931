"""What every implementation of the step is given: sizes, tokens, weights.

Nothing here needs more than NumPy, because PyTorch's side runs in an
environment without JAX.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = ROOT / "runs" / "benchmarks"  # weights and results; ignored by git

LLAMA = dict(
  model_type="llama",
  architectures=["LlamaForCausalLM"],
  hidden_act="silu",
  rms_norm_eps=1e-5,
  rope_theta=100000.0,
  tie_word_embeddings=True,
  bos_token_id=1,
  eos_token_id=2,
  pad_token_id=0,
  max_position_embeddings=8192,
)
SIZES = {
  "smollm2_135m": LLAMA
  | dict(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
  ),
  "llama_1b": LLAMA  # Llama-3.2-1B's
  | dict(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    rope_theta=500000.0,
  ),
  "vicuna_7b": LLAMA  # AuroraCap's language model
  | dict(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    rope_theta=10000.0,
    tie_word_embeddings=False,
  ),
  "tiny": LLAMA
  | dict(
    vocab_size=128,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
  ),
}
EOS = 2
RECIPE = dict(  # of the official release, for every implementation
  lr=5e-6, weight_decay=0.01, alpha=30.0, beta=0.2, dpo_beta=0.1, dropout=0.05
)


class Shape(NamedTuple):
  """Tokens of the prompt, and of each of the two captions."""

  prefix: int
  response: int

  def __str__(self):
    return f"{self.prefix}:{self.response}"


def shape(text: str) -> Shape:
  """`1168:200` as a Shape; ValueError names what is none."""
  try:
    prefix, response = map(int, text.split(":"))
  except ValueError as error:
    message = f"shape {text!r}: write PREFIX:RESPONSE, as 1168:200"
    raise ValueError(message) from error
  if prefix < 1 or response < 2:
    raise ValueError(f"shape {text!r}: a prompt of 1 and captions of 2 tokens")
  return Shape(prefix, response)


class Task(NamedTuple):
  """One measurement: an implementation at a shape."""

  impl: str
  shape: Shape
  size: str  # a key of SIZES
  pairs: int  # in a batch
  folder: str  # weights: `base` and `adapter`
  dtype: str  # of the frozen weights and of the computation
  device: str  # "cpu" or "cuda"
  checkpointing: bool  # PyTorch's rows recompute layers in the backward pass
  dropout: float  # of the adapter
  overrides: dict  # of our config, by dotted key

  def text(self) -> str:
    """As one argument of a command line."""
    return json.dumps(self._asdict())


def task(text: str) -> Task:
  """What `Task.text` gave."""
  fields = json.loads(text)
  return Task(**fields | {"shape": Shape(*fields["shape"])})


def pair(task: Task) -> tuple[np.ndarray, np.ndarray]:
  """(prompts int64 [B, P], chosen and rejected int64 [B, 2, R]), no padding.

  Ids are drawn, the same for every implementation; captions end with EOS.
  """
  prefix, response = task.shape
  rng = np.random.default_rng([prefix, response])
  vocab = SIZES[task.size]["vocab_size"]
  prompts = rng.integers(3, vocab, (task.pairs, prefix))
  captions = rng.integers(3, vocab, (task.pairs, 2, response))
  captions[..., -1] = EOS
  return prompts, captions


def weights_folder(size: str, rank: int, dtype: str) -> pathlib.Path:
  """Where the weights of a size lie: `base` and `adapter`."""
  return FILES / f"{size}_rank{rank}_{dtype}"
