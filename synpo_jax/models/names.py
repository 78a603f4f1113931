"""Published tensor names <-> places in our tree; the only file that knows.

A leaf of ours is one published tensor, or a stack of one per layer. Torch
checkpoints and Transformers' Flax ports differ in the last part of a name and
in the order of axes; `KINDS` says how.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from synpo_jax.models.config import CaptionerConfig, DecoderConfig, TowerConfig


class Kind(NamedTuple):
  """How one sort of tensor is published.

  `torch` and `flax` end its name; `to_ours` and `to_torch` reorder a torch
  tensor's axes; a Flax tensor is in our order unless `flax_reorders`.
  """

  torch: str
  flax: str
  to_ours: Callable = lambda x: x
  to_torch: Callable = lambda x: x
  flax_reorders: bool = False


KINDS = {
  "linear": Kind(".weight", ".kernel", np.transpose, np.transpose),
  "conv": Kind(
    ".weight",
    ".kernel",
    lambda x: np.transpose(x, (2, 3, 1, 0)),
    lambda x: np.transpose(x, (3, 2, 0, 1)),
  ),
  "embedding": Kind(".weight", ".embedding"),
  "rms": Kind(".weight", ".weight"),
  "norm": Kind(".weight", ".scale"),
  "bias": Kind(".bias", ".bias"),
  "raw": Kind("", ""),
  "table": Kind("", "", lambda x: x[0], lambda x: x[None], True),
  "token": Kind("", "", lambda x: x[0, 0], lambda x: x[None, None], True),
}


class Leaf(NamedTuple):
  """One array of ours: `path` in the tree, where it is published.

  part: the folder ("" is the root). stems: the name less its end, one for
  each layer of a stack. kind: a key of `KINDS`.
  """

  path: str
  part: str
  stems: tuple[str, ...]
  kind: str
  stacked: bool

  def names(self, flax: bool) -> list[str]:
    """Published names, dots between the parts."""
    end = KINDS[self.kind].flax if flax else KINDS[self.kind].torch
    return [stem + end for stem in self.stems]


def leaves(config: CaptionerConfig) -> list[Leaf]:
  """Every array of the model's `params`."""
  found = decoder_leaves(config.decoder, "model.", "lm_head")
  if config.tower is not None:
    found += tower_leaves(config.tower, "visual_encoder")
    for i, name in enumerate(("fc0", "fc1")):
      found += _linear(f"projector/{name}", "projector", f"model.{2 * i}", True)
  return found


def decoder_leaves(c: DecoderConfig, prefix: str, head: str) -> list[Leaf]:
  """A decoder published as `prefix`embed_tokens ..., with its head."""
  found = [
    _single(
      "decoder/embed/embedding", "", prefix + "embed_tokens", "embedding"
    ),
    _single("decoder/norm/scale", "", prefix + "norm", "rms"),
  ]
  if not c.tied:
    found += _linear("decoder/head", "", head, False)
  layer, deep = prefix + "layers.{}.", c.layers
  for name, biased in (
    ("q", c.qkv_bias),
    ("k", c.qkv_bias),
    ("v", c.qkv_bias),
    ("o", c.o_bias),
  ):
    stem = f"{layer}self_attn.{name}_proj"
    found += _linear(f"decoder/layers/attn/{name}", "", stem, biased, deep)
  for name in ("gate", "up", "down"):
    stem = f"{layer}mlp.{name}_proj"
    found += _linear(f"decoder/layers/mlp/{name}", "", stem, c.mlp_bias, deep)
  for ours, theirs in _decoder_norms(c).items():
    path = f"decoder/layers/{ours}/scale"
    found.append(_stack(path, "", layer + theirs, "rms", deep))
  return found


def _decoder_norms(c: DecoderConfig) -> dict[str, str]:
  norms = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
  }
  if c.post_norms:
    norms["attn_post_norm"] = "post_attention_layernorm"
    norms["mlp_norm"] = "pre_feedforward_layernorm"
    norms["mlp_post_norm"] = "post_feedforward_layernorm"
  if c.qk_norm:
    norms |= {f"attn/{n}_norm": f"self_attn.{n}_norm" for n in "qk"}
  return norms


def tower_leaves(c: TowerConfig, part: str) -> list[Leaf]:
  """A tower's arrays; layers above the tap have none."""
  return _dinov2(c, part) if c.layout == "dinov2" else _clip(c, part)


def _clip(c: TowerConfig, part: str) -> list[Leaf]:
  """CLIP's names, which SigLIP shares."""
  root = "vision_model."
  table, patch = "embeddings.position_embedding", "embeddings.patch_embedding"
  found = [
    _single("tower/positions", part, root + table, "embedding"),
    _single("tower/patch/kernel", part, root + patch, "conv"),
  ]
  if c.layout == "siglip":
    found.append(_single("tower/patch/bias", part, root + patch, "bias"))
  if c.class_token:
    stem = root + "embeddings.class_embedding"
    found.append(_single("tower/class_token", part, stem, "raw"))
  if c.layout == "clip":
    found += _norm("tower/embed_norm", part, root + "pre_layrnorm")
  if c.final_norm:
    found += _norm("tower/norm", part, root + "post_layernorm")
  places = {
    "attn/q": "self_attn.q_proj",
    "attn/k": "self_attn.k_proj",
    "attn/v": "self_attn.v_proj",
    "attn/o": "self_attn.out_proj",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
  }
  norms = {"attn_norm": "layer_norm1", "mlp_norm": "layer_norm2"}
  stem = root + "encoder.layers.{}."
  return found + _tower_layers(c, part, stem, places, norms)


def _dinov2(c: TowerConfig, part: str) -> list[Leaf]:
  patch = "embeddings.patch_embeddings.projection"
  found = [
    _single("tower/class_token", part, "embeddings.cls_token", "token"),
    _single("tower/positions", part, "embeddings.position_embeddings", "table"),
    _single("tower/patch/kernel", part, patch, "conv"),
    _single("tower/patch/bias", part, patch, "bias"),
  ]
  if c.final_norm:
    found += _norm("tower/norm", part, "layernorm")
  places = {
    "attn/q": "attention.attention.query",
    "attn/k": "attention.attention.key",
    "attn/v": "attention.attention.value",
    "attn/o": "attention.output.dense",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
  }
  norms = {"attn_norm": "norm1", "mlp_norm": "norm2"}
  stem = "encoder.layer.{}."
  found += _tower_layers(c, part, stem, places, norms)
  for ours, theirs in (("attn_scale", "1"), ("mlp_scale", "2")):
    name = f"{stem}layer_scale{theirs}.lambda1"
    found.append(_stack(f"tower/layers/{ours}", part, name, "raw", c.tap))
  return found


def _tower_layers(c, part, stem, places, norms) -> list[Leaf]:
  found = []
  for ours, theirs in places.items():
    path = f"tower/layers/{ours}"
    found += _linear(path, part, stem + theirs, True, c.tap)
  for ours, theirs in norms.items():
    found += _norm(f"tower/layers/{ours}", part, stem + theirs, c.tap)
  return found


def _linear(path, part, stem, biased, layers=0) -> list[Leaf]:
  found = [_stack(f"{path}/kernel", part, stem, "linear", layers)]
  if biased:
    found.append(_stack(f"{path}/bias", part, stem, "bias", layers))
  return found


def _norm(path, part, stem, layers=0) -> list[Leaf]:
  return [
    _stack(f"{path}/scale", part, stem, "norm", layers),
    _stack(f"{path}/bias", part, stem, "bias", layers),
  ]


def _single(path, part, stem, kind) -> Leaf:
  return Leaf(path, part, (stem,), kind, False)


def _stack(path, part, stem, kind, layers) -> Leaf:
  """`layers` tensors, or one tensor when it is 0."""
  if not layers:
    return _single(path, part, stem, kind)
  stems = tuple(stem.format(i) for i in range(layers))
  return Leaf(path, part, stems, kind, True)


# Published tensors that a model may carry and that are never computed with.
UNUSED = (
  r".*rotary_emb\.inv_freq",
  r".*position_ids",
  r".*pos_emb",  # an alias of the position table
  r".*mask_token",
  r"vision_model\.(post_layernorm|head)\..*",
  r"layernorm\..*",  # DINOv2's last norm, where features leave before it
  r"pooler\..*",
)


def above_tap(config: CaptionerConfig) -> str:
  """A pattern for the names of tower layers that never run."""
  tower = config.tower
  if tower is None or tower.tap == tower.layers:
    return r"(?!)"
  numbers = "|".join(str(i) for i in range(tower.tap, tower.layers))
  return rf"(vision_model\.)?encoder\.layers?\.({numbers})\..*"
