"""Damaged and hostile Flax ports: each is one error that names the file."""

import copy

import msgpack
import pytest

from synpo_jax.weights import folders

FLAX = "flax_model.msgpack"


def read_all(folder):
  """Every tensor of a folder, one after the other."""
  store = folders.open_folder(folder)
  for name in store.shapes:
    store.read(name)


def flax_array(shape, dtype, data):
  return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))


def chunked(shape, *parts):
  parts = {str(i): flax_array([len(p) // 4], "float32", p) for i, p in parts}
  shape = {str(i): size for i, size in enumerate(shape)}
  return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": parts}


NODES = {
  "negative": flax_array([-2, -2], "float32", bytes(16)),
  "object": flax_array([4], "object", bytes(32)),
  "no_shape": flax_array("four", "float32", bytes(16)),
  "no_dtype": flax_array([4], ["float32"], bytes(16)),
  "no_bytes": flax_array([4], "float32", "abcd" * 4),
  "other_extension": msgpack.ExtType(7, bytes(16)),
  "chunks": chunked([9], (0, bytes(16)), (1, bytes(16))),
  "number_names": {1: flax_array([4], "float32", bytes(16))},
}


@pytest.mark.parametrize("kind", NODES)
def test_a_hostile_msgpack_file_is_named(kind, tmp_path):
  node = copy.deepcopy(NODES[kind])
  (tmp_path / FLAX).write_bytes(msgpack.packb({"params": {"w": node}}))
  with pytest.raises(ValueError, match=f"{FLAX}: ") as error:
    read_all(tmp_path)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\x81\xa1a" * 5000, b"\x82\xa1a\x01" * 2])
def test_deep_and_doubled_msgpack_is_named(content, tmp_path):
  (tmp_path / FLAX).write_bytes(content)
  with pytest.raises(ValueError, match=f"{FLAX}: "):
    read_all(tmp_path)
