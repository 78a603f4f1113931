"""The arrays of pairs that go through the model together."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Float32, Int32, UInt8

SEGMENTS = 32  # numbers a pair of a packed row has; a power of two


class Packed(NamedTuple):
  """Rows of L positions that hold up to K pairs each, end to end.

  A pair is its prompt and its C captions. segments: 0 for padding; of pair k
  the prompt is 1 + k * SEGMENTS, caption c the number 1 + c further. positions
  begin anew in each pair, and in each caption where its prompt ends. before:
  places of the tokens that predict caption tokens, which are the targets.
  begins: where a caption's lie among those.
  """

  tokens: Int32[Any, "*A N L"]
  positions: Int32[Any, "*A N L"]
  segments: Int32[Any, "*A N L"]
  before: Int32[Any, "*A N M"]
  targets: Int32[Any, "*A N M"]
  begins: Int32[Any, "*A N K C"]


class Batch(NamedTuple):
  """Pairs of an update, [A, B, ...], or of a micro-batch, [B, ...].

  NumPy on the host, JAX on devices; where an array is planned, its shape or
  sharding may stand for it. None is what a batch is without. Filler rows fill
  the last update: they repeat a real pair, so that what is computed from them
  stays finite.

  prefix: prompt, padded on the left. response: chosen, rejected and gold
  captions, as many as the loss reads, or judged ones, best first, with captions
  of no token behind shorter lists; padded on the right. *_mask: True on what is
  no padding. weight: 0 for filler, else 1. row: index in the table of pairs,
  -1 for filler. frames: zero beyond a row's own; or features, what the tower
  makes of them in S steps. Neither where no row has a video. ref_logps: each
  caption's, summed, under the reference. scores: of judged captions, above the
  row's worst; where it is not None the batch holds lists. packed: where pairs
  share rows; then B is N * K, row by row, and prefixes are empty here.
  """

  prefix: Int32[Any, "*A B P"]
  prefix_mask: Bool[Any, "*A B P"]
  response: Int32[Any, "*A B C R"]
  response_mask: Bool[Any, "*A B C R"]
  weight: Float32[Any, "*A B"]
  row: Int32[Any, "*A B"]
  frames: UInt8[Any, "*A B F Y X 3"] | None = None
  features: Float[Any, "*A B S K Dv"] | None = None
  ref_logps: Float32[Any, "*A B C"] | None = None
  scores: Float32[Any, "*A B C"] | None = None
  packed: Packed | None = None

  def micro(self, index: int) -> "Batch":
    """One micro-batch of an update's."""
    *own, packed = self
    if packed is not None:
      packed = Packed(*(x[index] for x in packed))
    return Batch(*(None if x is None else x[index] for x in own), packed)
