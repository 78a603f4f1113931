"""Arrays in files: each with its checksum, and none half-written."""

import concurrent.futures as futures
import json
import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest

from synpo_jax.data import records
from tests.support import small_files
from tests.support.paths import ROOT


def test_a_checksum_is_compared_even_where_the_file_is_sound(tmp_path):
  records.write(tmp_path, {"a": np.arange(4, dtype=np.float32)})
  (entry,) = records.inventory(tmp_path).values()
  reader = records.Reader([entry._replace(checksum=entry.checksum ^ 1)])
  with pytest.raises(records.Damaged, match="record 0: its checksum differs"):
    reader(0)


@pytest.mark.parametrize("key", [b'"kex"', b'"key', b"7", b"\xff"])
def test_a_garbled_list_counts_as_torn(tmp_path, key):
  records.write(tmp_path, {"a": np.zeros(4, np.float32)})
  (listed,) = tmp_path.glob("*.jsonl")
  listed.write_bytes(listed.read_bytes().replace(b'"key"', key))
  assert records.inventory(tmp_path) == {}
  assert records.clean(tmp_path) == [str(listed.with_suffix(".array_record"))]
  assert list(tmp_path.iterdir()) == []


WRONG = [
  dict(key=7),
  dict(key=None),
  dict(key=["a"]),
  dict(dtype="float33"),
  dict(dtype="object"),
  dict(dtype="U4"),
  dict(dtype=["f4"]),
  dict(dtype=None),
  dict(shape=4),
  dict(shape=None),
  dict(shape=[-4]),
  dict(shape=["4"]),
  dict(shape=[[4]]),
  dict(shape=[True]),
  dict(shape=[2**62, 4]),
  dict(checksum="0"),
  dict(checksum=-1),
  dict(checksum=1.5),
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_list_that_cannot_be_meant_counts_as_torn(tmp_path, change):
  records.write(tmp_path, {"a": np.zeros(4, np.float32)})
  (listed,) = tmp_path.glob("*.jsonl")
  head, row = map(json.loads, listed.read_text().splitlines())
  listed.write_text(f"{json.dumps(head)}\n{json.dumps(row | change)}\n")
  assert records.inventory(tmp_path) == {}
  assert records.clean(tmp_path) == [str(listed.with_suffix(".array_record"))]


@pytest.mark.parametrize("row", ["[]", "7", "null", '"key"', "[" * 9999])
def test_a_line_that_is_no_object_counts_as_torn(tmp_path, row):
  records.write(tmp_path, {"a": np.zeros(4, np.float32)})
  (listed,) = tmp_path.glob("*.jsonl")
  head = listed.read_text().splitlines()[0]
  for lines in (f"{head}\n{row}\n", f"{row}\n{head}\n", row, ""):
    listed.write_text(lines)
    assert records.inventory(tmp_path) == {}


@pytest.mark.parametrize("change", [dict(shape=(5,)), dict(dtype="float64")])
def test_an_array_of_another_size_than_listed_is_named(tmp_path, change):
  records.write(tmp_path, {"a": np.zeros(4, np.float32)})
  (entry,) = records.inventory(tmp_path).values()
  with pytest.raises(records.Damaged, match="record 0: 16 bytes are no float"):
    records.Reader([entry._replace(**change)])(0)


def test_who_waits_for_a_folder_says_for_whom(tmp_path, caplog):
  with futures.ThreadPoolExecutor(1) as pool:
    with records.alone(tmp_path):
      assert not caplog.messages

      def wait():
        with records.alone(tmp_path):
          pass

      waiting = pool.submit(wait)
      while not caplog.messages:
        assert not waiting.done()
    waiting.result(10)
  (line,) = caplog.messages
  process = f"process {os.getpid()} on {platform.node()}"
  assert line == f"{tmp_path}: waiting for {process}, which fills this folder"


# What a process that is killed while it stores its third file leaves.
KILLED = """
import os, pathlib, signal, sys
import numpy as np
from synpo_jax.runtime import journal
from synpo_jax.data import records
folder, where = pathlib.Path(sys.argv[1]), sys.argv[2]
writer, rewrite, made = records.ArrayRecordWriter, journal.rewrite, []
def die(*_):
  os.kill(os.getpid(), signal.SIGKILL)
class Dying(writer):
  def write(self, content):
    super().write(content)
    if len(made) == 3 and where == "data": die()
def opened(*arguments):
  made.append(1)
  return Dying(*arguments)
def listed(*arguments):
  if len(made) == 3 and where == "list": die()
  rewrite(*arguments)
records.ArrayRecordWriter, journal.rewrite = opened, listed
arrays = ((str(i), np.full(9, i, np.float32)) for i in range(9))
records.write_all(folder, arrays, 2)
"""


@pytest.mark.parametrize("where", ["data", "list"])
def test_a_killed_process_loses_only_the_file_it_was_at(tmp_path, where):
  command = [sys.executable, "-c", KILLED, str(tmp_path), where]
  done = subprocess.run(command, cwd=ROOT)
  assert done.returncode == -signal.SIGKILL
  assert len(list(tmp_path.glob("*.array_record"))) == 3
  entries = records.inventory(tmp_path)
  assert sorted(entries) == ["0", "1", "2", "3"]
  assert records.clean(tmp_path) == []
  assert len(list(tmp_path.glob("*.array_record"))) == 2
  reader = records.Reader([entries[str(n)] for n in range(4)])
  for number in range(4):
    np.testing.assert_array_equal(reader(number), np.full(9, number, "f4"))


def test_a_full_disk_is_named(tmp_path):
  with pytest.raises(OSError, match="array_record: cannot be written .*large"):
    with small_files.limited(2000):
      records.write(tmp_path, {"a": np.zeros(8000, np.uint8)})
  assert records.inventory(tmp_path) == {}
