"""The mutation script on a module of five lines: one killed, one surviving."""

import pathlib
import subprocess
import sys

import pytest

from tests import mutate
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SOURCE = '''def bounded(x: int = 3, low=-1):
  """Not below low: 1 < 2."""
  if x < low:
    raise ValueError(f"{x + 1} is below {low}")
  return min(x, low + 9)
'''
TESTS = """import calc
def test_small():
  assert calc.bounded(1, 0) == 1
"""
# What comes back is killed, what is refused survives: no test asks for it.
RUN = """import sys, pathlib
from tests import mutate
root = pathlib.Path(sys.argv[1])
found = mutate.mutants((root / "calc.py").read_text())
chosen = [m for m in found if m.change in sys.argv[2:]]
mutate.judge(root, "calc.py", chosen, ["calc_test.py"])
"""


def test_expressions_change_and_words_stay():
  found = mutate.mutants(SOURCE)
  assert [(mutant.line, mutant.change) for mutant in found] == [
    *(
      (1, "3 -> 4"),
      (1, "3 -> 2"),
      (1, "-1 -> 1"),
      (1, "1 -> 2"),
      (1, "1 -> 0"),
    ),
    *((3, "x < low -> x <= low"), (3, "x < low -> x >= low")),
    *(
      (5, "min(x, low + 9) -> max(x, low + 9)"),
      (5, "min(x, low + 9) -> min(x)"),
    ),
    *((5, "low + 9 -> low - 9"), (5, "low + 9 -> low")),
    *((5, "9 -> 10"), (5, "9 -> 8")),
  ]
  for mutant in found:
    lines = zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True)
    changed = [n for n, (a, b) in enumerate(lines, 1) if a != b]
    assert changed == [mutant.line]


def test_a_change_that_a_test_holds_is_killed_and_another_survives(tmp_path):
  (tmp_path / "calc.py").write_text(SOURCE)
  (tmp_path / "calc_test.py").write_text(TESTS)
  kept, lost = "x < low -> x <= low", "min(x, low + 9) -> max(x, low + 9)"
  done = subprocess.run(
    [sys.executable, "-c", RUN, str(tmp_path), kept, lost],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.stdout.splitlines() == [
    f"survived calc.py:3  {kept}",
    f"killed   calc.py:5  {lost}",
  ], done.stderr
  assert (tmp_path / "calc.py").read_text() == SOURCE


@pytest.mark.parametrize(
  ("module", "first"),
  [
    ("generation/sampling", "generation/sampling_test"),
    ("losses/without_reference", "losses/identities_test"),
  ],
)
def test_a_module_has_its_own_tests_or_those_of_its_package(module, first):
  path = pathlib.PurePath(f"synpo_jax/{module}.py")
  found = mutate.tests_of(ROOT, path)
  assert found[0] == f"tests/{first}.py"
  assert all((ROOT / name).exists() for name in found)
