"""The faults that `make torture` puts into commands, two of them tried."""

import json
import random
import re
import signal
import subprocess
import sys

import pytest

from benchmarks.torture import (
  damage,
  interruptions,
  kinds,
  outcomes,
  page,
  processes,
)
from benchmarks.torture.commands import COMMANDS
from benchmarks.torture.processes import Done
from synpo_jax.runtime import stopping
from tests.support.paths import ROOT

KINDS = len(kinds.kinds())
TRACE = "Traceback (most recent call last):\n  File x\nValueError: y\n"


def test_the_page_shows_what_the_json_holds():
  text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
  (shown,) = re.findall(r"<!-- torture -->(.*)<!-- /torture -->", text, re.S)
  found = json.loads((ROOT / "results" / "torture.json").read_text("utf-8"))
  assert shown.strip() == page.text(found)
  assert {row["kind"] for row in found["tries"]} <= kinds.kinds().keys()


def test_a_table_counts_its_tries():
  row = dict(kind="cut-pairs", survived=True, lost=0, how="fine", seconds=2.0)
  failed = row | dict(survived=False, how="hangs", seconds=3.0)
  rows = [row | dict(id="cut-pairs-0"), failed | dict(id="cut-pairs-1")]
  about = dict(seed=0, machine="m", versions="v", jobs=2)
  text = page.text(about | {"tries": rows})
  assert "| 2 of 4 | **1** |" in text and "| 5 |" in text
  assert "- `cut-pairs-1`: hangs" in text
  assert len(re.findall(r"\| 0 of \d+ \| not tried", text)) == KINDS - 1
  planned = sum(int(n) for n in re.findall(r"\| \d+ of (\d+) \|", text))
  assert text.startswith(f"2 of {planned} tries with seed 0, 1 survived")


def test_a_table_tells_what_was_lost():
  row = dict(kind="cut-metrics", survived=True, how="fine", seconds=2.0)
  rows = [row | dict(id=f"cut-metrics-{lost}", lost=lost) for lost in range(3)]
  about = dict(seed=0, machine="m", versions="v", jobs=2, tries=rows)
  assert "| 3, 2 of them with 3 rows of curves lost |" in page.text(about)


def test_each_signal_and_a_full_disk_are_kinds():
  signals = {f"stop-{number.name}" for number in stopping.SIGNALS}
  disks = {f"full-{name}" for name in COMMANDS}
  assert signals | disks <= kinds.kinds().keys()


def test_a_command_below_nohup_hears_a_hangup():
  code = "import signal; print(signal.getsignal(signal.SIGHUP).name)"
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with processes.let_hear():
      heard = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)
  assert heard == "SIG_DFL\n"


def test_every_kind_is_tried_once_before_any_is_twice():
  chosen = kinds.kinds()
  order = kinds.plan(chosen, None)
  assert [name for name, _ in order[:KINDS]] == list(chosen)
  assert {number for _, number in order[:KINDS]} == {0}
  assert len(set(order)) == sum(len(kind.attempts) for kind in chosen.values())
  assert kinds.plan(chosen, 1) == order[:KINDS]


def test_what_an_ended_try_mounted_is_taken_away(tmp_path):
  if not interruptions.can_mount():
    pytest.skip("mounting needs root")
  place = tmp_path / "tries" / "full-train-0" / "run"
  place.mkdir(parents=True)
  interruptions.mount(place)
  interruptions.release(tmp_path)
  assert not place.is_mount()


@pytest.mark.parametrize(
  ("code", "said", "how"),
  [
    (1, "error: a/b.json: broken\n", "refused"),
    (1, "read\nerror: a/b.json: broken\n", "refused"),
    (1, "error: broken\n", "without naming"),
    (1, "error: a/b.json\nerror: more\n", "no line of its own"),
    (1, "error: a/b.json\nand more\n", "no line of its own"),
    (1, "error: a/b.json\n  a\n  b\n", "refused"),
    (1, "error: a/b.json\n" + 43 * "  a\n", "no line of its own"),
    (1, f"{TRACE}error: a/b.json\n", "traceback"),
    (0, "error: a/b.json\n", "takes it for good"),
    (-11, "error: a/b.json\n", "crashed"),
    (None, "", "hangs"),
  ],
)
def test_what_counts_as_a_refusal(code, said, how):
  found = outcomes.refused(Done(code, said, 1.0), ("b.json",))
  assert how in found.how and found.survived == (how == "refused")


def test_what_counts_as_completed():
  good, bad = Done(0, "", 1.0), Done(1, "error: x\n", 1.0)
  assert outcomes.completed(good, True, "x").survived
  assert not outcomes.completed(good, False, "x").survived
  assert not outcomes.completed(bad, True, "x").survived


def test_damage_is_one_bit_or_an_end(tmp_path):
  rng, path = random.Random(0), tmp_path / "file"
  path.write_bytes(bytes(100))
  before = path.stat().st_mtime_ns
  damage.spoil(path, damage.flip, rng)
  assert sum(byte.bit_count() for byte in path.read_bytes()) == 1
  assert path.stat().st_mtime_ns == before
  damage.spoil(path, damage.cut, rng)
  assert path.stat().st_size < 100


@pytest.mark.slow
def test_a_kill_and_a_bit_are_survived(tmp_path):
  files = tmp_path / "tries.json", tmp_path / "page.md"
  command = [sys.executable, "-m", "benchmarks.torture", "--tries=1"]
  command += ["--only=kill-caption,flip-captions", f"--json={files[0]}"]
  command += [f"--page={files[1]}", f"--workdir={tmp_path / 'work'}"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = json.loads(files[0].read_text())
  assert {row["id"] for row in found["tries"]} == {
    "kill-caption-0",
    "flip-captions-0",
  }
  assert all(row["survived"] for row in found["tries"]), found
  assert page.text(found) in files[1].read_text()
  again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert again.returncode == 0 and json.loads(files[0].read_text()) == found
  other = [*command, "--seed=1"]
  refused = subprocess.run(other, cwd=ROOT, capture_output=True, text=True)
  assert refused.returncode and "another seed" in refused.stderr
