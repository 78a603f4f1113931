"""Where tokens stand: plain counting, and Qwen-VL's three axes (M-RoPE)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def counted(
  mask: Bool[Array, "N T"],
) -> tuple[Int[Array, "N T"], Int[Array, "N"]]:
  """Positions counted over real tokens, and the first free one of a row."""
  count = jnp.cumsum(mask.astype(jnp.int32), axis=1)
  return jnp.maximum(count - 1, 0), count[:, -1]


def with_video(
  is_visual: Bool[Array, "N T"],
  mask: Bool[Array, "N T"],
  side: int,
  pace: float,
) -> tuple[Int[Array, "N T 3"], Int[Array, "N"]]:
  """Time, row and column of each token, and the first free position.

  Qwen2-VL (arXiv 2409.12191, 2.1): text counts along all three axes; a video,
  one unbroken run of steps of `side` x `side` tokens, starts at the next
  position, advances by `pace` per step in time and by one per row and column;
  text goes on behind the largest position so far.
  """
  order, length = counted(mask)
  index = jnp.cumsum(is_visual.astype(jnp.int32), axis=1)
  count = index[:, -1]
  before = (mask & (index == 0)).astype(jnp.int32)
  start = jnp.sum(before, axis=1)
  steps = count // side**2
  span = jnp.maximum(_paced(steps - 1, pace), side - 1) + 1
  span = jnp.where(count > 0, span, 0)
  text = order + jnp.where(index > 0, (span - count)[:, None], 0)
  visual = jnp.maximum(index - 1, 0)
  axes = [
    _paced(visual // side**2, pace),
    visual % side**2 // side,
    visual % side,
  ]
  axes = jnp.stack(axes, axis=-1) + start[:, None, None]
  positions = jnp.where(is_visual[..., None], axes, text[..., None])
  return positions, length - count + span


def with_steps(
  is_visual: Bool[Array, "N T"], mask: Bool[Array, "N T"], side: int
) -> tuple[Int[Array, "N T 3"], Int[Array, "N"]]:
  """As `with_video`, for steps that each stand on their own in the text.

  Qwen3-VL (arXiv 2511.21631): every step of `side` x `side` tokens starts at
  the next position and stays at it in time, which the text before it tells.
  """
  order, length = counted(mask)
  index = jnp.cumsum(is_visual.astype(jnp.int32), axis=1)
  visual = jnp.maximum(index - 1, 0)
  steps = jnp.where(is_visual, visual, index) // side**2  # before each token
  text = order - index + steps * side
  start = text + 1
  within = visual % side**2
  axes = jnp.stack([jnp.zeros_like(within), within // side, within % side], -1)
  axes = start[..., None] + axes
  positions = jnp.where(is_visual[..., None], axes, text[..., None])
  count = index[:, -1]
  return positions, length - count + count // side**2 * side


def _paced(steps: Int[Array, "*N"], pace: float) -> Int[Array, "*N"]:
  """Whole positions that `steps` steps of the video take."""
  return jnp.floor(steps * pace).astype(jnp.int32)
