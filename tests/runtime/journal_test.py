import json
import os
import signal
import subprocess
import sys
import time

import pytest

from synpo_jax.runtime import journal

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
  assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path):
  path = tmp_path / "rows.jsonl"
  for turn in range(8):
    run = subprocess.Popen(
      [sys.executable, "-c", WRITER, str(path)],
      stdout=subprocess.PIPE,
    )
    run.stdout.readline()
    if turn < 7:
      time.sleep(0.003 * turn)
      run.send_signal(signal.SIGKILL)
    run.wait()
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["id"] for row in rows] == [str(i) for i in range(400)]
  assert all(row["text"] == "é" * (i * 37 % 5000) for i, row in enumerate(rows))
