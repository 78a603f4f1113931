"""The launchers, by what they would do."""

import os
import shlex
import shutil
import subprocess

import pytest
import yaml

from tests.support.paths import ROOT

LAUNCH = ROOT / "launch"


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
  assert slurm.count("--cpus-per-task=8") == 3  # sbatch's, and each srun's
  more = dry("slurm.sh", "--config=a.py", NODES="2", GPUS="8", CPUS="12")
  assert more.count("--cpus-per-task=12") == 3
  made = dry("tpu_vm.sh", "create", **SLICE)
  assert "--accelerator-type=v5litepod-16" in made
  run = dry("tpu_vm.sh", "run", "--config=a.py", **SLICE)
  assert "--worker=all" in run and "--distributed" in run
  setup = dry("tpu_vm.sh", "setup", **SLICE)
  assert "requirements-cloud.txt" in setup and "nfs" not in setup
  fetch = dry("tpu_vm.sh", "fetch", **SLICE, WORKDIR="gs://b/run")
  assert (
    fetch.split() == "gcloud storage cp --recursive gs://b/run runs/".split()
  )
  job = yaml.safe_load(dry("gke.sh", "--config=a.py", **POD | {"CLAIM": ""}))
  pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]
  assert "volumes" not in pod["template"]["spec"]
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
  lines = dry("local.sh", "2", "-m", "synpo_jax.train", *ODD).splitlines()
  ran = [shlex.split(line)[2].rpartition(".")[2] for line in lines]
  assert ran == ["preflight"] * 2 + ["train"] * 2
  assert all(last_words(line, 6)[:3] == list(ODD) for line in lines)
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
    ("image.sh", [], {}, "set IMAGE"),
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


def test_the_image_is_what_gke_runs():
  """Its folder, a Python that will do, and only files that there are."""
  lines = (LAUNCH / "Dockerfile").read_text().splitlines()
  words = [line.split() for line in lines]
  version = next(line[1] for line in words if line[0] == "FROM")
  assert version.startswith("python:3.")
  assert int(version.removeprefix("python:3.").partition("-")[0]) >= 11
  job = yaml.safe_load(dry("gke.sh", "--config=a.py", **POD))
  pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
  (container,) = pod["spec"]["containers"]
  assert ["WORKDIR", container["workingDir"]] in words
  copied = [name for line in words if line[0] == "COPY" for name in line[1:-1]]
  assert copied and all((ROOT / name).exists() for name in copied)
  archive, build, _, push = dry("image.sh", IMAGE="me/it").splitlines()
  file = archive.split("--output=")[1].split()[0]
  assert "--tag=me/it" in build and build.endswith(f"< {file}")
  assert "--file=launch/Dockerfile" in build and "JAX=tpu" in build
  assert push.split() == ["docker", "push", "me/it"]


OLD = """#!/bin/sh
echo "$0 $*" >> log
[ "$1" != -c ]
"""


@pytest.mark.parametrize("newer", [True, False])
def test_a_slice_is_set_up_with_a_python_that_will_do(tmp_path, newer):
  """The system's python3 is too old; there is python3.11, or uv fetches one."""
  assert "launch/make_venv.sh" in dry("tpu_vm.sh", "setup", **SLICE)
  programs = {
    f"python3.{minor}": "#!/bin/sh\nexit 1\n" for minor in (12, 13, 14)
  }
  programs |= {"python3": OLD, "python3.11": OLD.replace('[ "$1" != -c ]', "")}
  if not newer:
    programs["python3.11"] = programs["python3.12"]
  for name, text in programs.items():
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)
  path = f"{tmp_path}:{os.environ['PATH']}"
  done = subprocess.run(
    [LAUNCH / "make_venv.sh"],
    cwd=tmp_path,
    env={"PATH": path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  ran = (tmp_path / "log").read_text().splitlines()
  last = ran[-1].removeprefix(f"{tmp_path}/")
  if newer:
    assert last == "python3.11 -m venv .venv" and not done.stderr
  else:
    assert last.startswith("python3 -m uv venv") and "--python 3.12" in last
    assert "no Python 3.11 or newer here" in done.stderr


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
