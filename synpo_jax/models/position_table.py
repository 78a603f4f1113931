"""A tower's table of learned positions, for grids of other sizes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from synpo_jax.models.tower_config import TowerConfig

# Added to the wanted grid when a position table is resized (official release)
GRID_FUDGE = {"clip": 0.1, "dinov2": 0.0, "siglip": 0.0}


def positions(
  table: Float[Array, "T D"], config: TowerConfig, rows: int, cols: int
) -> Float[Array, "1 t D"]:
  """The position table for a grid of `rows` by `cols` patches."""
  side = config.table_size // config.patch
  if (rows, cols) == (side, side):
    return table[None]
  fudge = GRID_FUDGE[config.layout]
  grid = table[int(config.class_token) :].reshape(side, side, -1)
  grid = jnp.einsum(
    "yg,xh,ghd->yxd",
    bicubic(side, rows, fudge),
    bicubic(side, cols, fudge),
    grid,
    precision="highest",
  )
  first = table[: int(config.class_token)]
  grid = grid.reshape(rows * cols, -1)
  return jnp.concatenate([first, grid])[None]


def bicubic(old: int, new: int, fudge: float) -> Float[np.ndarray, "new old"]:
  """Matrix that resizes `old` samples to `new`: a = -0.75, no antialiasing.

  Sample centres are `old / (new + fudge)` apart; beyond the border the last
  sample repeats. Computed in float64 on the host.
  """
  a = -0.75
  place = (np.arange(new) + 0.5) * old / (new + fudge) - 0.5
  taps = np.floor(place)[:, None] + np.arange(-1, 3)
  far = np.abs(place[:, None] - taps)
  near = (a + 2) * far**3 - (a + 3) * far**2 + 1
  outer = a * (far**3 - 5 * far**2 + 8 * far - 4)
  matrix = np.zeros((new, old))
  index = np.clip(taps, 0, old - 1).astype(int)
  np.add.at(
    matrix, (np.arange(new)[:, None], index), np.where(far <= 1, near, outer)
  )
  return matrix.astype(np.float32)
