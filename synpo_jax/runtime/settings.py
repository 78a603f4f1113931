"""What a folder was made with: a short name for it, and what differs now."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from synpo_jax.runtime import journal, json_file

PUT_BACK = "put it back as it was"


class Difference(NamedTuple):
  """A setting that has another value now; "absent" where it has none."""

  key: str  # with the sections it lies in, as "optim.lr"
  then: object
  now: object


def digest(value, digits: int, *, ensure_ascii: bool = True) -> str:
  """The first hex digits of the SHA-256 of a value's JSON, keys sorted.

  ensure_ascii: whether other characters are escaped before they are hashed.
  """
  text = json.dumps(value, sort_keys=True, ensure_ascii=ensure_ascii)
  # The names of files may hold bytes that are not UTF-8: lone surrogates here.
  content = text.encode("utf-8", "surrogatepass")
  return hashlib.sha256(content).hexdigest()[:digits]


def differences(then: dict, now: dict) -> Iterator[Difference]:
  """Yields what differs as JSON has it: a tuple is the list it becomes."""
  return _differences(_plain(then), _plain(now), "")


def fixed(found: Iterable[Difference], free: Iterable[str]) -> list[Difference]:
  """Those whose key, or a section it lies in, is none of `free`."""
  free = tuple(free)
  return [
    one
    for one in found
    if not any(one.key == key or one.key.startswith(f"{key}.") for key in free)
  ]


def claim(
  path: pathlib.Path, settings: dict, *, anew: bool = False
) -> list[Difference]:
  """Writes settings where there are none; returns how those there differ.

  anew: those there no longer count and are replaced. Raises ValueError, in
  one line that names the file, for what is no JSON object.
  """
  if path.exists() and not anew:
    return list(differences(json_file.read(path, PUT_BACK), settings))
  text = json.dumps(settings, indent=2, sort_keys=True)
  journal.replace(path, f"{text}\n".encode())
  return []


def _plain(settings: dict) -> dict:
  return json.loads(json.dumps(settings))


def _differences(then, now, prefix):
  for key in sorted(then.keys() | now.keys()):
    before, after = then.get(key, "absent"), now.get(key, "absent")
    if isinstance(before, dict) and isinstance(after, dict):
      yield from _differences(before, after, f"{prefix}{key}.")
    elif before != after and json.dumps(before) != json.dumps(after):  # NaN
      yield Difference(prefix + key, before, after)
