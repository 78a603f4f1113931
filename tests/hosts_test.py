"""Several real processes on this machine, joined as hosts would be."""

import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
import yaml
from absl import flags
from absl.testing import flagsaver
from train_test import NO_CAPTIONS, ROOT, finish, rows, start

from synpo_jax import checkpoint, hosts

LAUNCH = pathlib.Path(ROOT) / "launch"
SETTINGS = (
  *NO_CAPTIONS,
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


def environment(folder, devices):
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "USE_TORCH": "0",  # transformers starts sooner without it
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    "PYTHON": sys.executable,
    "PORT": str(free_port()),
    "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
  }


def launch(folder, workdir, processes, *more, module="synpo_jax.train"):
  command = [
    str(LAUNCH / "local.sh"),
    str(processes),
    "-m",
    module,
    f"--config=tests/run_config.py:{folder}",
    f"--workdir={folder / workdir}",
    *SETTINGS,
    *more,
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(folder, 4 // processes),
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
  code, output = finish(start(folder, "alone", *SETTINGS, devices=4))
  assert code == 0, output
  return rows(folder, "alone")


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_give_the_losses_of_one(folder, alone, processes):
  name = f"joined{processes}"
  caches = {2: folder / "of_two", 4: folder / "shards"}  # empty, full
  code, output = finish(
    launch(folder, name, processes, f"--config.data.cache={caches[processes]}")
  )
  assert code == 0, output
  fate = {2: "0 read, 16 computed", 4: "16 read, 0 computed"}[processes]
  for cache in ("features", "references"):
    assert f"{cache}: {fate}; verified 4" in output
  joined = rows(folder, name)
  assert len(joined) == len(alone)
  for one, many in zip(alone, joined, strict=True):
    assert abs(one["loss"] - many["loss"]) < 1e-5
  assert output.count("ranking accuracy") == 1  # one process prints


def test_a_killed_process_ends_the_others_and_the_run_continues(folder, alone):
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
  code, output = finish(launch(folder, "broken", 2))
  assert code == 0 and "continuing after update" in output, output
  again = rows(folder, "broken")
  assert [row["step"] for row in again] == [row["step"] for row in alone]
  for one, many in zip(alone, again, strict=True):
    assert abs(one["loss"] - many["loss"]) < 1e-5


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


def test_a_bucket_is_no_workdir():
  with pytest.raises(flags.IllegalFlagValueError, match="mount one"):
    with flagsaver.as_parsed(workdir="gs://bucket/run"):
      pass


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


def dry(script, *arguments, **variables):
  """What a launcher prints; --dry-run comes last, where it is forgotten."""
  done = subprocess.run(
    [LAUNCH / script, *arguments, "--dry-run"],
    env={"PATH": os.environ["PATH"]} | variables,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


SLICE = dict(NAME="n", ZONE="z", TYPE="v5litepod-16", VERSION="v2-alpha")
POD = dict(NAME="n", IMAGE="i", ACCELERATOR="tpu-v5-lite-podslice")
POD |= dict(TOPOLOGY="4x4", HOSTS="4", CHIPS="4", CLAIM="disk")
ODD = ("--workdir=/shared/my run", '--x=it\'s "$HOME" `id` *', "--empty=")


def test_launchers_show_what_they_would_do():
  slurm = dry("slurm.sh", "--config=a.py", NODES="2", GPUS="8")
  assert slurm.startswith("sbatch") and "--ntasks-per-node=8" in slurm
  assert "synpo_jax.train" in slurm and "synpo_jax.preflight" in slurm
  made = dry("tpu_vm.sh", "create", **SLICE)
  assert "--accelerator-type=v5litepod-16" in made
  run = dry("tpu_vm.sh", "run", "--config=a.py", **SLICE)
  assert "--worker=all" in run and "--distributed" in run
  job = yaml.safe_load(dry("gke.sh", "--config=a.py", **POD))
  assert job["kind"] == "JobSet"
  pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]
  assert pod["completions"] == 4
  assert pod["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]


def test_launchers_hand_on_arguments_as_they_are():
  def last_words(command, count):
    return shlex.split(command)[-count:]

  *_, wrapped = shlex.split(dry("slurm.sh", *ODD, NODES="2", GPUS="8"))
  *_, ssh = shlex.split(dry("tpu_vm.sh", "run", *ODD, **SLICE))
  for command in (wrapped, ssh):
    check, train = command.split(" && ")[-2:]
    assert "preflight" in check and "train" in train
    assert last_words(check, 3) == last_words(train, 3) == list(ODD)
  for line in dry("local.sh", "2", "-m", "x", *ODD).splitlines():
    assert last_words(line, 6)[:3] == list(ODD)
  job = yaml.safe_load(dry("gke.sh", *ODD, **POD))
  pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
  assert pod["spec"]["containers"][0]["args"][1:] == list(ODD)


@pytest.mark.parametrize(
  "script, arguments, variables, said",
  [
    ("slurm.sh", ["--config=a.py"], {}, "set NODES"),
    ("slurm.sh", [], dict(NODES="2", GPUS="8"), "give the arguments of"),
    ("slurm.sh", ["--x"], dict(NODES="two", GPUS="8"), "NODES=two: give a"),
    ("gke.sh", ["--config=a.py"], POD | dict(CHIPS=""), "set CHIPS"),
    ("local.sh", ["2"], {}, "usage: local.sh"),
    ("tpu_vm.sh", ["resume"], SLICE, "usage: tpu_vm.sh"),
    ("tpu_vm.sh", ["create", "--config=a.py"], SLICE, "takes no arguments"),
  ],
)
def test_a_launcher_names_what_it_misses(script, arguments, variables, said):
  done = subprocess.run(
    [LAUNCH / script, "--dry-run", *arguments],
    env={"PATH": os.environ["PATH"]} | variables,
    capture_output=True,
    text=True,
  )
  (line,) = done.stderr.splitlines()
  assert done.returncode == 2 and said in line and not done.stdout


GCLOUD = """#!/usr/bin/env bash
# A slice that is taken away from the first run, and room for it only later.
cd "$(dirname "$0")"
echo "$*" >> log
case "$*" in
  *train*) [[ -e made ]] ;;
  *" describe "*) [[ -e made ]] && echo READY || echo PREEMPTED ;;
  *" create "*) [[ -e asked ]] && touch made; touch asked; [[ -e made ]] ;;
esac
"""


def test_watch_makes_a_lost_slice_again(tmp_path):
  for name, text in {"gcloud": GCLOUD, "sleep": "", "git": ""}.items():
    (tmp_path / name).write_text(text or "#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
  path = f"{tmp_path}:{os.environ['PATH']}"
  done = subprocess.run(
    [LAUNCH / "tpu_vm.sh", "watch", "--config=a.py"],
    env=SLICE | dict(PATH=path, QUEUED="1"),
    capture_output=True,
    text=True,
    timeout=60,
  )
  log = (tmp_path / "log").read_text()
  assert done.returncode == 0, done.stderr
  assert "the slice is PREEMPTED; making it again" in done.stderr
  words = [line.split() for line in log.splitlines()]
  verbs = [(line[2], line[3]) for line in words]
  queue, tpu = "queued-resources", "tpu-vm"
  lost = [(tpu, "ssh"), (tpu, "describe"), (queue, "delete")]
  again = [(queue, "create")] * 2 + [(tpu, "describe")]
  assert verbs == lost + again + [(tpu, "scp"), (tpu, "ssh"), (tpu, "ssh")]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck")
def test_launchers_are_clean():
  command = ["shellcheck", *sorted(LAUNCH.glob("*.sh"))]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
