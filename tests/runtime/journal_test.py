import itertools
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from synpo_jax.runtime import journal, jsonl, seal

WRITER = """
import sys
from synpo_jax.runtime import journal
with journal.extend(sys.argv[1]) as (rows, append):
  print(len(rows), flush=True)
  for i in range(len(rows), 400):
    append({"id": str(i), "text": "é" * (i * 37 % 5000)})
"""


def write(path, *names):
  with journal.extend(path) as (rows, append):
    for name in names:
      append({"id": name})


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_torn_last_line_is_mended(tmp_path, cut):
  path = tmp_path / "rows.jsonl"
  write(path, "a", "b")
  whole = path.read_bytes()
  path.write_bytes(whole[:-cut])
  assert list(journal.read(path)) == (["a", "b"] if cut == 1 else ["a"])
  write(path, *(["c"] if cut == 1 else ["b", "c"]))
  assert list(journal.read(path)) == ["a", "b", "c"]
  assert path.read_bytes().startswith(whole)


def test_a_file_of_one_torn_line_starts_anew(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(b'{"id": "a", "long": "' + b"x" * 200_000)
  write(path, "b")
  assert list(journal.read(path)) == ["b"]


@pytest.mark.parametrize(
  ("text", "fault"),
  [
    ('{"id": "a"}\nnoise\n{"id": "b"}\n', "line 2: not a JSON row"),
    ('{"id": "a"}\n{"id": 3}\n', "line 2: not a JSON row with a text 'id'"),
    ('{"id": "a"}\n{"id": "a"}\n', "line 2: id 'a' is there twice"),
  ],
)
def test_other_damage_is_named(tmp_path, text, fault):
  path = tmp_path / "rows.jsonl"
  path.write_text(text)
  with pytest.raises(ValueError, match=fault):
    journal.read(path)


@pytest.mark.parametrize(
  "content", [b"\x00\x00 ftypisom \xff", b"one\ntwo", b'{"id": "a"}\ntwo']
)
def test_another_file_is_refused_and_stays_as_it_is(tmp_path, content):
  path = tmp_path / "clip.mp4"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="clip.mp4"):
    write(path, "b")
  assert path.read_bytes() == content


def test_a_row_is_never_doubled(tmp_path):
  path = tmp_path / "rows.jsonl"
  write(path, "a")
  with pytest.raises(ValueError, match="'a' is there already"):
    write(path, "a")


def test_there_is_one_writer_at_a_time(tmp_path):
  path = tmp_path / "rows.jsonl"
  with journal.extend(path):
    with pytest.raises(ValueError, match="another process"):
      write(path, "a")
  write(path, "a")


def test_rewrite_replaces_all_rows(tmp_path):
  path = tmp_path / "rows.jsonl"
  write(path, "a", "b")
  journal.rewrite(path, [{"id": "b", "text": "lone \ud83d surrogate"}])
  assert list(journal.read(path)) == ["b"]
  assert sorted(os.listdir(tmp_path)) == [".rows.jsonl.begun", "rows.jsonl"]
  assert path.read_text() == '{"id": "b", "text": "lone ? surrogate"}\n'


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path):
  path = tmp_path / "rows.jsonl"
  for turn in range(8):
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
      run.stdout.readline()
      if turn < 7:
        time.sleep(0.003 * turn)
        run.send_signal(signal.SIGKILL)
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["id"] for row in rows] == [str(i) for i in range(400)]
  assert all(row["text"] == "é" * (i * 37 % 5000) for i, row in enumerate(rows))


def rows_of_many_kinds():
  return [
    {"id": "a", "caption": "A dog runs – twice.", "tokens": 7},
    {"id": "b", "caption": 'It says "crc32": "00000000"}', "tokens": 9},
    {"id": "c", "reply": {"text": '{"score": 4}', "cut": False}, "x": None},
    {"id": "d", "scores": [1, 2.5, None], "crc32": "its own"},
  ]


def test_rows_are_read_as_they_were_appended(tmp_path):
  path = tmp_path / "rows.jsonl"
  with journal.extend(path) as (_, append):
    for row in rows_of_many_kinds():
      append(row)
  assert list(journal.read(path).values()) == rows_of_many_kinds()
  for line in path.read_text("utf-8").splitlines():
    assert len(json.loads(line)["crc32"]) == 8
  journal.renew(path, rows_of_many_kinds()[1:])
  assert list(journal.read(path).values()) == rows_of_many_kinds()[1:]


@pytest.mark.slow
def test_every_flipped_bit_is_refused_by_name_or_changes_nothing(tmp_path):
  path = tmp_path / "rows.jsonl"
  journal.renew(path, rows_of_many_kinds())
  whole, refused, flips = path.read_bytes(), 0, 0
  for at, bit in itertools.product(range(len(whole)), range(8)):
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    flips += 1
    try:
      rows = journal.read(path)
    except ValueError as error:
      assert str(path) in str(error) and "run again" in str(error)
      refused += 1
      continue
    assert list(rows.values()) == rows_of_many_kinds(), (at, bit)
  assert refused > 0.99 * flips > 2000
  path.write_bytes(whole[:-1] + b"*")  # as a flip of the last line feed
  with pytest.raises(ValueError, match="line 4"):
    write(path, "e")
  assert path.read_bytes() == whole[:-1] + b"*"


def test_rows_without_a_checksum_are_read_and_said(tmp_path, capsys):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"id": "a"}\n{"id": "b", "x": "0123456789ab"}\n')
  assert list(journal.read(path)) == ["a", "b"]
  write(path, "c")
  assert "2 of 2 rows carry no checksum" in capsys.readouterr().err
  assert journal.read(path)["c"] == {"id": "c"}


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_a_file_that_held_rows_and_holds_none_is_refused(tmp_path, content):
  path = tmp_path / "rows.jsonl"
  write(path, "a")
  path.write_bytes(content)
  for use in (journal.read, lambda path: write(path, "b")):
    with pytest.raises(ValueError, match=r"rows.jsonl: .*delete it to begin"):
      use(path)
  assert path.read_bytes() == content
  path.unlink()
  write(path, "b")
  assert list(journal.read(path)) == ["b"]


def test_an_empty_file_that_never_held_rows_is_none(tmp_path):
  path = tmp_path / "rows.jsonl"
  with journal.extend(path):
    pass
  assert journal.read(path) == {}
  write(path, "a")
  journal.renew(path, [])  # emptied by its owner
  assert journal.read(path) == {}
  write(path, "b")


def test_a_torn_line_that_is_cut_off_is_said(tmp_path, capsys):
  path = tmp_path / "rows.jsonl"
  write(path, "a", "b")
  path.write_bytes(path.read_bytes()[:-3])
  write(path, "c")
  assert "its last line was torn" in capsys.readouterr().err


def test_other_readers_of_lines_compare_checksums_too(tmp_path):
  path = tmp_path / "rows.jsonl"
  write(path, "a")
  ((_, text),) = jsonl.lines(path)
  assert json.loads(text) == {"id": "a"}
  path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
  with pytest.raises(ValueError, match="line 1: its checksum differs"):
    list(jsonl.lines(path))


def test_a_full_disk_names_the_file_and_leaves_whole_rows(tmp_path):
  code = (
    "import resource, sys\n"
    "from synpo_jax.runtime import journal\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    "with journal.extend(sys.argv[1]) as (rows, append):\n"
    "  for i in range(999): append({'id': str(i), 'text': 'x' * 99})\n"
  )
  path = tmp_path / "rows.jsonl"
  done = subprocess.run(
    [sys.executable, "-c", code, str(path)], capture_output=True, text=True
  )
  assert f"[Errno 27] File too large: '{path}'" in done.stderr
  assert path.read_bytes().endswith(b"}\n") and len(journal.read(path)) > 30
  code = code.replace("journal.extend", "0 and ").split("with")[0]
  code += "journal.rewrite(sys.argv[1], [{'id': 'x' * 9000}])\n"
  before = path.read_bytes()
  done = subprocess.run(
    [sys.executable, "-c", code, str(path)], capture_output=True, text=True
  )
  assert f"'{path}'" in done.stderr and path.read_bytes() == before
  assert sorted(os.listdir(tmp_path)) == [".rows.jsonl.begun", "rows.jsonl"]


def test_rows_that_stay_on_the_disk_are_found_and_not_held(tmp_path):
  """Memory does not grow with what the rows hold, at the start and behind."""
  path, text = tmp_path / "x.jsonl", "word " * 40_000  # 200 kB
  rows = [{"id": str(number), "text": text} for number in range(20)]
  with journal.extend(path) as (_, append):
    for row in rows[:10]:
      append(row)
  tracemalloc.start()
  with journal.extend(path, on_disk=True) as (held, append):
    for row in rows[10:]:
      append(row)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 20 and {*held} == {str(n) for n in range(20)}
    assert held["3"] == rows[3] and held["19"] == rows[19]
    assert "20" not in held and held.get("20") is None
    with pytest.raises(ValueError, match="id '3' is there already"):
      append(rows[3])
    path.write_bytes(path.read_bytes().replace(b"word", b"ward"))
    with pytest.raises(seal.Broken, match="checksum differs"):
      held["3"]
  assert kept < len(text) and peak < 8 * len(text)


def test_rows_on_the_disk_are_checked_as_others(tmp_path):
  path = tmp_path / "x.jsonl"
  journal.rewrite(path, [{"id": "a"}, {"id": "a"}])
  with (
    pytest.raises(seal.Broken, match="line 2: id 'a' is there twice"),
    journal.extend(path, on_disk=True),
  ):
    pass
