"""Reading a JSON file, with faults that name it."""

import json
import pathlib

from synpo_jax.runtime import buckets, seal
from synpo_jax.runtime.terminal import first_line


def read(path: str | pathlib.Path, way: str = "fetch it again") -> dict:
  """The object in a file, without the seal that it may have.

  way: what one can do about a file that holds none, for people. Raises
  FileNotFoundError or seal.Broken (a ValueError), one line that names the file.
  """
  path = buckets.at(path)
  if not path.exists():
    raise FileNotFoundError(f"{path}: no such file")
  if not path.is_file():
    raise seal.Broken(f"{path}: is no file")
  try:
    content, _ = seal.take(path.read_bytes().rstrip())
  except seal.Broken as error:
    raise seal.Broken(f"{path}: {error}; {way}") from error
  return parse(content, path, way)


def parse(
  content: bytes, place: str | pathlib.Path, way: str = "fetch it again"
) -> dict:
  """The object that some bytes spell; no name in it may stand twice.

  Raises seal.Broken (a ValueError), one line that begins with `place`.
  """
  try:
    found = json.loads(content.decode("utf-8"), object_pairs_hook=once)
  except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
    why = first_line(error)
    raise seal.Broken(f"{place}: no JSON ({why}); {way}") from error
  if not isinstance(found, dict):
    raise seal.Broken(f"{place}: holds no JSON object; {way}")
  return found


class Twice(ValueError):
  """A name stands twice in a JSON object; the text says which."""


def once(pairs: list[tuple]) -> dict:
  """An `object_pairs_hook` of JSON's readers: no name may stand twice.

  Raises Twice.
  """
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise Twice(f"{twice[:100]!r} stands twice")
  return found
