"""Files of rows: every kind is read row by row, or named in one line."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from synpo_jax.data import files, pairs
from synpo_jax.data.media import Fault
from tests.support import row_files

ROWS = [
  {"question": "What?", "chosen": f"A {n}.", "rejected": f"B {n}."}
  for n in range(5)
]


def read(path):
  return [row for file in files.find(path) for _, row in files.stream(file)]


@pytest.mark.parametrize("kind", row_files.KINDS)
def test_rows_come_in_order_with_their_places(tmp_path, kind):
  path = tmp_path / kind
  row_files.KINDS[kind](path, ROWS)
  assert read(path) == ROWS
  found = [
    place for file in files.find(path) for place, _ in files.stream(file)
  ]
  if kind == "saved":
    names = [f"data-{n:05}-of-00005.arrow" for n in range(5)]
    assert [str(place) for place in found] == [f"{path}/{n}:1" for n in names]
  else:
    assert [str(place) for place in found] == [
      f"{path}:{n + 1}" for n in range(5)
    ]
  unit = "line" if "jsonl" in kind else "row"
  assert {place.unit for place in found} == {unit}


def test_a_name_does_not_say_what_a_file_is(tmp_path):
  row_files.write_parquet(tmp_path / "pairs.jsonl", ROWS)
  (tmp_path / "pairs.parquet").write_bytes(gzip.compress(row_files.lines(ROWS)))
  assert read(tmp_path / "pairs.jsonl") == read(tmp_path / "pairs.parquet")


def test_what_datasets_saves_is_read_without_it(tmp_path):
  datasets = pytest.importorskip("datasets")
  whole = datasets.Dataset.from_list(ROWS)
  whole.select([3, 1]).save_to_disk(tmp_path / "some")
  datasets.DatasetDict(train=whole).save_to_disk(tmp_path / "all")
  assert read(tmp_path / "some") == [ROWS[3], ROWS[1]]
  assert read(tmp_path / "all" / "train") == ROWS
  with pytest.raises(ValueError, match="all: holds the splits train; name one"):
    files.find(tmp_path / "all")
  code = (
    "import sys; from synpo_jax.data import files\n"
    "rows = [r for f in files.find(sys.argv[1]) for r in files.stream(f)]\n"
    "print(len(rows), 'datasets' in sys.modules, 'jax' in sys.modules)"
  )
  told = subprocess.check_output(
    [sys.executable, "-c", code, tmp_path / "some"]
  )
  assert told.decode().split() == ["2", "False", "False"]


def test_a_glob_is_its_files_in_order_of_name(tmp_path):
  for name, rows in (("b", ROWS[2:]), ("a", ROWS[:2])):
    row_files.write_parquet(tmp_path / f"{name}.parquet", rows)
  row_files.write_saved(tmp_path / "c", ROWS[:1])
  (tmp_path / "other").mkdir()
  assert read(f"{tmp_path}/*.parquet") == ROWS
  assert read(f"{tmp_path}/*") == [*ROWS, ROWS[0]]
  found = pairs.read_pairs(f"{tmp_path}/*.parquet")
  assert [p.id for p in found.pairs] == [
    *("row-1", "row-2", "file-2-row-1", "file-2-row-2", "file-2-row-3")
  ]
  assert str(found.places["file-2-row-3"]) == f"{tmp_path}/b.parquet:3"
  with pytest.raises(FileNotFoundError, match="no such file of pairs"):
    files.find(f"{tmp_path}/*.json")


def test_a_file_with_a_globs_letters_is_itself(tmp_path):
  path = tmp_path / "pairs[1].jsonl"
  path.write_bytes(row_files.lines(ROWS))
  assert files.find(path) == [path]


def test_an_id_in_two_files_is_named_with_its_file(tmp_path):
  for name in "ab":
    content = row_files.lines([ROWS[0] | {"id": "x"}])
    (tmp_path / f"{name}.jsonl").write_bytes(content)
  with pytest.raises(ValueError) as error:
    pairs.read_pairs(f"{tmp_path}/*.jsonl")
  a, b = (tmp_path / f"{name}.jsonl" for name in "ab")
  assert str(error.value) == f"{b}:1: id 'x' is already used on line 1 of {a}"


def test_row_groups_are_read_when_their_turn_comes(tmp_path):
  path = tmp_path / "pairs.parquet"
  row_files.write_parquet(path, [ROWS[n % 5] for n in range(200)])
  last = parquet.ParquetFile(path).metadata.row_group(199).column(0)
  content = bytearray(path.read_bytes())
  for at in range(last.data_page_offset, last.data_page_offset + 8):
    content[at] ^= 255
  path.write_bytes(content)
  rows = files.stream(path)
  assert [next(rows)[1] for _ in range(128)] == (ROWS * 26)[:128]
  with pytest.raises(ValueError, match="pairs.parquet: cannot be read as Parq"):
    list(rows)


CUT = {
  "pairs.jsonl.gz": "its gzip is damaged or cut short",
  "pairs.jsonl.zst": "its zstd is damaged or cut short",
  "pairs.parquet": "cannot be read as Parquet",
  "pairs.arrow": "cannot be read as Arrow",
  "stream.arrow": "cannot be read as Arrow",
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95, -8, -1])
def test_a_file_cut_short_is_one_line(tmp_path, kind, left):
  path = tmp_path / kind
  row_files.KINDS[kind](path, ROWS)
  content = path.read_bytes()
  size = left if left < 0 else int(len(content) * left)
  path.write_bytes(content[:size])
  with pytest.raises(ValueError) as error:
    pairs.read_pairs(path)
  assert str(error.value).startswith(f"{path}: {CUT[kind]}")
  assert len(str(error.value).splitlines()) == 1


def test_a_json_array_cut_short_names_the_row(tmp_path):
  path = tmp_path / "pairs.json"
  content = json.dumps(ROWS[:2])
  for size in range(2, len(content)):
    path.write_text(content[:size])
    with pytest.raises(ValueError, match=rf"^{path}:[123]: is (not JSON|c)"):
      pairs.read_pairs(path)


ARRAYS = [
  ("[{}, 3]", 2, "is a JSON int, not an object"),
  ('[{"a": 1, "a": 2}]', 1, "'a' stands twice in it"),
  ("[{}, {},]", 3, "is not JSON: .* at line 1 column 9"),
  ("[{} {}]", 2, "is no part of the array, at character 5"),
  ("[{}] x", 2, "is no part of the array"),
  ("[{}, " + "[" * 10**5, 2, "is JSON too deep, or a number too long"),
]


@pytest.mark.parametrize("content, number, reason", ARRAYS)
def test_what_is_no_array_of_objects_is_named_by_row(
  tmp_path, content, number, reason
):
  path = tmp_path / "pairs.json"
  path.write_text(content)
  place, last = list(files.stream(path))[-1]
  assert place.number == number and isinstance(last, Fault)
  with pytest.raises(Fault, match=reason):
    raise last


def test_empty_files_and_arrays_hold_no_rows(tmp_path):
  path = tmp_path / "pairs"
  table = pa.table({"chosen": pa.array([], pa.string())})
  for content in (b"", b"[]", b" [ ]\n", gzip.compress(b""), None):
    path.write_bytes(content or b"")
    if content is None:
      parquet.write_table(table, path)
    with pytest.raises(ValueError, match="pairs: holds no rows"):
      pairs.read_pairs(path)


def test_a_column_that_stands_twice_is_refused(tmp_path):
  table = pa.table([["a"], ["b"]], names=["chosen", "chosen"])
  parquet.write_table(table, tmp_path / "pairs.parquet")
  with pytest.raises(ValueError, match="its column 'chosen' stands twice"):
    read(tmp_path / "pairs.parquet")


def test_values_that_are_no_text_are_refused_by_column(tmp_path):
  for value in (b"bytes", 3.5, True, pa.scalar(0, pa.timestamp("s")).as_py()):
    rows = [ROWS[0] | {"chosen": value}]
    row_files.write_parquet(tmp_path / "pairs.parquet", rows)
    with pytest.raises(
      ValueError, match="parquet:1: 'chosen' is a .*, not text"
    ):
      pairs.read_pairs(tmp_path / "pairs.parquet")


def test_bytes_that_are_not_utf8_name_the_file(tmp_path):
  broken = pa.array([b"\xff"]).view(pa.string())
  table = pa.table({"question": ["Q"], "chosen": broken})
  parquet.write_table(table, tmp_path / "pairs.parquet")
  with pytest.raises(
    ValueError, match="pairs.parquet: cannot be read"
  ) as error:
    read(tmp_path / "pairs.parquet")
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
  "state, reason",
  [
    ("{", "state.json: is damaged; save the dataset anew"),
    ('{"_data_files": [{"filename": "../x"}]}', "state.json: is damaged"),
    ('{"_data_files": [{"filename": "gone"}]}', "saved: lacks gone, which its"),
    (
      '{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}',
      "saved: holds rows that a selection left out",
    ),
  ],
)
def test_a_saved_folder_that_is_not_whole_is_named(tmp_path, state, reason):
  row_files.write_saved(tmp_path / "saved", ROWS)
  (tmp_path / "saved" / "state.json").write_text(state)
  with pytest.raises(ValueError, match=reason):
    files.find(tmp_path / "saved")


def test_a_line_without_an_end_is_not_taken_into_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(files, "LONGEST", 1000)
  path = tmp_path / "pairs.jsonl.gz"
  path.write_bytes(gzip.compress(b"{" + b" " * 5000))
  with pytest.raises(ValueError, match="pairs.jsonl.gz:1: is a line of more"):
    read(path)
