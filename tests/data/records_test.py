"""Arrays in files: each with its checksum, and none half-written."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from synpo_jax.data import records
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
