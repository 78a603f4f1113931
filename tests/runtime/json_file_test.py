"""Settings of a run that were damaged: one line that names their file."""

import json
import random

import pytest

from synpo_jax import train
from synpo_jax.runtime import json_file, seal, settings, workdir

CONFIG = {"model": {"checkpoint": "tiny", "dtype": "float32"}, "seed": 3}


def flips(content, count):
  """The content with one bit turned around, here and there."""
  rng = random.Random(0)
  for bit in rng.sample(range(8 * len(content)), count):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    yield bytes(damaged)


def test_a_damaged_config_is_named_or_differs(tmp_path):
  path = tmp_path / "config.json"
  settings.claim(path, CONFIG)
  whole = path.read_bytes()
  cuts = (whole[:count] for count in range(len(whole) - 2))
  for damaged in (*flips(whole, 300), *cuts):
    path.write_bytes(damaged)
    try:
      found = settings.claim(path, CONFIG)
    except ValueError as error:
      assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
      assert "put it back" in str(error)
      with pytest.raises(ValueError, match="config.json: "):
        workdir.run_config(tmp_path)
    else:
      assert found or json.loads(damaged) == CONFIG


def test_a_bit_in_a_sealed_file_is_named(tmp_path):
  path = tmp_path / "before.json"
  text = json.dumps({"accuracy": 0.75, "margin": 1.5}, indent=2).encode()
  path.write_bytes(seal.put(text) + b"\n")
  assert json_file.read(path) == {"accuracy": 0.75, "margin": 1.5}
  for damaged in flips(path.read_bytes().rstrip(), 300):
    path.write_bytes(damaged)
    with pytest.raises(train.MET, match="before.json: "):
      json_file.read(path)
