"""Dropout of adapters: which elements, how many, the same ones back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax.models import dropout, sharding
from synpo_jax.models import lora as lora_math
from synpo_jax.models.config import LoraConfig
from synpo_jax.models.lora import LoraDense
from synpo_jax.planning import costs

KEY = jax.random.key(7)
LORA = LoraConfig(rank=4, alpha=2.0, dropout=0.3)
ROWS, T, D = 2, 300, 12  # T is no multiple of eight


@pytest.mark.parametrize(
  "rate, n", [(0.0, 256), (0.05, 243), (0.1, 230), (0.5, 128), (0.004, 255)]
)
def test_the_true_share_is_the_nearest_of_256(rate, n):
  assert dropout.kept(rate) == n


def test_the_true_share_is_said():
  said = "13 of 256 (5.08%), as near as 0.05 is"
  assert dropout.describe(0.05) == said


@pytest.mark.parametrize("rate", [0.001, -0.1, 0.999, 1.0, 2.0, float("nan")])
def test_a_rate_that_no_byte_makes_is_refused(rate):
  with pytest.raises(ValueError, match=f"lora.dropout={rate}: .* 255/256$"):
    dropout.kept(rate)


def mask(key, shape, n):
  """What the two halves of the module make together."""
  return dropout.keeps(dropout.draw(key, shape, n), shape)


def threefry(key, x0, x1):
  """Threefry-2x32 with 20 rounds (Salmon et al., 2011), uint32 arrays."""
  words = [*map(np.uint32, key)]
  words.append(words[0] ^ words[1] ^ np.uint32(0x1BD11BDA))
  turns = (13, 15, 26, 6), (17, 29, 16, 24)
  x0, x1 = x0 + words[0], x1 + words[1]
  for part in range(5):
    for turn in turns[part % 2]:
      x0 = x0 + x1
      x1 = (x1 << np.uint32(turn)) | (x1 >> np.uint32(32 - turn))
      x1 = x1 ^ x0
    x0 = x0 + words[(part + 1) % 3]
    x1 = x1 + words[(part + 2) % 3] + np.uint32(part + 1)
  return x0, x1


def slow_mask(key, shape, n):
  """Byte by byte, in NumPy."""
  rows, T, D = shape
  t = 32 * -(-T // 256)
  out = np.zeros((rows, 8 * t, D), bool)
  numbers = np.arange(rows * t, dtype=np.uint32)[:, None]
  hashes = threefry(
    np.asarray(jax.random.key_data(key)),
    numbers,
    np.arange(D, dtype=np.uint32)[None],
  )
  for half, words in enumerate(hashes):
    for byte in range(4):
      value = (words >> np.uint32(8 * byte)) & np.uint32(255)
      first = (4 * half + byte) * t
      out[:, first : first + t] = (value < n).reshape(rows, t, D)
  return out[:, :T]


def test_a_mask_is_the_bytes_of_threefrys_words():
  made = jax.jit(lambda key: mask(key, (ROWS, T, D), 200))(KEY)
  np.testing.assert_array_equal(made, slow_mask(KEY, (ROWS, T, D), 200))
  flat = mask(KEY, (T, D), 200)
  np.testing.assert_array_equal(flat, slow_mask(KEY, (1, T, D), 200)[0])


def test_decisions_are_even_and_know_nothing_of_each_other():
  """262,144 at 243 of 256: shares and correlations within 5 deviations."""
  shape, n = (4, 256, 256), 243
  masks = [
    np.asarray(jax.jit(mask, static_argnums=(1, 2))(key, shape, n))
    for key in jax.random.split(KEY, 2)
  ]
  share = n / 256
  deviation = (share * (1 - share)) ** 0.5
  scaled = (masks[0] - share) / deviation
  assert abs(scaled.mean()) < 5 / scaled.size**0.5
  bytes_8M = scaled.reshape(4, 8, 32, 256).swapaxes(0, 1).reshape(8, -1)
  size = bytes_8M.shape[1]
  shares = bytes_8M.mean(axis=1)
  assert np.abs(shares).max() < 5 / size**0.5
  together = bytes_8M @ bytes_8M.T / size - np.eye(8)
  together[np.diag_indices(8)] = 0
  assert np.abs(together).max() < 5 / size**0.5
  for other in (
    (masks[1] - share) / deviation,  # of another key
    np.roll(scaled, 1, axis=0),  # row, place and column beside it
    np.roll(scaled, 1, axis=1),
    np.roll(scaled, 1, axis=2),
  ):
    assert abs((scaled * other).mean()) < 5 / scaled.size**0.5


@pytest.fixture(scope="module")
def layer():
  """(module, variables, x, what is summed against): a kernel of 12 x 10."""
  draw = np.random.default_rng(0).normal
  dense = LoraDense(10, LORA, jnp.float32)
  weights = {
    "params": {"kernel": draw(size=(D, 10))},
    "lora": {"a": draw(size=(D, 4)), "b": draw(size=(4, 10))},
  }
  weights = jax.tree.map(jnp.float32, weights)
  x, g = draw(size=(ROWS, T, D)), draw(size=(ROWS, T, 10))
  return dense, weights, jnp.float32(x), jnp.float32(g)


def test_what_goes_forth_comes_back_through_the_same_mask(layer, monkeypatch):
  """Values and gradients against NumPy with the mask written out."""
  dense, weights, x, g = layer
  met, draw = [], dropout.draw
  monkeypatch.setattr(
    dropout, "draw", lambda *how: met.append(how) or draw(*how)
  )

  def loss(lora, x):
    variables = {"params": weights["params"], "lora": lora}
    y = dense.apply(variables, x, lora_math.drop(x, LORA, KEY))
    return jnp.sum(y * g), y

  gradients = jax.grad(loss, argnums=(0, 1), has_aux=True)
  (of_lora, of_x), y = gradients(weights["lora"], x)
  [(key, shape, n)] = met
  keeps = slow_mask(key, shape, n) * 256 / round(256 * 0.7)
  kernel, a, b, x, g = map(
    np.float64,
    (weights["params"]["kernel"], *map(weights["lora"].get, "ab"), x, g),
  )
  dropped, scale = keeps * x, 2.0 / 4
  wanted = x @ kernel + scale * dropped @ a @ b
  back = scale * g @ b.T
  close = dict(rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(y, wanted, **close)
  np.testing.assert_allclose(of_x, g @ kernel.T + keeps * (back @ a.T), **close)
  rows = "ntd,ntr->dr"
  np.testing.assert_allclose(
    of_lora["a"], np.einsum(rows, dropped, back), **close
  )
  np.testing.assert_allclose(
    of_lora["b"], np.einsum(rows, scale * dropped @ a, g), **close
  )


def compiled(layer, rate, mesh=None):
  """Forward and backward of the layer, compiled; rows over a mesh's devices."""
  dense, weights, x, g = layer
  dense = dense.clone(lora=dataclasses.replace(LORA, dropout=rate))

  def step(variables, x, key):
    def loss(lora, x):
      dropped = lora_math.drop(x, dense.lora, key) if rate else None
      y = dense.apply({**variables, "lora": lora}, x, dropped)
      return jnp.sum(y * g)

    return jax.value_and_grad(loss, argnums=(0, 1))(variables["lora"], x)

  if mesh is not None:
    x = jax.device_put(x, NamedSharding(mesh, P("data", None, "model")))
  return jax.jit(step).lower(weights, x, KEY).compile(), (weights, x, KEY)


def test_no_dropout_draws_nothing(layer):
  assert costs.count(compiled(layer, 0.0)[0].as_text()).random == 0


def test_a_mask_takes_few_operations_and_is_drawn_where_it_is_used(layer):
  """Each device draws its part alone; the numbers do not depend on that."""
  mesh = sharding.make_mesh(data=2, fsdp=1, model=4)
  alone, given = compiled(layer, 0.05)
  spread, placed = compiled(layer, 0.05, mesh)
  decided = ROWS * 512 * D  # T is filled up to eight times 64
  drawn = costs.count(alone.as_text()).random
  assert 15 < drawn / decided < 25  # 160 with a word for each
  assert costs.count(spread.as_text()).random < drawn / 8 * 1.3
  for one, other in zip(
    *map(jax.tree.leaves, (alone(*given), spread(*placed))), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
