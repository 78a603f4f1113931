"""Where tokens stand: plain counting, and Qwen-VL's three axes (M-RoPE)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from synpo_jax.data.batches import IMAGE_ROW, IMAGE_STEP, IMAGE_TOKEN


def counted(
  mask: Bool[Array, "N T"],
) -> tuple[Int[Array, "N T"], Int[Array, "N"]]:
  """Positions counted over real tokens, and the first free one of a row."""
  count = jnp.cumsum(mask.astype(jnp.int32), axis=1)
  return jnp.maximum(count - 1, 0), count[:, -1]


def grid(tokens: Int[Array, "N T"], side: int) -> Int[Array, "2 N 1"]:
  """Rows and columns of the steps of each row's video.

  As IMAGE_STEP and IMAGE_ROW have it; `side` of both where they are missing.
  """
  steps = jnp.sum(tokens == IMAGE_STEP, axis=1)
  rows = jnp.sum(tokens <= IMAGE_ROW, axis=1)
  cells = jnp.sum(tokens <= IMAGE_TOKEN, axis=1)
  told = jnp.stack(
    [rows // jnp.maximum(steps, 1), cells // jnp.maximum(rows, 1)]
  )
  return jnp.where(steps > 0, told, side)[..., None]


def with_video(
  is_visual: Bool[Array, "N T"],
  mask: Bool[Array, "N T"],
  grid: Int[Array, "2 N 1"],
  pace: float,
) -> tuple[Int[Array, "N T 3"], Int[Array, "N"]]:
  """Time, row and column of each token, and the first free position.

  Qwen2-VL (arXiv 2409.12191, 2.1): text counts along all three axes; a video,
  one unbroken run of steps of `grid` tokens, starts at the next
  position, advances by `pace` per step in time and by one per row and column;
  text goes on behind the largest position so far.
  """
  order, length = counted(mask)
  index = jnp.cumsum(is_visual.astype(jnp.int32), axis=1)
  count = index[:, -1]
  before = (mask & (index == 0)).astype(jnp.int32)
  start = jnp.sum(before, axis=1)
  rows, cols = grid
  cells = rows * cols
  steps = count // cells[:, 0]
  sides = jnp.max(grid, axis=0)[:, 0]
  span = jnp.maximum(_paced(steps - 1, pace), sides - 1) + 1
  span = jnp.where(count > 0, span, 0)
  text = order + jnp.where(index > 0, (span - count)[:, None], 0)
  visual = jnp.maximum(index - 1, 0)
  axes = [
    _paced(visual // cells, pace),
    visual % cells // cols,
    visual % cols,
  ]
  axes = jnp.stack(axes, axis=-1) + start[:, None, None]
  positions = jnp.where(is_visual[..., None], axes, text[..., None])
  return positions, length - count + span


def with_steps(
  is_visual: Bool[Array, "N T"],
  mask: Bool[Array, "N T"],
  grid: Int[Array, "2 N 1"],
) -> tuple[Int[Array, "N T 3"], Int[Array, "N"]]:
  """As `with_video`, for steps that each stand on their own in the text.

  Qwen3-VL (arXiv 2511.21631): every step of `grid` tokens starts at
  the next position and stays at it in time, which the text before it tells.
  """
  order, length = counted(mask)
  index = jnp.cumsum(is_visual.astype(jnp.int32), axis=1)
  visual = jnp.maximum(index - 1, 0)
  rows, cols = grid
  cells, sides = rows * cols, jnp.max(grid, axis=0)
  steps = jnp.where(is_visual, visual, index) // cells  # before each token
  text = order - index + steps * sides
  start = text + 1
  within = visual % cells
  axes = jnp.stack([jnp.zeros_like(within), within // cols, within % cols], -1)
  axes = start[..., None] + axes
  positions = jnp.where(is_visual[..., None], axes, text[..., None])
  count = index[:, -1]
  return positions, length - count + count // cells[:, 0] * sides[:, 0]


def _paced(steps: Int[Array, "*N"], pace: float) -> Int[Array, "*N"]:
  """Whole positions that `steps` steps of the video take."""
  return jnp.floor(steps * pace).astype(jnp.int32)
