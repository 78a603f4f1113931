"""Several real processes on this machine, joined as hosts would be."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from synpo_jax.runtime import hosts
from synpo_jax.training import checkpoint
from tests.support.paths import ROOT
from tests.support.training_runs import (
  NOTHING_HELD_OUT,
  environment,
  finish,
  rows,
  start,
)

pytestmark = pytest.mark.slow

DEVICES = 4  # of all processes
LAUNCH = pathlib.Path(ROOT) / "launch"
SETTINGS = (
  *NOTHING_HELD_OUT,
  "--config.data.batch_size=4",
  "--config.data.accumulation=1",
  "--config.loss.name=rpo",  # it has a reference, and these coefficients
  "--config.loss.coefficients.alpha=1.0",
  "--config.loss.coefficients.beta=0.1",
)


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def together(folder, workdir, processes, *more):
  """Starts a run's processes without a look at the hosts before."""
  port = free_port()
  many = f"--coordinator=localhost:{port}", f"--processes={processes}"
  return [
    start(
      folder,
      workdir,
      *many,
      f"--process={i}",
      *more,
      devices=DEVICES // processes,
    )
    for i in range(processes)
  ]


def launch(folder, workdir, processes, *more, module="synpo_jax.train"):
  command = [
    str(LAUNCH / "local.sh"),
    str(processes),
    "-m",
    module,
    f"--config=tests/support/run_config.py:{folder}",
    f"--workdir={folder / workdir}",
    *SETTINGS,
    *more,
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(DEVICES // processes)
    | {"PYTHON": sys.executable, "PORT": str(free_port())},
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    start_new_session=True,
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def alone(folder):
  code, output = finish(start(folder, "alone", *SETTINGS, devices=DEVICES))
  assert code == 0, output
  return rows(folder, "alone")


def same_losses(alone, joined):
  assert [row["step"] for row in joined] == [row["step"] for row in alone]
  for one, many in zip(alone, joined, strict=True):
    assert abs(one["loss"] - many["loss"]) < 1e-5


def test_processes_with_other_configs_all_end_in_one_line(folder):
  port = free_port()
  started = [
    start(
      *(folder, "differing", f"--coordinator=localhost:{port}"),
      *("--processes=2", f"--process={process}", f"--config.seed={process}"),
      f"--config.data.workers={process}",  # its own business
    )
    for process in range(2)
  ]
  for code, output in map(finish, started):
    assert code == 1, output
    assert output.endswith(
      "error: the processes differ in seed (0 in process 0, 1 in process 1); "
      "start all with the same\n"
    )
  assert not (folder / "differing" / "config.json").exists()


def test_a_killed_process_ends_the_others_and_four_continue(folder, alone):
  """With the losses of one, and caches that one has filled."""
  process = launch(folder, "broken", 2, "--config.every.checkpoint=1")
  deadline = time.monotonic() + 300
  while len(rows(folder, "broken")) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  listed = subprocess.run(
    ["pgrep", "-f", f"workdir={folder / 'broken'}.*--process=1"],
    capture_output=True,
    text=True,
  )
  os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
  killed = time.monotonic()
  code, output = finish(process)
  assert code != 0
  assert time.monotonic() - killed < 60
  assert "a process ended with an error; the others are ended too" in output
  ended = [*map(finish, together(folder, "broken", 4, *SETTINGS))]
  assert [code for code, _ in ended] == [0] * 4, ended
  output = ended[0][1]
  assert "continuing after update" in output, output
  for cache in ("features", "references"):
    assert f"{cache}: 16 read, 0 computed; verified 4" in output
  same_losses(alone, rows(folder, "broken"))


def test_pairs_that_share_rows_learn_the_same_over_processes(folder):
  """From frames, whose tower runs in every update."""
  more = (
    *SETTINGS,
    "--config.data.packing=1024",
    "--config.cache.features=false",
    "--config.lora.dropout=0.0",
  )
  code, output = finish(start(folder, "packed", *more, devices=DEVICES))
  assert code == 0 and "packing: " in output, output
  for code, output in map(finish, together(folder, "split", 2, *more)):
    assert code == 0, output
  same_losses(rows(folder, "packed"), rows(folder, "split"))


@pytest.mark.parametrize(
  "given, said",
  [
    (dict(coordinator="localhost:1"), "go together: got localhost:1, None"),
    (dict(coordinator="localhost", processes=2, process=0), "give host:port"),
    (dict(coordinator="a:1", processes=2, process=2), "one of 0 to 1"),
    (
      dict(coordinator="a:1", processes=2, process=0, distributed=True),
      "give one or the other",
    ),
  ],
)
def test_flags_that_do_not_fit_are_named(given, said):
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(**given):
    with pytest.raises(ValueError, match=said):
      hosts.start()


def test_a_lost_process_is_named_and_other_errors_pass(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  lost = "UNKNOWN: Gloo AllGather failed: Connection reset by peer\nmore"
  for work in (hosts.joined(), checkpoint._writing("folder")):
    with pytest.raises(ConnectionError, match="process ended .*reset by peer"):
      with work:
        raise jax.errors.JaxRuntimeError(lost)
  with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
    with hosts.joined():
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_where_no_cluster_tells_the_flags_are_named(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "synpo_jax.preflight", "--distributed"),
      *("--config=configs/vdc.py", f"--workdir={tmp_path}"),
    ],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  (line,) = done.stderr.splitlines()
  assert done.returncode == 1 and line.startswith("error: --distributed found")


def test_preflight_names_what_is_wrong(folder):
  good = launch(folder, "checked", 2, module="synpo_jax.preflight")
  code, output = finish(good)
  assert code == 0 and "ready: 2 processes, 4 devices" in output, output
  (folder / "file").write_text("")
  bad = launch(
    folder, "file/x", 2, "--config.mesh.data=3", module="synpo_jax.preflight"
  )
  code, output = finish(bad)
  assert code != 0
  assert "workdir not writable" in output
  assert "needs 3 devices, 4 are at hand" in output
