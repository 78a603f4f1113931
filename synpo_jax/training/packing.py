"""How the pairs of a run make updates: as many as it asks, in shared rows."""

from synpo_jax import losses
from synpo_jax.data import packing
from synpo_jax.data.batches import Batches


def check(c, config):
  """Raises ValueError where pairs are to share rows that cannot.

  c: a run's config. config: the model's, a CaptionerConfig.
  """
  if not c.data.packing:
    return
  asked = f"data.packing={c.data.packing}"
  if c.data.packing < 0:
    raise ValueError(f"{asked}: give a number of positions, or 0 for none")
  if config.decoder.mrope_sections:
    raise ValueError(
      f"{asked}: under M-RoPE (Qwen-VL) positions are counted for one pair a "
      "row; set data.packing=0"
    )
  if c.step.layout_name != "shared":
    raise ValueError(
      f"{asked} shares prompts within pairs, step.layout_name="
      f"{c.step.layout_name} does not; set it to shared, or data.packing=0"
    )
  if c.micro_batch != "given":
    raise ValueError(
      f"{asked} cuts updates by rows, micro_batch={c.micro_batch} by pairs; "
      "set micro_batch=given, or data.packing=0"
    )


def check_together(c, data):
  """Raises ValueError for an update too small for a loss of several pairs."""
  least, most = data.batches.fewest(), c.data.batch_size * c.data.accumulation
  rows = len(data.batches.rows.pair)
  losses.check_together(
    losses.make(**c.loss.to_dict()),
    least,
    f"of {rows} pairs, {most} an update, one is left alone",
  )


def describe(batches: Batches, asked: int) -> str | None:
  """How full the rows are, and the pairs of an update; None for rows of one.

  asked: pairs of an update by the config.
  """
  if not (packed := batches.packing):
    return None
  sizes, (steps, rows) = packing.lengths(batches.rows), packed.shape
  count, places = packed.rows.shape
  full = sizes.sum() / (count * packed.length)
  pairs = steps * rows * len(sizes) / count
  return (
    f"{len(sizes)} pairs in {count} rows of {packed.length} positions, "
    f"{full:.1%} full, at most {places} in one; an update is {steps} x {rows} "
    f"rows, {pairs:.1f} pairs on average where {asked} are asked for"
  )
