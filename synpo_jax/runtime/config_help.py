"""What --help tells of a config: every key, its default, and its comment.

Comments are read from the sources that make a config, so that they are
written once: behind a key or above it, where the key gets its first value.
"""

import ast
import pathlib
import textwrap
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from synpo_jax.runtime import config_keys, shipped

WIDTH = 78
LONGEST = 60  # of a default that is shown


class Source(NamedTuple):
  """One file of a config. notes: comments by line, and whether code stands
  before them; imported: names of other config files."""

  functions: dict[str, ast.FunctionDef]
  notes: dict[int, tuple[str, bool]]
  imported: list[str]


def listing(file: str | pathlib.Path, config: ConfigDict) -> str:
  """All keys of a config as lines, `file` being where it comes from."""
  said, lines, before = comments(pathlib.Path(file)), [], ""
  for key in config_keys.keys(config):
    section = key.name.rpartition(".")[0]
    if section != before:
      lines += ["", *_wrapped(said.get(section, ""), "  ")]
    before = section
    lines.append(f"  --config.{key.name}={_default(key)}")
    lines += _wrapped(said.get(key.name, ""), "      ")
  return "\n".join(lines)


def _default(key: config_keys.Key) -> str:
  value = key.value
  shown = repr(value.to_dict() if isinstance(value, ConfigDict) else value)
  if len(shown) > LONGEST:
    shown = f"{shown[: LONGEST - 1]}…"
  if not key.optional:
    return shown
  other = key.kind.__name__ if value is None else config_keys.NONE
  return f"{shown} (or {other})"


def _wrapped(text: str, indent: str) -> list[str]:
  return textwrap.wrap(
    text, WIDTH, initial_indent=indent, subsequent_indent=indent
  )


def comments(file: pathlib.Path) -> dict[str, str]:
  """The comment of each section and key, from the config's file on."""
  sources = _sources(file)
  found = {}
  for name, said in _of_function(sources, file.stem, "get_config", "", set()):
    found.setdefault(name, said)
  return found


def _sources(file: pathlib.Path) -> dict[str, Source]:
  """A config's file and those of ours that it builds on, by name."""
  left, read = [file], {}
  while left:
    path = left.pop()
    read[path.stem] = _read(path)
    for name in read[path.stem].imported:
      known = shipped.config_folder() / f"{name}.py"
      if name not in read and known.is_file():
        left.append(known)
  return read


def _read(path: pathlib.Path) -> Source:
  tree = ast.parse(path.read_text("utf-8"))
  functions, imported = {}, []
  for node in tree.body:
    if isinstance(node, ast.FunctionDef):
      functions[node.name] = node
    if isinstance(node, ast.ImportFrom) and node.module == "configs":
      imported += [alias.name for alias in node.names]
  notes = {}
  with tokenize.open(path) as lines:
    for token in tokenize.generate_tokens(lines.readline):
      if token.type == tokenize.COMMENT:
        row, column = token.start
        behind = bool(token.line[:column].strip())
        notes[row] = token.string.lstrip("# "), behind
  return Source(functions, notes, imported)


def _of_function(
  sources, file, name, prefix, seen
) -> Iterator[tuple[str, str]]:
  """Comments on what a function sets, and on what those do that it calls."""
  if (file, name, prefix) in seen or file not in sources:
    return
  source = sources[file]
  seen.add((file, name, prefix))
  for node in ast.walk(source.functions[name]):
    if isinstance(node, ast.Assign):
      for target in node.targets:
        path = _path(target)
        if path is not None:
          where = (prefix + path).rstrip(".")
          yield from _of_value(sources, file, node, where, node.value, seen)
    elif isinstance(node, ast.Return) and node.value is not None:
      where = prefix.rstrip(".")
      yield from _of_value(sources, file, None, where, node.value, seen)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
      # A function that sets keys of the section it is given first.
      path = _path(node.value.args[0]) if node.value.args else None
      if path is not None:
        where = (prefix + path).rstrip(".")
        yield from _of_value(sources, file, None, where, node.value, seen)


def _of_value(sources, file, node, path, value, seen):
  """Comments on a key, and on those of the section that is its value.

  node: the statement or keyword that sets it; None where nothing does.
  """
  source = sources[file]
  if node is not None and path and (said := _note(source, node)):
    yield path, said
  if not isinstance(value, ast.Call):
    return
  below = f"{path}." if path else ""
  if isinstance(value.func, ast.Name) and value.func.id == "dict":
    for item in value.keywords:
      if item.arg:
        # What stands on one line has one comment, which is the section's.
        own = item if item.lineno > value.lineno else None
        where = below + item.arg
        yield from _of_value(sources, file, own, where, item.value, seen)
    return
  other, name = _called(value.func, file)
  if other in sources and name in sources[other].functions:
    yield from _of_function(sources, other, name, below, seen)


def _called(function, file) -> tuple[str, str]:
  """(file, name) of a function of ours that is called; "" for others."""
  if isinstance(function, ast.Name):
    return file, function.id
  if isinstance(function, ast.Attribute):
    if isinstance(function.value, ast.Name):
      return function.value.id, function.attr
  return "", ""


def _path(target) -> str | None:
  """`c.data.pairs` as "data.pairs", `c` as ""; None for anything else."""
  parts = []
  while isinstance(target, ast.Attribute):
    parts.append(target.attr)
    target = target.value
  return ".".join(reversed(parts)) if isinstance(target, ast.Name) else None


def _note(source: Source, node) -> str:
  """The comment behind a key, or else the lines of comment above it."""
  if node.lineno == node.end_lineno:
    said, behind = source.notes.get(node.lineno, ("", False))
    if behind:
      return said
  above, line = [], node.lineno - 1
  while line in source.notes and not source.notes[line][1]:
    above.insert(0, source.notes[line][0])
    line -= 1
  return " ".join(above)
