"""The report of a card: what is tried, what ends a setting, what is written."""

import json
import sys
import types

import pytest

from benchmarks import gpu, processes, workload

SECONDS = {1: 1.0, 2: 1.5, 4: 2.99}  # of a step; 4 pairs gain next to nothing


def child(task):
  """A process that has stepped, as `processes.measure` leaves it."""
  row = dict(seconds=SECONDS[task.pairs], cpu_seconds=1.0, peak_bytes=2**30)
  row |= dict(loss=0.0, chosen_logp=-1.0, rejected_logp=-1.0, grad_norm=1.0)
  row |= dict(device_bytes=3 * 2**30)
  return types.SimpleNamespace(
    task=task, rows=[row, row], facts=dict(versions="x 1")
  )


@pytest.fixture
def report(tmp_path, monkeypatch):
  """Runs the report with a card of ours; returns what was measured, and exit.

  behave: what a task does instead of being measured, or None.
  """
  monkeypatch.setattr(gpu, "ensure_weights", lambda *_: None)

  def run(behave, *more):
    asked = []

    def measure(task, python, **_):
      asked.append((task.impl, gpu.policy(task), task.pairs))
      behave(task)
      return child(task)

    monkeypatch.setattr(gpu, "measure", measure)
    gpu.main(
      [
        *("--card=NVIDIA H100 80GB", f"--json={tmp_path / 'gpu.json'}"),
        *(
          f"--readme={tmp_path / 'page.md'}",
          f"--peers-python={sys.executable}",
        ),
        *("--sizes=tiny", "--shapes=16:8", "--impls=synpo_shared,torch_synpo"),
        *more,
      ]
    )
    return asked

  return run


def nothing(task):
  pass


def full(task):
  if gpu.policy(task) == "none":
    raise processes.OutOfMemory("RESOURCE_EXHAUSTED")


def test_pairs_grow_while_it_helps_and_the_fastest_is_shown(report, tmp_path):
  asked = report(nothing)
  ours = [("synpo_shared", "none", n) for n in (1, 2, 4)]
  assert asked[:3] == ours and len(asked) == 3 * 5
  page = (tmp_path / "page.md").read_text()
  assert "NVIDIA H100 80GB. x 1" in page
  (line,) = [x for x in page.splitlines() if "| torch_synpo |" in x]
  assert line.startswith("| tiny, 16:8 | torch_synpo | none | 4 | 1.338 |")
  assert line.endswith("| 3.0 | 1.00x |")


def test_a_full_memory_ends_a_setting_and_a_second_start_asks_nothing(
  report, tmp_path
):
  asked = report(full)
  assert ("synpo_shared", "none", 1) in asked
  assert ("synpo_shared", "none", 2) not in asked
  rows = json.loads((tmp_path / "gpu.json").read_text())
  assert [r["ended"] for r in rows if "ended" in r] == [gpu.FULL] * 2
  assert report(full) == []
  assert "save_dots" in (tmp_path / "page.md").read_text()


def test_another_error_is_told_and_tried_again(report, tmp_path):
  def broken(task):
    if task.impl == "torch_synpo":
      raise RuntimeError("ended with 1\nImportError: no peft")

  with pytest.raises(SystemExit, match="2 failed, as tiny .* no peft"):
    report(broken)
  assert "no peft" in (tmp_path / "page.md").read_text()
  assert {impl for impl, *_ in report(nothing)} == {"torch_synpo"}


def test_nothing_is_begun_when_the_time_is_over(report, tmp_path):
  assert report(nothing, "--minutes=0") == []
  assert gpu.NO_TIME in (tmp_path / "page.md").read_text()


def test_a_card_that_nobody_knows_needs_its_peak(report):
  with pytest.raises(SystemExit, match="X1 is not among .*--peak"):
    report(nothing, "--card=X1")


@pytest.mark.parametrize(
  ("said", "kind"),
  [
    ("XlaRuntimeError: RESOURCE_EXHAUSTED: Out of", processes.OutOfMemory),
    ("torch.OutOfMemoryError: CUDA out of memory", processes.OutOfMemory),
    ("CUDA_ERROR_OUT_OF_MEMORY", processes.OutOfMemory),
    ("ImportError: no module named peft", RuntimeError),
  ],
)
def test_what_ends_a_process_is_told_apart(said, kind):
  task = workload.Task(
    "x", workload.Shape(5, 3), "tiny", 2, "", "", "", 0, 0.0, {}
  )
  code = "import sys; sys.exit(sys.argv[0])"
  process = processes.Child.__new__(processes.Child)
  process.task, process.log = task, open_log(said)
  process.process = processes.subprocess.Popen(
    [sys.executable, "-c", code], stdout=-1, text=True, stderr=-3
  )
  with pytest.raises(RuntimeError, match="ended with 1") as raised:
    process.wait_until_ready()
  assert type(raised.value) is kind
  process.process.stdout.close()
  process.log.close()


def open_log(said):
  log = processes.tempfile.TemporaryFile("w+")
  log.write(said)
  return log
