"""Writes the list of files in docs/architecture.md (`make docs`).

The words are the first lines of the modules' docstrings, the order is that of
the packages in pyproject.toml, which is the order of imports.
"""

import ast
import pathlib
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- files: begin (make docs) -->\n", "<!-- files: end -->\n"


def page() -> str:
  """The page as it should be: the words that are there, the files as found."""
  before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
  _, _, after = rest.partition(END)
  return before + BEGIN + files() + END + after


def files() -> str:
  """Every file of the package and of the configs in a line, as Markdown."""
  project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
  names = project["tool"]["setuptools"]["packages"]
  return "\n".join(_section(_folder(name)) for name in names)


def _folder(package: str) -> str:
  """Where it lies in a checkout."""
  return package.replace(".", "/").replace("synpo_jax/configs", "configs")


def _section(folder: str) -> str:
  lines = [f"### `{folder}/`", ""]
  paths = sorted((ROOT / folder).glob("*.py"))
  for path in (path for path in paths if path.name == "__init__.py"):
    lines += [first_line(path), ""]
  for path in (path for path in paths if path.name != "__init__.py"):
    lines.append(f"- `{path.name}`: {first_line(path)}")
  return "\n".join(lines) + "\n"


def first_line(path: pathlib.Path) -> str:
  """What a file says that it is for."""
  said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
  if not said:
    raise ValueError(f"{path}: begin it with a line that says what it is for")
  return said.splitlines()[0].removeprefix("Entry: ")


if __name__ == "__main__":
  PAGE.write_text(page(), "utf-8")
