"""Damaged and hostile weight files: the right numbers, or one named error.

The official reader of safetensors is the oracle for their headers.
"""

import json
import struct

import flax.serialization
import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from synpo_jax.weights import (
  folders,
  safetensors_files,
  stores,
  tensor_kinds,
)

FILE, FLAX = "model.safetensors", "flax_model.msgpack"
INDEX, OTHER = FILE + ".index.json", "other.safetensors"
TABLE = {
  "a.weight": np.arange(8, dtype=np.float32).reshape(2, 4),
  "b.bias": np.arange(4, dtype=np.float16),
  "c": np.zeros((0, 3), np.float32),
}


def read_all(folder):
  """Every tensor of a folder, by name."""
  store = folders.open_folder(folder)
  return {name: store.read(name) for name in store.shapes}


def parts_of(file):
  """(header as a dict, the bytes behind it) of a safetensors file."""
  content = file.read_bytes()
  length = int.from_bytes(content[:8], "little")
  return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_parts(file, header: bytes, data: bytes, length=None):
  length = len(header) if length is None else length
  file.write_bytes(struct.pack("<Q", length) + header + data)


def changed(name, **fields):
  def change(header):
    header[name] |= fields

  return change


def without(name):
  return lambda header: header.pop(name)


HEADERS = {
  "overlap": changed("b.bias", data_offsets=[28, 36]),
  "hole": without("b.bias"),
  "backwards": changed("a.weight", data_offsets=[32, 0]),
  "beyond": changed("b.bias", data_offsets=[32, 4000]),
  "negative": changed("a.weight", shape=[-2, -4]),
  "other_shape": changed("a.weight", shape=[2, 3]),
  "overflow": changed("a.weight", shape=[2**62, 4]),
  "no_whole": changed("a.weight", shape=[2.0, 4]),
  "other_dtype": changed("a.weight", dtype="F16"),
  "unknown_dtype": changed("a.weight", dtype="Q4"),
  "not_ours": changed("a.weight", dtype="I8", shape=[8, 4]),
  "text": lambda header: header.update({"a.weight": "F32"}),
  "no_fields": lambda header: header.update({"a.weight": {}}),
  "metadata": lambda header: header.update(__metadata__={"format": 1}),
}


def test_names_and_axes_are_those_of_torch(tmp_path):
  save_file(TABLE, tmp_path / FILE)
  assert not safetensors_files.open_folder(tmp_path).flax


@pytest.mark.parametrize("kind", HEADERS)
def test_a_hostile_header_is_named(kind, tmp_path):
  save_file(TABLE, tmp_path / FILE)
  header, data = parts_of(tmp_path / FILE)
  HEADERS[kind](header)
  write_parts(tmp_path / FILE, json.dumps(header).encode(), data)
  with pytest.raises(ValueError, match=rf"{FILE}: .+") as error:
    read_all(tmp_path)
  assert "\n" not in str(error.value)


def test_a_name_that_stands_twice_is_named(tmp_path):
  """The official reader takes the last."""
  one = '"a": {"dtype": "F32", "shape": [%d], "data_offsets": [0, 16]}'
  header = "{" + one % 4 + ", " + one.replace("32", "64") % 2 + "}"
  write_parts(tmp_path / FILE, header.encode(), bytes(16))
  assert load_file(tmp_path / FILE)["a"].dtype == np.float64
  with pytest.raises(ValueError, match=f"{FILE}: .*'a' stands twice"):
    read_all(tmp_path)


@pytest.mark.parametrize(
  "content",
  [b"", b"abc", bytes(64), b"\xff" * 64, struct.pack("<Q", 9) + b"[" * 9],
)
def test_what_is_no_safetensors_file_is_named(content, tmp_path):
  (tmp_path / FILE).write_bytes(content)
  with pytest.raises(ValueError, match=f"{FILE}: not a safetensors file"):
    read_all(tmp_path)


EDITS = st.lists(
  st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 399), st.integers(0, 7)),
    st.tuples(st.just("byte"), st.integers(0, 399), st.integers(0, 255)),
    st.tuples(st.just("drop"), st.integers(0, 399), st.integers(1, 30)),
    st.tuples(st.just("digit"), st.integers(0, 30), st.sampled_from(b"0123")),
    st.tuples(st.just("twice"), st.integers(0, 300), st.integers(1, 90)),
  ),
  min_size=1,
  max_size=3,
)


def edit(content, what, at, value):
  """The bytes of a file with one thing wrong."""
  out = bytearray(content)
  digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
  if what == "digit":
    out[digits[at % len(digits)]] = value
  elif what == "twice":
    out[at:at] = out[at : at + value]
  elif what == "drop":
    del out[at : at + value]
  elif at < len(out):
    out[at] = value if what == "byte" else out[at] ^ 1 << value
  return bytes(out)


def equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name, value in theirs.items():
    np.testing.assert_array_equal(ours[name], value, strict=True)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
  folder = tmp_path_factory.mktemp("damaged")
  save_file(TABLE, folder / "whole")
  return folder, (folder / "whole").read_bytes()


@pytest.mark.slow
@hypothesis.given(edits=EDITS, keeps_length=st.booleans())
def test_damage_gives_the_official_numbers_or_a_named_error(
  damaged, edits, keeps_length
):
  folder, content = damaged
  for one in edits:
    content = edit(content, *one)
  if not keeps_length:  # right again, so that damage goes deeper
    length = content.rfind(b"}") + 1 - 8
    content = struct.pack("<Q", max(length, 0)) + content[8:]
  (folder / FILE).write_bytes(content)
  try:
    ours = read_all(folder)
  except ValueError as error:
    assert f"{FILE}: " in str(error) and "\n" not in str(error)
  else:
    equal(ours, load_file(folder / FILE))


def write_two(folder, weight_map=None, **tables):
  """Tensors in two files and their index."""
  tables = tables or dict(one={"a": np.ones(2)}, two={"b": np.ones(3)})
  for name, table in tables.items():
    save_file(table, folder / f"{name}.safetensors")
  told = {t: f"{f}.safetensors" for f, table in tables.items() for t in table}
  content = dict(metadata={}, weight_map=weight_map or told)
  (folder / INDEX).write_text(json.dumps(content))


MAPS = {
  "number": ({"a": 1}, "no name of a file"),
  "nothing": ({"a": None}, "no name of a file"),
  "above": ({"a": "../one.safetensors"}, "no name of a file"),
  "elsewhere": ({"a": "/etc/hostname"}, "no name of a file"),
  "list": (["one.safetensors"], "no weight_map"),
  "swapped": (
    {"a": "two.safetensors", "b": "one.safetensors"},
    "says that a is in two.safetensors, but it is in one",
  ),
  "more": (
    {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"},
    "c is in two.safetensors, but no file holds it",
  ),
}


@pytest.mark.parametrize("kind", MAPS)
def test_an_index_that_does_not_fit_is_named(kind, tmp_path):
  weight_map, message = MAPS[kind]
  write_two(tmp_path, weight_map)
  with pytest.raises(ValueError, match=f"{INDEX}: .*{message}"):
    read_all(tmp_path)


def test_an_index_that_fits_is_read(tmp_path):
  write_two(tmp_path)
  equal(read_all(tmp_path), {"a": np.ones(2), "b": np.ones(3)})
  (tmp_path / "two.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="two.safetensors: named in the"):
    read_all(tmp_path)


def test_a_tensor_in_two_files_is_named(tmp_path):
  twice = dict(one={"a": np.ones(2)}, two={"a": np.zeros(2), "b": np.ones(2)})
  write_two(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, **twice)
  with pytest.raises(ValueError, match="two.safetensors: a is in one"):
    read_all(tmp_path)
  text = '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}'
  (tmp_path / INDEX).write_text(text)
  with pytest.raises(ValueError, match=f"{INDEX}: .*'a' stands twice"):
    read_all(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named(dtype, value, tmp_path):
  weights = np.full((3, 5), 2.5, jnp.dtype(dtype))
  weights[1, 2] = value
  save_file({"w": np.ones(2), "m.q": weights}, tmp_path / FILE)
  np.testing.assert_array_equal(folders.open_folder(tmp_path).read("w"), [1, 1])
  with pytest.raises(ValueError, match=f"{FILE}: m.q: 1 of 15 values are NaN"):
    read_all(tmp_path)
  (tmp_path / FILE).unlink()
  tree = {"m": {"q": jnp.asarray(weights)}}
  (tmp_path / FLAX).write_bytes(flax.serialization.to_bytes(tree))
  with pytest.raises(ValueError, match=f"{FLAX}: m.q: 1 of 15 values are NaN"):
    read_all(tmp_path)
  file = tmp_path / "written.safetensors"
  with pytest.raises(ValueError, match="written.safetensors: w: 1 of 15"):
    safetensors_files.write(file, {"w": (3, 5)}, weights.dtype, [weights])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_that_a_dtype_cannot_hold_are_named(dtype):
  """Cast, 70,000 would be infinity in float16; bfloat16 holds it."""
  tensor = np.array([[1.0, -70_000.0]], np.float32)
  if dtype == "bfloat16":
    assert stores.check_fits(tensor, dtype, "x") is tensor
    return
  said = "model: w: holds 7e.04, and float16 ends at 6.55e.04; set model.dtype"
  with pytest.raises(ValueError, match=said):
    stores.check_fits(tensor, dtype, "model: w")
  fits = np.float32([65_504])
  assert stores.check_fits(fits, dtype, "x") is fits


def test_weights_beyond_float16_are_refused_where_they_are_read():
  store = stores.in_memory({"w": {"kernel": np.float32([[1e6]])}}, "port")
  leaf = tensor_kinds.single("w", "", "w", "linear")
  with pytest.raises(ValueError, match="port: w.kernel: holds 1e.06"):
    next(folders._tensors(leaf, store, np.float16))
  assert next(folders._tensors(leaf, store, np.float32)) == 1e6
