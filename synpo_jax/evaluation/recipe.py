"""What a score was made with, and a short name for it."""

import hashlib
import importlib.metadata
import pathlib
import platform

from synpo_jax.runtime import settings

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
  """The name of a recipe, or of another value, in 16 hex digits."""
  return settings.digest(value, 16, ensure_ascii=False)


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
  begun = any(map(_holds, map(workdir.joinpath, MADE)))
  differing = [
    f"{key}: {then!r} there, {now!r} now"
    for key, then, now in settings.claim(
      workdir / "recipe.json", recipe, anew=not begun
    )
  ]
  if differing:
    raise ValueError(
      f"{workdir} was begun with another recipe ({'; '.join(differing)}); "
      "choose another --workdir"
    )
  return digest(recipe)


def _holds(path):
  return path.exists() and path.stat().st_size > 0
