"""What pages say about files and functions, held against the files."""

import ast
import re

import pytest

from docs import architecture
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
FUNCTIONS = re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE)
PAGES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md")
PAGES += ("docs/reliability.md",)
FILES = r"`((?:synpo_jax|configs|tests|docs|launch|benchmarks)/[^\s`*…]*)`"


def test_the_page_lists_the_files_that_there_are():
  assert architecture.page() == PAGE, "run `make docs`"


def defined(tree, prefix=""):
  """Names of functions and classes, methods as Class.method."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
      yield prefix + node.name
      yield from defined(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("file", sorted({file for file, _ in FUNCTIONS}))
def test_the_trips_name_functions_that_there_are(file):
  tree = ast.parse((ROOT / "synpo_jax" / file).read_text("utf-8"))
  named = {name for path, name in FUNCTIONS if path == file}
  assert named <= set(defined(tree))


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_that_there_are(page):
  named = re.findall(FILES, (ROOT / page).read_text("utf-8"))
  named = [name for name in named if "NAME" not in name]
  assert [name for name in named if not (ROOT / name).exists()] == []


def test_shapes_are_spelled_with_letters_of_the_alphabet():
  table = PAGE.partition("## The shape alphabet")[2].partition("\n## ")[0]
  letters = set(re.findall(r"`(\w+)`", table))
  used = re.findall(r"\| `([A-Z][A-Za-z 3…,`]*)` \|", PAGE)
  assert used
  assert set(re.findall(r"[A-Z]\w*", " ".join(used))) <= letters
