"""Trackers: their clients write what metrics.jsonl has, and stop nothing."""

import importlib.util
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time
import types

import ml_collections
import numpy as np
import pytest

from synpo_jax.training import metrics, relay, samples, tracking
from tests.support.paths import ROOT

ROWS = [{"step": n, "loss": 1 / n, "eval/x": n / 2} for n in range(1, 5)]


def config(*to):
  log = dict(to=to, project="synpo_test", samples=1)
  return ml_collections.ConfigDict(dict(log=log, optim=dict(lr=0.5)))


def shown(folder):
  """Rows of samples, of a held-out video of two frames."""
  frames = np.full((2, 4, 4, 3), 7, np.uint8)
  held = types.SimpleNamespace(frames=lambda n: frames, videos=["a.mp4"])
  samples.rows({"a.mp4": "a dog"}, held, folder, 0)
  return samples.rows({"a.mp4": "two dogs"}, held, folder, 3)


def log_twice(folder, c):
  """Two starts of one run, the second after update 2; the rows of both."""
  for start in (0, 2):
    trackers = tracking.start(c, folder, start)
    log = metrics.open_log(folder, start_step=start, trackers=trackers)
    for row in ROWS[start : start + 3]:  # row 3 was not in a checkpoint
      log.write(row)
    if start:
      log.show(4, shown(folder))
    log.close()
  assert metrics.read_rows(folder / "metrics.jsonl") == ROWS


def wandb_records(path):
  """The records of an offline run: LevelDB's log format after 7 bytes."""
  from wandb.proto import wandb_internal_pb2

  content, at, whole = path.read_bytes(), 7, b""
  while at + 7 <= len(content):
    left = 32768 - at % 32768
    if left < 7:
      at += left
      continue
    size = int.from_bytes(content[at + 4 : at + 6], "little")
    whole += content[at + 7 : at + 7 + size]
    if content[at + 6] in (1, 4):  # whole, or the last part
      record = wandb_internal_pb2.Record()
      record.ParseFromString(whole)
      yield record
      whole = b""
    at += 7 + size


@pytest.mark.slow
def test_wandb_offline_holds_the_rows_of_one_run(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")
  log_twice(tmp_path, config("wandb"))
  name = tracking.run_id(tmp_path)
  files = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb"))
  assert len(files) == 2
  seen, pictures = {}, []
  for record in (r for file in files for r in wandb_records(file)):
    items = {
      item.key or "/".join(item.nested_key): json.loads(item.value_json)
      for item in record.history.item
    }
    if "loss" in items:
      row = {key: items[key] for key in ("loss", "eval/x")}
      seen[record.history.step.num] = {"step": record.history.step.num, **row}
    pictures += [v for k, v in items.items() if k.startswith("samples")]
  assert list(seen.values()) == ROWS
  assert pictures
  tables = list(tmp_path.glob("wandb/offline-run-*/files/media/**/*.json"))
  (row,) = json.loads(tables[0].read_text())["data"]
  assert row[0] == "a.mp4" and row[2:] == ["a dog", "two dogs"]


@pytest.mark.slow
def test_mlflow_in_the_workdir_holds_the_rows_of_one_run(tmp_path, monkeypatch):
  monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
  log_twice(tmp_path, config("mlflow"))
  from mlflow import MlflowClient

  client = MlflowClient((tmp_path / "mlruns").as_uri())
  experiment = client.get_experiment_by_name("synpo_test")
  (run,) = client.search_runs([experiment.experiment_id])
  assert run.data.params["optim.lr"] == "0.5"
  assert run.info.status == "FINISHED"
  for name in ("loss", "eval/x"):
    history = client.get_metric_history(run.info.run_id, name)
    assert [(m.step, m.value) for m in history] == [
      (row["step"], row[name]) for row in ROWS
    ]
  path = client.download_artifacts(run.info.run_id, "samples/4.json")
  (row,) = json.loads(pathlib.Path(path).read_text())["rows"]
  assert (row["before"], row["now"]) == ("a dog", "two dogs")
  frames = client.list_artifacts(run.info.run_id, "samples/frames")
  assert [file.path for file in frames] == ["samples/frames/0.png"]


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("trackio") is None,
  reason="pip install -e '.[trackio]'",
)
def test_trackio_in_the_workdir_holds_the_rows_of_one_run(
  tmp_path, monkeypatch
):
  monkeypatch.delenv("TRACKIO_DIR", raising=False)
  log_twice(tmp_path, config("trackio"))
  with sqlite3.connect(tmp_path / "trackio" / "synpo_test.db") as stored:
    asked = "SELECT run_name, step, metrics FROM metrics ORDER BY id"
    found = stored.execute(asked).fetchall()
    ((settings,),) = stored.execute("SELECT config FROM configs").fetchall()
  assert {run for run, *_ in found} == {tracking.run_id(tmp_path)}
  rows = [{"step": step, **json.loads(row)} for _, step, row in found]
  shown = rows.pop()
  assert rows == ROWS and json.loads(settings)["optim"] == {"lr": 0.5}
  assert shown["step"] == 4
  said = shown["samples/0/before"], shown["samples/0/now"]
  assert said == ("a dog", "two dogs")
  path = shown["samples/0/frames"]["file_path"]
  picture = tmp_path / "trackio" / "media" / path
  assert picture.read_bytes() == (tmp_path / "samples/0.png").read_bytes()


def test_tensorboard_shows_samples(tmp_path):
  from PIL import Image

  log_twice(tmp_path, config("tensorboard"))
  written = b"".join(p.read_bytes() for p in (tmp_path / "events").iterdir())
  assert b"two dogs" in written and b"before: a dog" in written
  strip = tmp_path / "samples" / "0.png"
  assert strip.read_bytes() in written
  assert Image.open(strip).size == (8, 4)


def test_a_tracker_without_its_package_is_one_line(monkeypatch):
  monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="wandb, .* pip install wandb$"):
    tracking.check(("tensorboard", "wandb"))
  with pytest.raises(ValueError, match="'wndb': no such .* nearest: wandb;"):
    tracking.check(("wndb",))
  tracking.check(("tensorboard",))


CLIENT = """
import json, os, sys, time
for line in sys.stdin:
  {does}
open(__file__ + ".ended", "w").close()
"""


def relayed(tmp_path, monkeypatch, does):
  """A relay to a client that does something at each message."""
  path = tmp_path / "client.py"
  path.write_text(CLIENT.format(does=does))
  monkeypatch.setattr(relay.tracker_clients, "__file__", str(path))
  return relay.Relay("wandb", {"folder": str(tmp_path)})


@pytest.mark.parametrize(
  ("does", "says"),
  [("time.sleep(600)", "not done after"), ("os._exit(1)", None)],
)
def test_a_client_that_hangs_or_dies_holds_nothing_up(
  tmp_path, monkeypatch, capsys, does, says
):
  monkeypatch.setattr(relay, "WAIT_SECONDS", 0.5)
  monkeypatch.setattr(relay, "MOST", 1000)
  began = time.monotonic()
  to = relayed(tmp_path, monkeypatch, does)
  for row in ROWS * 5000:  # more than a pipe and the queue hold
    to.write(row)
  to.close()
  assert time.monotonic() - began < 20
  told = capsys.readouterr().err
  assert to._process.poll() is not None
  assert ("not done" in told) == (says is not None)
  assert says is None or "rows behind" in told


KILLED = """
import os, sys
from synpo_jax.training import relay
relay.tracker_clients.__file__ = sys.argv[1]
to = relay.Relay("wandb", {"folder": os.path.dirname(sys.argv[1])})
assert os.getsid(to._process.pid) != os.getsid(0)  # Ctrl-C is not for it
to.write({"step": 1})
os.kill(os.getpid(), 9)
"""


def test_a_client_ends_what_it_has_when_its_run_is_killed(tmp_path):
  path = tmp_path / "client.py"
  path.write_text(CLIENT.format(does="pass"))
  command = [sys.executable, "-c", KILLED, str(path)]
  done = subprocess.run(command, cwd=ROOT, timeout=120)
  assert done.returncode == -signal.SIGKILL
  until = time.monotonic() + 60
  while not (tmp_path / "client.py.ended").exists():
    assert time.monotonic() < until
    time.sleep(0.05)


def test_no_password_is_shown(capfd, monkeypatch):
  from synpo_jax.training import tracker_clients

  def refuses(start):
    raise ValueError("no answer\nfrom http://me:secret@there/")

  monkeypatch.setitem(tracker_clients.CLIENTS, "wandb", refuses)
  monkeypatch.setattr(sys, "argv", ["", "wandb"])
  monkeypatch.setattr(sys, "stdin", ['{"start": {}}'])
  monkeypatch.setattr(signal, "signal", lambda *args: None)
  monkeypatch.setattr(os, "dup2", lambda *args: None)

  def leave(code):
    raise SystemExit(code)

  monkeypatch.setattr(os, "_exit", leave)
  with pytest.raises(SystemExit):
    tracker_clients.main()
  told = capfd.readouterr().out
  assert "secret" not in told and told.count("\n") == 1
  assert "from http://…@there/); metrics.jsonl has every row" in told
