"""Flipped bytes in journals: the rows that were written, or a named error.

A failure prints the smallest file that shows it, and how to draw it again.
"""

import hypothesis
import pytest
from hypothesis import strategies as st

from synpo_jax.runtime import journal, seal
from tests.support import draws

TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)
SINGLE = st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | TEXTS
VALUES = SINGLE | st.lists(SINGLE, max_size=2) | st.dictionaries(TEXTS, TEXTS)
ROWS = st.lists(
  st.fixed_dictionaries({"id": TEXTS, "text": VALUES, "score": VALUES}),
  min_size=1,
  max_size=3,
  unique_by=lambda row: row["id"],
)
FLIPS = st.lists(
  st.tuples(st.integers(0, 10**4), st.integers(1, 255)), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  return tmp_path_factory.mktemp("journal") / "rows.jsonl"


def read(file):
  """Rows of a journal by key, or None where it is refused by name."""
  try:
    return journal.read(file)
  except ValueError as error:
    assert str(file) in str(error) and "\n" not in str(error)
    return None


@draws.most(200)
@hypothesis.given(rows=ROWS)
def test_what_is_written_is_read(file, rows):
  file.write_bytes(b"".join(map(journal.sealed, rows)))
  assert read(file) == {row["id"]: row for row in rows}


@draws.most(600)
@hypothesis.given(rows=ROWS, flips=FLIPS)
def test_flipped_bytes_change_no_row(file, rows, flips):
  content = bytearray(b"".join(map(journal.sealed, rows)))
  for place, mask in flips:
    content[place % len(content)] ^= mask
  file.write_bytes(content)
  found = read(file)
  written = {row["id"]: row for row in rows}
  # A last line that is torn in the middle is made again, and is no loss.
  assert found is None or found.items() <= written.items()
  assert found is None or len(found) >= len(rows) - 1


@pytest.mark.parametrize(
  "spoil",
  [
    lambda row: row.replace(b'", "crc32": "', b'","crc32":"'),
    lambda row: row.replace(b'"}', b'a"}'),
    lambda row: row.replace(b'"}', b'", "more": 1}'),
  ],
  ids=("without spaces", "a digit more", "a field more"),
)
def test_a_row_that_other_programs_wrote_anew_is_named(file, spoil):
  file.write_bytes(spoil(journal.sealed({"id": "a", "text": "b"})))
  with pytest.raises(ValueError, match="line 1: its checksum is damaged"):
    journal.read(file)


@pytest.mark.parametrize("end", [b"\r\n", b" \n", b" "])
def test_white_space_behind_a_row_is_nothing_of_it(file, end):
  row = {"id": "a", "text": "b"}
  file.write_bytes(journal.sealed(row)[:-1] + end)
  assert journal.read(file) == {"a": row}


@draws.most(300)
@hypothesis.given(
  content=st.binary() | st.text('{}":, \nid0crc\0').map(str.encode)
)
def test_any_file_is_read_or_named(file, content):
  file.write_bytes(content)
  for row in (read(file) or {}).values():
    assert isinstance(row["id"], str)


@pytest.mark.parametrize("earlier", [0, 1], ids=("first row", "a later row"))
def test_a_row_whose_checksum_went_into_a_value_is_named(tmp_path, earlier):
  """Bytes that are gone from within a text to within the checksum."""
  file, line = tmp_path / "rows.jsonl", f"line {earlier + 1}: its checksum"
  with journal.extend(file) as (_, append):
    for name in ("a", "b")[: earlier + 1]:
      append({"id": name, "text": "red"})
  if earlier:  # told by the rows before it alone
    (tmp_path / ".rows.jsonl.begun").write_bytes(b"")
  whole = file.read_bytes()
  text, digits = whole.rindex(b'red"'), len(whole) - len('00000000"}\n')
  for start in range(text, text + 4):
    for end in range(digits, digits + 8):
      file.write_bytes(whole[:start] + whole[end:])
      with pytest.raises(seal.Broken, match=line):
        journal.read(file)


def test_rows_of_an_earlier_version_come_first(tmp_path):
  file = tmp_path / "rows.jsonl"
  file.write_bytes(b'{"id": "a"}\n')
  with journal.extend(file) as (_, append):
    append({"id": "b"})
  assert [*journal.read(file)] == ["a", "b"]
