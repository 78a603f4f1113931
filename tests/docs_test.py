"""What pages say about files and functions, held against the files."""

import ast
import importlib
import re

import pytest

from configs.published import PUBLISHED
from docs import architecture
from synpo_jax import losses
from synpo_jax.weights import multimodal_configs
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


def test_the_losses_are_as_many_as_the_readme_says():
  page = (ROOT / "README.md").read_text("utf-8")
  (number,) = re.findall(r"`loss=` is one of (\d+)", page)
  assert int(number) == len(losses.LOSSES)


def test_shapes_are_spelled_with_letters_of_the_alphabet():
  table = PAGE.partition("## The shape alphabet")[2].partition("\n## ")[0]
  letters = set(re.findall(r"`(\w+)`", table))
  used = re.findall(r"\| `([A-Z][A-Za-z 3…,`]*)` \|", PAGE)
  assert used
  assert set(re.findall(r"[A-Z]\w*", " ".join(used))) <= letters


# The table of families in README.md: column -> test, which each family of
# video models goes through; then what stands for the language models.
FAMILIES, RELOADING = "commands.families_test", "weights.reloading_test"
ADAPTER = "test_an_adapter_is_used_by_transformers_and_vllm"
BACKED = {
  "train": (FAMILIES, "test_a_family_learns"),
  "caption": (FAMILIES, "test_a_family_captions"),
  "pairs": (FAMILIES, "test_a_family_writes_candidates"),
  "evaluate": (FAMILIES, "test_a_family_is_evaluated"),
  "export": (RELOADING, ADAPTER),
  "plan": (FAMILIES, "test_a_published_size_is_planned"),
}
TRAINED = "test_ultrafeedback_rows_train_a_text_lm"
LANGUAGE_MODELS = {
  "train": ("commands.text_pairs_test", TRAINED),
  "caption": None,
  "pairs": None,
  "evaluate": ("evaluation.lm_eval_test", "test_the_command"),
  "export": (RELOADING, ADAPTER),
  "plan": BACKED["plan"],
}


def families_table():
  """(columns, {row's models: cells}) of README.md's table of families."""
  section = (ROOT / "README.md").read_text("utf-8")
  section = section.partition("## Families")[2].partition("\n## ")[0]
  lines = [line for line in section.splitlines() if line.startswith("|")]
  head, _, *rows = ([c.strip() for c in x.split("|")[1:-1]] for x in lines)
  return head[1:], {
    tuple(re.findall(r"`(\w+)`", first)): cells for first, *cells in rows
  }


def family(arch):
  """The family of a published model."""
  root = arch.get("llm", arch)
  return "auroracap" if "llm" in arch else multimodal_configs.family_of(root)


def goes_through(module, name):
  """The families that a test is run with; None where it has no such list."""
  path = ROOT / "tests" / (module.replace(".", "/") + ".py")
  assert name in defined(ast.parse(path.read_text("utf-8"))), (module, name)
  if module not in (FAMILIES, RELOADING):
    return None
  test = getattr(importlib.import_module(f"tests.{module}"), name)
  (mark,) = (m for m in test.pytestmark if m.name == "parametrize")
  return {*mark.kwargs.get("ids", mark.args[1])}


def test_the_table_of_families_is_that_of_the_tests():
  columns, rows = families_table()
  assert columns == [*BACKED]
  assert sorted(sum(rows, ())) == sorted(PUBLISHED)
  for models, cells in rows.items():
    kinds = {family(PUBLISHED[m]) for m in models}
    sees = "llama" not in kinds
    for column, cell in zip(columns, cells, strict=True):
      backing = (BACKED if sees else LANGUAGE_MODELS)[column]
      assert cell == ("yes" if backing else "–"), (models, column)
      known = goes_through(*backing) if backing else None
      if sees or column == "plan":
        assert kinds <= known, (models, column)
      elif known is not None:
        assert kinds & known, (models, column)
