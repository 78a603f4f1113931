"""Loading never holds a model twice: peak memory of a real process."""

import pytest

from benchmarks import loading

pytestmark = [
  pytest.mark.slow,
  pytest.mark.usefixtures("optimised"),
]  # less memory, too


def above(folder, gigabytes, base="float"):
  """(peak above the process before loading and its shards, largest tensor)."""
  largest = loading.write_random(folder, gigabytes, files=3)
  row = loading.measure(folder, 1, base)
  layers = (gigabytes * 1e9 - loading.ENDS) / (2 if base == "int8" else 1)
  assert row["own"] == pytest.approx(layers + loading.ENDS, rel=0.05)
  return row["peak"] - row["before"] - row["own"], largest


# Measured: 98 MB above the shards, and 171 with the programs that round.
@pytest.mark.parametrize("base, room", [("float", 120e6), ("int8", 200e6)])
def test_peak_host_memory(tmp_path, base, room):
  """A 300-MB model never stands twice in memory, nor as floats beside int8."""
  over, largest = above(tmp_path, 0.3, base)
  assert over < largest + room


@pytest.mark.slow
def test_peak_host_memory_of_a_large_model(tmp_path):
  """1.3 GB: the whole process takes its largest tensor, its shards and 500 MB
  at most; twice in memory, it would take far more."""
  largest = loading.write_random(tmp_path, 1.3, files=5)
  row = loading.measure(tmp_path, 4, "float")
  assert row["own"] > 1.2e9 > largest + 1.2 * loading.ROOM
  assert row["peak"] < row["own"] + largest + loading.ROOM
