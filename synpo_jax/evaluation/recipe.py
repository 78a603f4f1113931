"""What a score was made with, and a short name for it."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform

from synpo_jax.runtime import journal

PACKAGES = ("jax", "jaxlib", "flax", "transformers", "numpy", "av", "openai")
METRICS_VERSION = "2026-11-b"  # changes when a score's definition does
MADE = ("captions.jsonl", "judge.jsonl", "results.json")
SAMPLED_BLOCKS, BLOCK = 64, 1 << 16


def versions() -> dict[str, str]:
  """Versions of Python and of the packages a score may depend on."""
  found = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return found


def digest(value) -> str:
  """The first 16 hex digits of the SHA-256 of a value's sorted JSON."""
  text = json.dumps(value, sort_keys=True, ensure_ascii=False)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(path: str | pathlib.Path) -> str:
  """A digest of a file, or of the names, sizes and samples of a folder's.

  Of files above 4 MB only 64 evenly spaced blocks of 64 kB are read, so that
  a 14-GB checkpoint takes a second; that tells checkpoints apart, but is no
  proof against tampering.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} not found")
  files = [path]
  if path.is_dir():
    files = sorted(p for p in path.rglob("*") if p.is_file())
  total = hashlib.sha256()
  for file in files:
    name = "" if file == path else file.relative_to(path).as_posix()
    total.update(f"{name} {file.stat().st_size}\n".encode())
    _sample(file, total)
  return total.hexdigest()[:16]


def _sample(file, total):
  size = file.stat().st_size
  with file.open("rb") as handle:
    if size <= SAMPLED_BLOCKS * BLOCK:
      total.update(handle.read())
      return
    for index in range(SAMPLED_BLOCKS):
      handle.seek(index * (size - BLOCK) // (SAMPLED_BLOCKS - 1))
      total.update(handle.read(BLOCK))


def claim(workdir: pathlib.Path, recipe: dict) -> str:
  """Writes recipe.json, or compares with the one there; returns its hash.

  Raises ValueError naming the entries that differ: captions and judgements
  of two recipes do not belong into one folder. A folder that holds neither,
  left by a command that failed, may be begun anew.
  """
  path = workdir / "recipe.json"
  now = json.loads(json.dumps(recipe))
  if path.exists() and any(map(_holds, map(workdir.joinpath, MADE))):
    then = json.loads(path.read_text("utf-8"))
    differing = sorted(
      f"{key}: {before!r} there, {after!r} now"
      for key, before, after in _differences(then, now)
    )
    if differing:
      raise ValueError(
        f"{workdir} was begun with another recipe ({'; '.join(differing)}); "
        "choose another --workdir"
      )
  else:
    text = json.dumps(now, indent=2, sort_keys=True, ensure_ascii=False)
    journal.replace(path, (text + "\n").encode())
  return digest(now)


def _holds(path):
  return path.exists() and path.stat().st_size > 0


def _differences(then, now, prefix=""):
  for key in then.keys() | now.keys():
    before, after = (side.get(key, "absent") for side in (then, now))
    if isinstance(before, dict) and isinstance(after, dict):
      yield from _differences(before, after, f"{prefix}{key}.")
    elif before != after:
      yield prefix + key, before, after
