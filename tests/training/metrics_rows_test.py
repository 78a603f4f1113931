"""metrics.jsonl and its like: damage is named, a full disk hangs nothing."""

import errno
import json
import math
import pathlib
import random
import subprocess
import sys

import pytest
from tensorboardX import event_file_writer

from synpo_jax import train
from synpo_jax.training import metrics
from tests.support.paths import ROOT


def rows_of(count):
  return [{"step": n, "loss": 1 / n} for n in range(1, count + 1)]


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_bad_byte_anywhere_deletes_no_row(tmp_path):
  path = tmp_path / "metrics.jsonl"
  write(path, rows_of(9))
  whole, rng = path.read_bytes(), random.Random(0)
  for at in rng.sample(range(len(whole)), 100):
    damaged = bytearray(whole)
    damaged[at] = 0xFF
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"metrics.jsonl line \d"):
      metrics.open_log(tmp_path, start_step=9)
    assert path.read_bytes() == damaged


def test_a_bit_anywhere_in_rows_of_ours_is_noticed(tmp_path):
  """Also one that makes another number of a number; `train` says it so."""
  path = tmp_path / "metrics.jsonl"
  for row in rows_of(4):
    metrics.append(path, row)
  whole, rng = path.read_bytes(), random.Random(0)
  for bit in rng.sample(range(8 * len(whole)), 400):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    with pytest.raises(train.MET, match=r"metrics.jsonl line \d"):
      metrics.read_rows(path)


@pytest.mark.parametrize("cut", [1, 2, 9, 20])
def test_a_torn_last_line_is_passed_over(tmp_path, cut):
  path = tmp_path / "metrics.jsonl"
  write(path, rows_of(9))
  path.write_bytes(path.read_bytes()[:-cut])
  rows = metrics.read_rows(path)
  assert rows == rows_of(9 if cut == 1 else 8)
  metrics.open_log(tmp_path, start_step=5).close()
  assert metrics.read_rows(path) == rows_of(5)


def test_rows_that_are_gone_are_counted(tmp_path, capsys):
  path = tmp_path / "metrics.jsonl"
  for row in rows_of(5)[:3]:
    metrics.append(path, row)
  metrics.open_log(tmp_path, start_step=5).close()
  gone = f"{path}: 2 of the 5 rows up to update 5 are not there; curves will"
  assert capsys.readouterr().err.startswith(gone)
  metrics.open_log(tmp_path, start_step=3).close()
  metrics.say_missing(path, [{"step": 0}, {"step": 5}], range(0, 10, 5))
  assert not capsys.readouterr().err
  metrics.say_missing(path, [{"step": 1}, {"step": 5}], range(0, 10, 5))
  assert ": 1 of the 2 rows up to update 5 are" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("line", "why"),
  [
    ("[]", "not a JSON row"),
    ("", "not a JSON row"),
    ('{"loss": 1}', "its step is None"),
    ('{"step": "4"}', "its step is '4'"),
    ('{"step": 2}', "its step is 2, after 2"),
    ('{"step": 1}', "its step is 1, after 2"),
    ('{"step": true}', "its step is True"),
  ],
)
def test_odd_rows_are_named(tmp_path, line, why):
  path = tmp_path / "metrics.jsonl"
  path.write_text(f'{{"step": 1}}\n{{"step": 2}}\n{line}\n{{"step": 9}}\n')
  with pytest.raises(ValueError, match=f"line 3: {why}"):
    metrics.keep_rows(path, 9)
  assert path.read_text().count("\n") == 4


def test_events_say_what_rows_say(tmp_path):
  from tensorboardX.proto.event_pb2 import Event

  for start in (0, 2):
    log = metrics.open_log(tmp_path, start_step=start)
    for row in rows_of(4)[start:]:
      log.write(row)
    log.close()
  assert metrics.read_rows(tmp_path / "metrics.jsonl") == rows_of(4)
  seen = {}
  for path in sorted((tmp_path / "events").iterdir()):
    content, at, kinds = path.read_bytes(), 0, []
    while at < len(content):
      size = int.from_bytes(content[at : at + 8], "little")
      event = Event.FromString(content[at + 12 : at + 12 + size])
      at += 12 + size + 4
      kinds.append(event.WhichOneof("what"))
      for value in event.summary.value:
        assert value.tag == "loss"
        seen[event.step] = value.simple_value
    assert kinds[:2] == ["file_version", "session_log"]
  assert seen == pytest.approx({n: 1 / n for n in range(1, 5)})


class FullFile:
  """An event file on a full disk."""

  def write(self, *data):
    raise OSError(errno.ENOSPC, "No space left on device")

  flush = close = write


@pytest.mark.slow
def test_a_tracker_that_fails_is_said_once_and_stops_nothing(
  tmp_path, monkeypatch, capsys
):
  log = metrics.open_log(tmp_path, start_step=0)
  log.trackers[0]._writer._py_recordio_writer._writer = FullFile()
  for row in rows_of(2000):
    log.write(row | {f"x{i}": 0.5 for i in range(9)})
  log.close()
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 1 and "No space left" in said[0]
  assert len(metrics.read_rows(tmp_path / "metrics.jsonl")) == 2000
  monkeypatch.setattr(event_file_writer, "EventsWriter", FullFile().write)
  metrics.open_log(tmp_path, start_step=0).close()


LIMITED = """
import pathlib, resource, sys
from synpo_jax.training import metrics
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = metrics.open_log(sys.argv[1], start_step=0)
try:
  for step in range(1, 100_000):
    log.write({"step": step, "loss": 0.25, "a": 1.0, "b": 2.0, "c": 3.0})
except OSError as error:
  sys.exit(f"error: {error}")
"""


def test_a_disk_that_fills_ends_in_one_line_and_hangs_nothing(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", LIMITED, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 1 and "Traceback" not in done.stderr
  said = done.stderr.splitlines()
  path = tmp_path / "metrics.jsonl"
  assert said[-1].startswith("error: [Errno 27]") and str(path) in said[-1]
  rows = metrics.read_rows(path)
  assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
  assert path.read_bytes().endswith(b"}\n") and len(rows) > 200


def test_a_full_device_is_named(tmp_path):
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  with pytest.raises(OSError, match="No space left.*metrics.jsonl"):
    metrics.append(pathlib.Path(tmp_path / "metrics.jsonl"), {"step": 1})


def test_what_is_not_finite_is_null(tmp_path):
  """JSON has no NaN: programs that read it strictly read every row."""
  path = tmp_path / "eval.jsonl"
  row = {"step": 1, "loss": math.nan, "up": math.inf, "fine": 0.5}
  metrics.append(path, row)
  (kept,) = metrics.read_rows(path)
  assert kept == {"step": 1, "loss": None, "up": None, "fine": 0.5}
  assert b"NaN" not in path.read_bytes() and math.isnan(row["loss"])
