"""llama.cpp's own server with SmolLM2 and a small vision tower, for tests.

python -m tests.support.llama_server FOLDER LANGUAGE_MODEL.gguf

Prints its address, and serves until its input ends. The language model is a
real one; the tower is random: it reads pictures, and understands nothing.
"""

import contextlib
import pathlib
import subprocess
import sys

import gguf
import numpy as np

WIDTH = 576  # of SmolLM2-135M
SIZES = dict(
  image_size=28,
  patch_size=14,
  embedding_length=32,
  feed_forward_length=64,
  block_count=2,
  projection_dim=WIDTH,
)
TOKENS = (28 // 14) ** 2  # of a picture


def write_tower(path: pathlib.Path) -> None:
  """A CLIP tower and LLaVA's projector in the form that llama.cpp reads."""
  writer = gguf.GGUFWriter(path, "clip")
  writer.add_bool("clip.has_vision_encoder", True)
  writer.add_string("clip.projector_type", "mlp")
  writer.add_bool("clip.use_gelu", True)
  for name, value in SIZES.items():
    writer.add_uint32(f"clip.vision.{name}", value)
  writer.add_uint32("clip.vision.attention.head_count", 2)
  writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
  for name in ("image_mean", "image_std"):
    writer.add_array(f"clip.vision.{name}", [0.5] * 3)
  rng = np.random.default_rng(0)
  for name, shape in _tensors():
    value = rng.normal(size=shape).astype(np.float32) * 0.3
    writer.add_tensor(name, value + ("ln" in name and "weight" in name))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _tensors():
  """(name, shape) of each tensor."""
  side, wide = SIZES["embedding_length"], SIZES["feed_forward_length"]
  yield "v.class_embd", (side,)
  yield "v.patch_embd.weight", (side, 3, 14, 14)
  yield "v.position_embd.weight", (TOKENS + 1, side)
  maps = {"mm.0": (WIDTH, side), "mm.2": (WIDTH, WIDTH)}
  norms = ["v.pre_ln", "v.post_ln"]
  for layer in (f"v.blk.{i}" for i in range(SIZES["block_count"])):
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
      maps[f"{layer}.{name}"] = (side, side)
    maps[f"{layer}.ffn_up"] = (wide, side)
    maps[f"{layer}.ffn_down"] = (side, wide)
    norms += [f"{layer}.ln1", f"{layer}.ln2"]
  maps |= {name: (side,) for name in norms}
  for name, shape in maps.items():
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


@contextlib.contextmanager
def serving(folder: pathlib.Path, model: pathlib.Path):
  """Yields the base URL of a server of this language model, in a process."""
  command = [sys.executable, "-m", __name__, str(folder), str(model)]
  log = (folder / "server.log").open("w")
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
  run = subprocess.Popen(command, text=True, **pipes)
  try:
    lines = (line for line in run.stdout if line.startswith("address "))
    address = next(lines, None)
    assert address, (folder / "server.log").read_text()[-2000:]
    yield f"{address.split()[1]}/v1"
  finally:
    run.kill()
    run.wait()
    log.close()


def main(folder: str, model: str) -> None:
  import xllamacpp

  tower = pathlib.Path(folder) / "tower.gguf"
  write_tower(tower)
  params = xllamacpp.CommonParams()
  params.model.path, params.mmproj.path = model, str(tower)
  params.n_ctx, params.n_parallel, params.warmup = 4096, 2, False
  for threads in (params.cpuparams, params.cpuparams_batch):
    threads.n_threads = 1  # several would wait for each other, at work
  server = xllamacpp.Server(params)
  print(f"address {server.listening_address}", flush=True)
  sys.stdin.read()


if __name__ == "__main__":
  main(*sys.argv[1:])
