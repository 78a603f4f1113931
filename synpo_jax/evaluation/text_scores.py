"""How likely a language model finds given tokens, in batches of few shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import head, sharding


class Row(NamedTuple):
  """Tokens to read, and how many of the last ones are scored."""

  tokens: list[int]  # context and continuation
  scored: int  # tokens of the continuation


class Score(NamedTuple):
  """Summed log-prob of a continuation; whether greedy decoding gives it."""

  logp: float
  greedy: bool


def bucket(length: int, *, smallest: int = 16) -> int:
  """The next of 16, 24, 32, 48, 64, 96, 128, …: few shapes, little padding."""
  size = smallest
  while size < length:
    size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
  return size


def make_scorer(model, mesh, *, head_chunk: int):
  """Returns a jitted (variables, tokens, mask, at, targets) -> [2, N, R].

  tokens int32 [N,T] right-padded, mask bool [N,T]; `at` int32 [N,R]: the
  position before each scored token, `targets` int32 [N,R] the token itself.
  The result stacks log-probs and, as 0 or 1, whether the target is the most
  likely token; at most N * head_chunk rows of logits live at once.
  """

  def score(
    variables,
    tokens: Int[Array, "N T"],
    mask: Bool[Array, "N T"],
    at: Int[Array, "N R"],
    targets: Int[Array, "N R"],
  ) -> Float[Array, "2 N R"]:
    x = model.apply(variables, tokens, None, method="embed")
    positions, _ = model.apply(variables, tokens, mask, method="positions")
    segments = mask.astype(jnp.int32)
    hidden, _ = model.apply(variables, x, positions, segments, method="decode")
    picked_NRD = jnp.take_along_axis(hidden, at[..., None], axis=1)
    pieces = -(-targets.shape[1] // head_chunk)

    def piece(rows):
      hidden_NcD, targets_Nc = rows
      logits = model.apply(variables, hidden_NcD, method="logits")
      hit = jnp.take_along_axis(logits, targets_Nc[..., None], -1)[..., 0]
      logps_Nc = hit - jax.nn.logsumexp(logits, axis=-1)
      greedy_Nc = jnp.argmax(logits, axis=-1) == targets_Nc
      return jnp.stack([logps_Nc, greedy_Nc.astype(jnp.float32)])

    parts = (head.split(picked_NRD, pieces), head.split(targets, pieces))
    scores_n2Nc = jax.lax.map(piece, parts)
    scores_2NR = jnp.concatenate(list(scores_n2Nc), axis=-1)
    return scores_2NR[..., : targets.shape[1]]

  return jax.jit(score, out_shardings=sharding.replicated(mesh))


def pack(rows: list[Row], size: int) -> dict[str, np.ndarray]:
  """NumPy arrays of `size` rows for a scorer; rows that lack are repeated.

  The last token of a row is only a target, so it is not read.
  """
  rows = rows + rows[-1:] * (size - len(rows))
  T = bucket(max(len(row.tokens) - 1 for row in rows))
  R = bucket(max(row.scored for row in rows), smallest=4)
  batch = {
    "tokens": np.zeros((size, T), np.int32),
    "mask": np.zeros((size, T), bool),
    "at": np.zeros((size, R), np.int32),
    "targets": np.zeros((size, R), np.int32),
  }
  for n, row in enumerate(rows):
    read = len(row.tokens) - 1
    batch["tokens"][n, :read] = row.tokens[:-1]
    batch["mask"][n, :read] = True
    batch["at"][n, : row.scored] = np.arange(read - row.scored, read)
    batch["targets"][n, : row.scored] = row.tokens[-row.scored :]
  return batch


def score_rows(scorer, variables, mesh, rows, *, batch_size, on_batch):
  """A Score per row, in order; long rows run first. `on_batch(done rows)`.

  batch_size is raised to what the mesh's data axes divide.
  """
  size = whole_batch(mesh, batch_size)
  order = sorted(range(len(rows)), key=lambda i: -len(rows[i].tokens))
  scores = [None] * len(rows)
  for start in range(0, len(order), size):
    picked = order[start : start + size]
    batch = put(pack([rows[i] for i in picked], size), mesh)
    logps, greedy = np.asarray(scorer(variables, **batch), np.float64)
    for n, i in enumerate(picked):
      R = rows[i].scored
      scores[i] = Score(float(logps[n, :R].sum()), bool(greedy[n, :R].all()))
    on_batch(len(picked))
  return scores


def whole_batch(mesh, batch_size: int) -> int:
  """The next batch size that the mesh's data axes divide."""
  shards = mesh.shape["data"] * mesh.shape["fsdp"]
  return -(-batch_size // shards) * shards


def put(batch: dict[str, np.ndarray], mesh) -> dict[str, Array]:
  """The batch on the mesh, rows split over its data axes."""
  where = NamedSharding(mesh, P(("data", "fsdp")))
  return {
    name: jax.make_array_from_callback(
      values.shape, where, lambda index, values=values: values[index]
    )
    for name, values in batch.items()
  }
