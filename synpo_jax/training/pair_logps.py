"""From a batch of pairs to the log-prob of every caption token.

Two layouts of the same computation. `shared` holds one row per pair,
[prefix | chosen | rejected]: the captions see the prefix and themselves, and
every caption's positions restart where the prefix ends. `two_sequence` holds
one row per caption, as the official release does. Both score the first
caption token from the last prefix position. Where the batch says that pairs
share rows (data/packing.py), a row holds several of the first kind.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Int32

from synpo_jax.data.batch import Batch
from synpo_jax.losses import modifiers
from synpo_jax.models import captioner, data_parts, head, sharding
from synpo_jax.models.packed_rows import Pairs, Slots, pair_of


class Scoring(NamedTuple):
  """How captions are scored, whoever asks.

  layout: key of LAYOUTS. head_chunk: positions of a row that meet the
  vocabulary at once. head_sharding: of the head's kernel while it scores.
  rows_sharding: holds the embeddings to a split by rows: those of a table
  whose width is split (FSDP) would else be split by width, and the layers
  after them. None off a mesh.
  """

  layout: str
  head_chunk: int
  head_sharding: NamedSharding | None
  rows_sharding: NamedSharding | None

  @property
  def mesh(self) -> Mesh | None:
    """The mesh that rows are split over."""
    return self.rows_sharding and self.rows_sharding.mesh


def make_scoring(*, layout_name: str, head_chunk: int, mesh: Mesh) -> Scoring:
  """The scoring of a config's `step` section on a mesh."""
  if layout_name not in LAYOUTS:
    raise ValueError(
      f"step.layout_name={layout_name}: choose one of {', '.join(LAYOUTS)}"
    )
  return Scoring(
    layout_name,
    head_chunk,
    sharding.head_sharding(mesh),
    sharding.rows_sharding(mesh),
  )


class Rows(NamedTuple):
  """What the decoder reads; N rows of T positions.

  segments: 0 padding, 1 seen by all later, 2+c seen by caption c alone. slots:
  where the captions of a packed row lie, None for plain rows. Of rows of Pairs
  batch.Packed has the segments.
  """

  tokens: Int32[Array, "N T"]
  positions: Int32[Array, "N T"] | Int32[Array, "N T 3"]
  segments: Int32[Array, "N T"]
  slots: Slots | Pairs | None


def pair_logps(
  model, variables, batch: Batch, scoring: Scoring
) -> Float[Array, "B C R"]:
  """Float32 log-prob of each caption token, without dropout."""
  return pair_scores(model, variables, batch, scoring).logps


def pair_scores(
  model,
  variables,
  batch: Batch,
  scoring: Scoring,
  *,
  train_head=False,
  collisions=False,
  rngs=None,
) -> head.Scores:
  """Of each caption token, float32 [B, C, R]; padding holds finite values.

  `batch` is one micro-batch; `rngs` switches LoRA dropout on; `train_head`
  says that the head learns; `collisions` asks for them too. The video is
  encoded once per pair in either layout.
  """
  layout = PACKED if batch.packed else LAYOUTS[scoring.layout]
  visual = captioner.visual_embeddings(
    model, variables, batch.frames, batch.features, rngs
  )
  rows = layout.rows(model, variables, batch)
  pair = pair_of(rows.segments) if batch.packed else None
  if visual is not None and not batch.packed:
    repeats = rows.tokens.shape[0] // visual.shape[0]
    visual = jnp.repeat(visual, repeats, axis=0)
  x = model.apply(variables, rows.tokens, visual, pair, method="embed")
  if scoring.rows_sharding is not None:
    place = data_parts.still(scoring.rows_sharding)
    x = jax.lax.with_sharding_constraint(x, place)
  hidden, _ = model.apply(
    variables,
    x,
    rows.positions,
    rows.segments,
    deterministic=rngs is None,
    slots=rows.slots,
    rngs=rngs,
    method="decode",
  )
  scores = head.token_scores(
    layout.scored(hidden, batch),
    model.apply(variables, method="head_kernel"),
    batch.packed.targets if batch.packed else _flat(batch.response),
    chunk=scoring.head_chunk,
    softcap=model.config.decoder.final_softcap,
    trainable=train_head,
    tied=model.config.decoder.tied,
    kernel_sharding=scoring.head_sharding,
    collisions=collisions,
  )
  if batch.packed:
    return jax.tree.map(lambda x_NM: _of_captions(x_NM, batch), scores)
  return jax.tree.map(lambda x: x.reshape(batch.response.shape), scores)


def _prefix_positions(model, variables, batch):
  return model.apply(
    variables, batch.prefix, batch.prefix_mask, method="positions"
  )


def _response_positions(next_B, length, like):
  """Positions [B, R] (or [B, R, 3]) that follow the prefix."""
  positions_BR = next_B[:, None] + jnp.arange(length, dtype=next_B.dtype)[None]
  if like.ndim == 3:
    return jnp.broadcast_to(
      positions_BR[..., None], (*positions_BR.shape, like.shape[-1])
    )
  return positions_BR


def shared_rows(model, variables, batch) -> Rows:
  """One row [prefix | caption 0 | caption 1 ...] per pair."""
  B, C, R = batch.response.shape
  prefix_positions, next_B = _prefix_positions(model, variables, batch)
  response_positions = _response_positions(next_B, R, prefix_positions)
  segments_BCR = batch.response_mask * (2 + jnp.arange(C)[None, :, None])
  return Rows(
    jnp.concatenate([batch.prefix, _flat(batch.response)], axis=1),
    jnp.concatenate([prefix_positions] + [response_positions] * C, axis=1),
    jnp.concatenate(
      [batch.prefix_mask.astype(jnp.int32), _flat(segments_BCR)], axis=1
    ).astype(jnp.int32),
    Slots(batch.prefix.shape[1], R, C),
  )


def shared_scored(hidden_BTD, batch) -> Float[Array, "B M D"]:
  """The hidden states that predict each caption token."""
  B, C, R = batch.response.shape
  P = batch.prefix.shape[1]
  last = hidden_BTD[:, P - 1 : P]
  slots = hidden_BTD[:, P:].reshape(B, C, R, -1)
  first = jnp.broadcast_to(last[:, None], (B, C, 1, last.shape[-1]))
  scored_BCRD = jnp.concatenate([first, slots[:, :, :-1]], axis=2)
  return scored_BCRD.reshape(B, C * R, -1)


def two_sequence_rows(model, variables, batch) -> Rows:
  """One row [prefix | caption] per caption: N = B*C, pair by pair."""
  B, C, R = batch.response.shape
  prefix_positions, next_B = _prefix_positions(model, variables, batch)
  response_positions = _response_positions(next_B, R, prefix_positions)
  positions = jnp.concatenate([prefix_positions, response_positions], axis=1)
  mask_NR = batch.response_mask.reshape(B * C, R)
  prefix_mask_NP = jnp.repeat(batch.prefix_mask, C, axis=0)
  return Rows(
    jnp.concatenate(
      [
        jnp.repeat(batch.prefix, C, axis=0),
        batch.response.reshape(B * C, R),
      ],
      axis=1,
    ),
    jnp.repeat(positions, C, axis=0),
    jnp.concatenate([prefix_mask_NP, mask_NR], axis=1).astype(jnp.int32),
    None,
  )


def two_sequence_scored(hidden_NTD, batch) -> Float[Array, "B M D"]:
  """The hidden states that predict each caption token."""
  B, C, R = batch.response.shape
  P = batch.prefix.shape[1]
  return hidden_NTD[:, P - 1 : P + R - 1].reshape(B, C * R, -1)


def packed_rows(model, variables, batch) -> Rows:
  """Rows of several pairs, as the batch brings them."""
  packed = batch.packed
  return Rows(packed.tokens, packed.positions, packed.segments, Pairs())


def packed_scored(hidden_NTD, batch) -> Float[Array, "N M D"]:
  """The hidden states that predict the caption tokens of a row."""
  before_NM1 = batch.packed.before[..., None]
  return jnp.take_along_axis(hidden_NTD, before_NM1, axis=1)


def _of_captions(logps_NM, batch) -> Float[Array, "B C R"]:
  """The same log-probs caption by caption; padding takes others' values."""
  begins_NKC = batch.packed.begins
  after_R = jnp.arange(batch.response.shape[-1])
  index = begins_NKC[..., None] + after_R[None, None, None]
  index_NM = index.reshape(len(begins_NKC), -1)
  found = jnp.take_along_axis(logps_NM, index_NM, axis=1, mode="clip")
  return found.reshape(batch.response.shape)


def _flat(values_BCR) -> Int[Array, "B M"]:
  return values_BCR.reshape(values_BCR.shape[0], -1)


class Layout(NamedTuple):
  """How rows are laid out, and where the scoring hidden states lie."""

  rows: callable
  scored: callable


PACKED = Layout(packed_rows, packed_scored)
LAYOUTS = {
  "shared": Layout(shared_rows, shared_scored),
  "two_sequence": Layout(two_sequence_rows, two_sequence_scored),
}


def reference_logps(
  model, variables, batch: Batch, scoring: Scoring
) -> Float[Array, "B C"]:
  """Summed log-probs of the same network with its LoRA tree off."""
  logps = _base_logps(model, variables, batch, scoring)
  return jnp.sum(logps, axis=-1, where=batch.response_mask)


def reference_parts(
  model, variables, batch: Batch, scoring: Scoring
) -> Float[Array, "B C 2"]:
  """The same in two sums: of as many tokens as both have, and of the rest."""
  logps = _base_logps(model, variables, batch, scoring)
  rest_BCR = modifiers.longer(batch.response_mask)
  parts = batch.response_mask & ~rest_BCR, rest_BCR
  sums = [jnp.sum(logps, axis=-1, where=part_BCR) for part_BCR in parts]
  return jnp.stack(sums, axis=-1)


def _base_logps(model, variables, batch, scoring):
  base = {"params": variables["params"]}
  logps = pair_logps(model.clone(lora=None), base, batch, scoring)
  return jax.lax.stop_gradient(logps)
