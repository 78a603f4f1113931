"""Which elements dropout keeps: eight decisions from each hash of a position.

A decision is a byte, so a keep rate is n / 256. Kernels of the decoder that
read one input (q, k and v; gate and up) share its mask, and a tower's kernels
have one each, as all have in PEFT.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, UInt8

from synpo_jax.models import data_parts

# Which masks a step and a seed make; another name where they become others.
STREAM = "threefry2x32 of (row, column), 8 x 32n bytes along T; a key an input"
WHOLE = 256  # values of a byte
PARITY, TURNS = 0x1BD11BDA, ((13, 15, 26, 6), (17, 29, 16, 24))  # Threefry's


def kept(rate: float) -> int:
  """Of 256 elements, how many are kept: the whole number nearest the rate.

  0.05 keeps 243, a true share of 0.9492. Raises ValueError for a rate other
  than 0 that would drop nothing, and for one that would drop all.
  """
  n = round(WHOLE * (1 - rate)) if 0 <= rate < 1 else 0
  if not n or (n == WHOLE) != (rate == 0):
    raise ValueError(
      f"lora.dropout={rate}: a byte decides on an element, so give 0, or from "
      f"1/{WHOLE} to {WHOLE - 1}/{WHOLE}"
    )
  return n


def describe(rate: float) -> str:
  """The true rate, in words."""
  dropped = WHOLE - kept(rate)
  return f"{dropped} of {WHOLE} ({dropped / WHOLE:.2%}), as near as {rate:g} is"


def draw(key, shape: tuple[int, ...], n: int) -> UInt8[Array, "N t D"]:
  """Eight decisions a byte, for `keeps`: each bit is set at n of 256 places.

  shape: of what is dropped, [*N, T, D]; t = T / 8, rounded up to 32 rows, which
  TPUs keep bytes in. Threefry hashes a position (row, column) under the key, so
  the decisions are the same on every platform and however their array is split.
  Where `data_parts` splits it, N is a part's, and counted on from those before.
  """
  *rows, T, D = shape
  places = math.prod(rows), 32 * -(-T // 256), D
  number, place, column = (
    lax.broadcasted_iota(jnp.uint32, places, axis) for axis in range(3)
  )
  number += jnp.uint32(data_parts.number() * places[0])
  row = number * jnp.uint32(places[1]) + place
  packed = jnp.zeros(places, jnp.uint32)
  for half, words in enumerate(threefry(key, row, column)):
    for byte in range(4):
      value = (words >> (8 * byte)) & (WHOLE - 1)
      packed |= (value < n).astype(jnp.uint32) << (4 * half + byte)
  # Both change nothing. XLA hashes anew wherever a decision is read, to save
  # memory, but not behind a division of integers (CPU) or a barrier (TPU).
  packed = lax.rem(packed, jnp.full_like(packed, WHOLE + 1))
  return lax.optimization_barrier(packed.astype(jnp.uint8))


def keeps(packed, shape: tuple[int, ...]) -> Bool[Array, "*N T D"]:
  """What `draw` decided: bit b of byte [n, i, d] is about [n, b t + i, d].

  No mesh splits T, so the eight parts of it lie together.
  """
  N, _, D = packed.shape
  one = 1 << lax.broadcasted_iota(jnp.uint8, (1, 8, 1, 1), 1)
  whole = (packed[:, None] & one).reshape(N, -1, D)
  return (whole[:, : shape[-2]] != 0).reshape(shape)


def threefry(key, first, second):
  """Threefry-2x32 with 20 rounds (Salmon et al., 2011) of uint32 arrays.

  As jax.random's, whose form for CPUs is a loop over memory, five times.
  """
  keys = [*jax.random.key_data(key)[:2]]
  keys.append(keys[0] ^ keys[1] ^ PARITY)
  first, second = first + keys[0], second + keys[1]
  for part in range(5):
    for turn in TURNS[part % 2]:
      first = first + second
      second = (second << turn) | (second >> (32 - turn))
      second = second ^ first
    first = first + keys[(part + 1) % 3]
    second = second + keys[(part + 2) % 3] + (part + 1)
  return first, second
