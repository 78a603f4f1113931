"""cuDNN's fused attention on NVIDIA GPUs, told who sees whom by a mask."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from synpo_jax.models import attention_xla


def attend(
  q: Float[Array, "N T H h"],
  k: Float[Array, "N T G h"],
  v: Float[Array, "N T G h"],
  rows: attention_xla.Rows,
  *,
  scale: float,
  implementation: str,
) -> Float[Array, "N T H h"]:
  """What `attention.attend` promises, for rows without a past or a softcap.

  Computes in bfloat16 or float16. Every query sees itself too, padding
  included, so that no softmax is empty. No block is skipped. `implementation`
  is jax.nn.dot_product_attention's: "cudnn", or "xla" where there is no GPU.

  Compiled for an H100 (4 rows of 1792, 32 heads of 128, forward and backward)
  it takes 162 MiB of temporary memory; with the rejected rows in a call of
  their own, as [prefix | rejected], 381; XLA's dense attention 3989. Speed on
  a GPU is unmeasured.
  """
  T = q.shape[1]
  if T % 2:  # the kernel takes even lengths
    q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
    segments, positions = (
      jnp.pad(x, ((0, 0), (0, 1))) for x in (rows.segments, rows.positions)
    )
    rows = attention_xla.Rows(segments, positions, rows.window)
  itself = jnp.eye(q.shape[1], dtype=bool)[None]
  mask_N1TS = (attention_xla.view(rows, 0, q.shape[1]) | itself)[:, None]
  out = jax.nn.dot_product_attention(
    q, k, v, mask=mask_N1TS, scale=scale, implementation=implementation
  )
  return out[:, :T]
