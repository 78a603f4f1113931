"""A DINOv2 tower out of an ONNX graph, under its Hugging Face names.

An exporter keeps the names of most arrays but transposes the matrices of
linear layers and names them after nothing; the nodes that use them still
carry the names of their layers.
"""

import pathlib

import numpy as np
import onnx
from jaxtyping import Float
from onnx import numpy_helper

PREFIX = "backbone"  # the tower's name in the exported model


def tensors(
  path: str | pathlib.Path,
) -> dict[str, Float[np.ndarray, "..."]]:
  """{name in `Dinov2Model`: float32 tensor}.

  Raises ValueError where the graph holds no such tower.
  """
  graph = onnx.load(path).graph
  arrays = {a.name: numpy_helper.to_array(a) for a in graph.initializer}
  tower = {
    name.removeprefix(f"{PREFIX}."): array
    for name, array in arrays.items()
    if name.startswith(f"{PREFIX}.")
  }
  positions = []
  for node in graph.node:
    if not node.name.startswith(f"/{PREFIX}/"):
      continue
    if node.op_type == "MatMul" and node.input[1] in arrays:
      layer = node.name.removeprefix(f"/{PREFIX}/").removesuffix("/MatMul")
      name = layer.replace("/", ".") + ".weight"
      tower[name] = arrays[node.input[1]].T
    elif node.name.startswith(f"/{PREFIX}/embeddings/"):
      unnamed = [i for i in node.input if i in arrays and "::" in i]
      positions += [arrays[i] for i in unnamed if arrays[i].ndim == 3]
  tower["embeddings.position_embeddings"] = _table(path, positions)
  return tower


def _table(path, parts) -> Float[np.ndarray, "1 T D"]:
  """The position table, which the graph holds in two parts: the class
  token's row and the patches' rows."""
  parts = sorted(parts, key=lambda part: part.shape[1])
  if len(parts) != 2 or parts[0].shape[1] != 1:
    shapes = [part.shape for part in parts]
    raise ValueError(f"{path}: no position table of a DINOv2 tower: {shapes}")
  return np.concatenate(parts, axis=1)


def config(arrays: dict[str, np.ndarray], *, feed_size: int) -> dict:
  """The `config.json` of a tower with `arrays` that sees `feed_size` pixels.

  Heads are 64 wide in every DINOv2. Features leave behind the last norm.
  """
  kernel = arrays["embeddings.patch_embeddings.projection.weight"]
  width, _, patch, _ = kernel.shape
  side = round((arrays["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
  layers = {name.split(".")[2] for name in arrays if ".layer." in name}
  hidden = len(arrays["encoder.layer.0.mlp.fc1.bias"])
  return dict(
    model_type="dinov2",
    architectures=["Dinov2Model"],
    hidden_size=width,
    num_hidden_layers=len(layers),
    num_attention_heads=width // 64,
    mlp_ratio=hidden // width,
    patch_size=patch,
    image_size=side * patch,
    hidden_act="gelu",
    layer_norm_eps=1e-6,
    feature_layer=-1,
    feed_size=feed_size,
  )
