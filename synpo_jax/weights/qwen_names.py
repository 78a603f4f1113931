"""Published names of the towers and connectors of Qwen-VL.

Read together with `tensor_names`, which has the rest.
"""

from synpo_jax.models.config import CaptionerConfig
from synpo_jax.models.tower_config import WindowTowerConfig
from synpo_jax.weights import tensor_kinds
from synpo_jax.weights.tensor_kinds import Leaf

NORMS = {"attn_norm": "norm1", "mlp_norm": "norm2"}


def qwen2_vl(c: CaptionerConfig) -> list[Leaf]:
  """Tower and patch merger, with layer norms and plain MLPs."""
  layer, deep = "visual.blocks.{}.", c.tower.layers
  arrays = _ends()
  arrays += tensor_kinds.norm("projector/norm", "", "visual.merger.ln_q")
  arrays += _linears({"mlp/up": "mlp.fc1", "mlp/down": "mlp.fc2"}, layer, deep)
  for ours, theirs in NORMS.items():
    path = f"tower/layers/{ours}"
    arrays += tensor_kinds.norm(path, "", layer + theirs, deep)
  return arrays


def _ends() -> list[Leaf]:
  """What comes before the layers of Qwen2-VL and 2.5, and the last MLP."""
  patch = "visual.patch_embed.proj"
  arrays = [tensor_kinds.single("tower/patch/kernel", "", patch, "conv3")]
  for name, number in (("fc0", 0), ("fc1", 2)):
    stem = f"visual.merger.mlp.{number}"
    arrays += tensor_kinds.linear(f"projector/{name}", "", stem, True)
  return arrays


def qwen2_5_vl(c: CaptionerConfig) -> list[Leaf]:
  """Tower and patch merger, with RMS norms and gated MLPs."""
  arrays, norm = _ends(), "visual.merger.ln_q"
  arrays.append(tensor_kinds.single("projector/norm/scale", "", norm, "rms"))
  layer, deep = "visual.blocks.{}.", c.tower.layers
  mlp = {f"mlp/{n}": f"mlp.{n}_proj" for n in ("gate", "up", "down")}
  arrays += _linears(mlp, layer, deep)
  for ours, theirs in NORMS.items():
    path = f"tower/layers/{ours}/scale"
    arrays.append(tensor_kinds.stack(path, "", layer + theirs, "rms", deep))
  return arrays


def _linears(mlp: dict, layer: str, deep: int) -> list[Leaf]:
  """Attention and MLP of a stack of Qwen-VL's tower layers."""
  arrays = []
  places = {"attn/qkv": "attn.qkv", "attn/o": "attn.proj"} | mlp
  for ours, theirs in places.items():
    path = f"tower/layers/{ours}"
    arrays += tensor_kinds.linear(path, "", layer + theirs, True, deep)
  return arrays


def qwen3_vl(c: CaptionerConfig) -> list[Leaf]:
  """Tower, patch merger and the mergers of DeepStack."""
  tower: WindowTowerConfig = c.tower
  root = "model.visual."
  patch, table = root + "patch_embed.proj", root + "pos_embed"
  arrays = [
    tensor_kinds.single("tower/patch/kernel", "", patch, "conv3"),
    tensor_kinds.single("tower/patch/bias", "", patch, "bias"),
    tensor_kinds.single("tower/positions", "", table, "embedding"),
  ]
  layer, deep = root + "blocks.{}.", tower.layers
  mlp = {"mlp/up": "mlp.linear_fc1", "mlp/down": "mlp.linear_fc2"}
  arrays += _linears(mlp, layer, deep)
  for ours, theirs in NORMS.items():
    path = f"tower/layers/{ours}"
    arrays += tensor_kinds.norm(path, "", layer + theirs, deep)
  mergers = {"projector": root + "merger"}
  for number in range(len(tower.deep)):
    stem = f"{root}deepstack_merger_list.{number}"
    mergers[f"projector/deep_{number}"] = stem
  for path, stem in mergers.items():
    arrays += tensor_kinds.norm(f"{path}/norm", "", f"{stem}.norm")
    for name, number in (("fc0", 1), ("fc1", 2)):
      place = f"{stem}.linear_fc{number}"
      arrays += tensor_kinds.linear(f"{path}/{name}", "", place, True)
  return arrays


SECOND = {"qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl}  # of one layout
