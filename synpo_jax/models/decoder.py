"""One Llama-family decoder; a config says which member of the family."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from synpo_jax.models import attention, rope
from synpo_jax.models.attention import XLA, Backend
from synpo_jax.models.config import DecoderConfig, LoraConfig
from synpo_jax.models.lora import LoraDense, dropped
from synpo_jax.models.norms import RMSNorm
from synpo_jax.models.packed_rows import Pairs, Slots
from synpo_jax.models.remat import policy

ACTIVATIONS = {
  "silu": jax.nn.silu,
  "gelu": partial(jax.nn.gelu, approximate=False),
  "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


class KV(NamedTuple):
  """Keys and values of N rows, all layers; padding may lie anywhere."""

  k: Float[Array, "L N T G h"]
  v: Float[Array, "L N T G h"]
  mask: Bool[Array, "N T"]  # True at real tokens
  positions: Int[Array, "N T"]  # of time, where there are three axes


class Pages(NamedTuple):
  """Keys and values in K pages of s positions, all layers.

  As `attention_pages.Pages` has them of one layer. readers: None where pages
  are kept, until somebody reads them.
  """

  k: Float[Array, "L K s G h"]
  v: Float[Array, "L K s G h"]
  k_scale: Float[Array, "L K s G"] | None
  v_scale: Float[Array, "L K s G"] | None
  mask: Bool[Array, "K s"]
  positions: Int[Array, "K s"]
  readers: Int[Array, "K c"] | None


# cos and sin of half a head, the same for all heads.
Angles = tuple[Float[Array, "N T 1 half"], Float[Array, "N T 1 half"]]


class View(NamedTuple):
  """What every layer needs to know about the rows and their past."""

  angles: Angles
  local: Angles | None  # None unless sliding layers rotate by another base
  segments: Int[Array, "N T"]  # as `attention.attend` has them
  positions: Int[Array, "N T"]
  slots: Slots | Pairs | None  # the layout, where rows are packed
  past: tuple[tuple[Array, ...], ...]  # of blocks: what all layers share
  deep: Float[Array, "n N T D"] | None  # DeepStack's: of the first n layers


def _layered(block: KV | Pages) -> int:
  """How many of a block's arrays each layer has its own of."""
  return 4 if isinstance(block, Pages) else 2


def _of_layer(own, shared) -> attention.Past | attention.Pages:
  """A block of past keys as one layer sees it."""
  kind = attention.Pages if len(own) == 4 else attention.Past
  return kind(*own, *shared)


class Attention(nn.Module):
  """Projections, rotation, attention over own and past keys, projection."""

  config: DecoderConfig
  lora: LoraConfig | None
  dtype: DTypeLike
  backend: Backend

  @nn.compact
  def __call__(self, x, view: View, past, slides, deterministic):
    """Returns (out [N,T,D], (k, v) [N,T,G,h])."""
    c = self.config
    left = dropped(self, x, deterministic)
    q = self._heads("q", c.heads, x, left)
    k = self._heads("k", c.kv_heads, x, left)
    v = self._heads("v", c.kv_heads, x, left)
    if c.qk_norm:
      norm = partial(RMSNorm, c.norm_eps, c.unit_offset_norm, self.dtype)
      q, k = norm(name="q_norm")(q), norm(name="k_norm")(k)
    cos, sin = self._angles(view, slides)
    q, k = rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)
    blocks = zip(past, view.past, strict=True)
    attended = attention.attend(
      q,
      k,
      v,
      segments=view.segments,
      positions=view.positions,
      slots=view.slots,
      past=tuple(_of_layer(*block) for block in blocks),
      window=c.window if any(c.sliding) else None,
      slides=None if all(c.sliding) else slides,
      scale=c.query_scale or c.head_dim**-0.5,
      softcap=c.attn_softcap,
      backend=self.backend,
    )
    out = self._dense("o", c.width, c.o_bias)
    attended = attended.reshape(*x.shape[:2], -1)
    return out(attended, dropped(self, attended, deterministic)), (k, v)

  def _dense(self, name, size, biased) -> LoraDense:
    c = self.config
    return LoraDense(size, self.lora, self.dtype, biased, c.int8, name=name)

  def _heads(self, name, heads, x, left) -> Float[Array, "N T H h"]:
    c = self.config
    dense = self._dense(name, heads * c.head_dim, c.qkv_bias)
    y = checkpoint_name(dense(x, left), name)
    return y.reshape(*x.shape[:2], heads, c.head_dim)

  def _angles(self, view, slides):
    if view.local is None:
      return view.angles
    pairs = zip(view.local, view.angles, strict=True)
    return tuple(jnp.where(slides, local, full) for local, full in pairs)


class MLP(nn.Module):
  """down(act(gate(x)) * up(x))."""

  config: DecoderConfig
  lora: LoraConfig | None
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x, deterministic):
    c = self.config
    dense = partial(
      LoraDense,
      lora=self.lora,
      dtype=self.dtype,
      use_bias=c.mlp_bias,
      int8=c.int8,
    )
    left = dropped(self, x, deterministic)
    gate = dense(c.mlp_width, name="gate")(x, left)
    up = dense(c.mlp_width, name="up")(x, left)
    gate, up = checkpoint_name(gate, "gate"), checkpoint_name(up, "up")
    hidden = ACTIVATIONS[c.activation](gate) * up
    left = dropped(self, hidden, deterministic)
    return dense(c.width, name="down")(hidden, left)


class Layer(nn.Module):
  """One layer, as `nn.scan` calls it: carries x, returns its keys.

  place: whether its attention has a window, and its number.
  """

  config: DecoderConfig
  lora: LoraConfig | None
  dtype: DTypeLike
  backend: Backend

  @nn.compact
  def __call__(self, x, view: View, past, place, deterministic):
    c, (slides, number) = self.config, place
    norm = partial(RMSNorm, c.norm_eps, c.unit_offset_norm, self.dtype)
    attn = Attention(c, self.lora, self.dtype, self.backend, name="attn")
    y, kv = attn(norm(name="attn_norm")(x), view, past, slides, deterministic)
    if c.post_norms:
      y = norm(name="attn_post_norm")(y)
    x = checkpoint_name(x + y, "middle")
    mlp = MLP(c, self.lora, self.dtype, name="mlp")
    y = mlp(norm(name="mlp_norm")(x), deterministic)
    if c.post_norms:
      y = norm(name="mlp_post_norm")(y)
    if view.deep is not None:
      y += jnp.take(view.deep, number, axis=0, mode="fill", fill_value=0)
    return x + y, kv


class Decoder(nn.Module):
  """Token or visual embeddings to hidden states and logits."""

  config: DecoderConfig
  lora: LoraConfig | None = None
  dtype: DTypeLike = jnp.float32
  remat: str = "none"
  attention: Backend = XLA

  def setup(self):
    c = self.config
    self.embed = nn.Embed(c.vocab, c.width, dtype=self.dtype)
    self.layers = _scanned(self.remat, c.layers)(
      c, self.lora, self.dtype, self.attention
    )
    self.norm = RMSNorm(c.norm_eps, c.unit_offset_norm, self.dtype)
    if not c.tied:
      self.head = Head(c.width, c.vocab)

  def embed_tokens(self, tokens: Int[Array, "N T"]) -> Float[Array, "N T D"]:
    """Rows of the embedding table, times sqrt(D) where the family does so."""
    x = self.embed(tokens)
    if not self.config.embed_scale:
      return x
    return x * jnp.asarray(self.config.width**0.5, x.dtype)

  def __call__(
    self,
    x: Float[Array, "N T W"],
    positions: Int[Array, "N T *axes"],
    segments: Int[Array, "N T"],
    past: tuple[KV | Pages, ...] = (),
    deterministic: bool = True,
    slots: Slots | Pairs | None = None,
  ) -> tuple[Float[Array, "N T D"], KV]:
    """Hidden states after the final norm, and the rows' own keys.

    x may hold D numbers more for each of the first layers, added behind it
    (DeepStack). `positions` has three axes under M-RoPE. Who sees whom is said
    at `attention.attend`; a block of `past` has M rows, N a multiple of M, and
    pages say who reads them.
    """
    c = self.config
    x, *deep = jnp.split(x.astype(self.dtype), x.shape[-1] // c.width, axis=-1)
    deep = jnp.stack(deep) if deep else None
    view = self._view(positions, segments, slots, past, deep)
    slides = jnp.asarray(c.sliding or (False,) * c.layers)
    places = slides, jnp.arange(c.layers)
    blocks = tuple(block[: _layered(block)] for block in past)
    x, (k, v) = self.layers(x, view, blocks, places, deterministic)
    return self.norm(x), KV(k, v, segments > 0, view.positions)

  def _view(self, positions, segments, slots, past, deep) -> View:
    c = self.config
    freqs = rope.frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
    local = None
    if c.rope_local_theta is not None:
      slow = rope.frequencies(c.head_dim, c.rope_local_theta, None)
      local = rope.angles(positions, slow)
    sections = c.mrope_sections, c.mrope_interleaved
    angles = rope.angles(positions, freqs, *sections)
    flat = positions if positions.ndim == 2 else positions[..., 0]
    behind = tuple(block[_layered(block) :] for block in past)
    return View(angles, local, segments, flat, slots, behind, deep)

  def head_kernel(self) -> Float[Array, "D V"]:
    """The matrix that turns hidden states into logits."""
    return self.embed.embedding.T if self.config.tied else self.head()

  def logits(self, hidden: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
    """Float32 logits, capped where the family caps them."""
    kernel = self.head_kernel().astype(self.dtype)
    z = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
    cap = self.config.final_softcap
    return z if cap is None else cap * jnp.tanh(z / cap)


class Head(nn.Module):
  """Holds the untied head's kernel [D, V]."""

  width: int
  vocab: int

  @nn.compact
  def __call__(self):
    start = nn.initializers.normal(0.02)
    return self.param("kernel", start, (self.width, self.vocab))


def _scanned(remat: str, layers: int):
  """`Layer` over stacked weights, keeping what the remat policy names."""
  layer = Layer
  if remat != "none":
    layer = nn.remat(
      Layer, policy=policy(remat), prevent_cse=False, static_argnums=(5,)
    )
  return nn.scan(
    layer,
    variable_axes={"params": 0, "lora": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=(nn.broadcast, 0, 0, nn.broadcast),
    length=layers,
    check_constancy_invariants=False,  # else every layer is traced twice
  )
