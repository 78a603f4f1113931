"""What a score was made with, and a short name for it."""

import hashlib
import importlib.metadata
import pathlib
import platform

from synpo_jax.runtime import buckets, journal, settings

PACKAGES = ("jax", "jaxlib", "flax", "transformers", "numpy", "av", "openai")
# Changes with a score's definition, with how a judge's replies are read, and
# with how files are named in a recipe.
METRICS_VERSION = "2026-11-d"
CAPTIONS = "captions.jsonl"
MADE = (CAPTIONS, "judge.jsonl", "results.json")


def versions() -> dict[str, str]:
  """Versions of Python and of the packages a score may depend on."""
  installed = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      installed[name] = "not installed"
  return installed


def digest(value) -> str:
  """The name of a recipe, or of another value, in 16 hex digits."""
  return settings.digest(value, 16, ensure_ascii=False)


def content(path: str | pathlib.Path) -> str:
  """The content of a file, in 16 hex digits."""
  path = buckets.at(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} not found")
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def claim(workdir: pathlib.Path, recipe: dict) -> str:
  """Writes recipe.json, or compares with the one there; returns its hash.

  Raises ValueError naming the entries that differ: captions and judgements
  of two recipes do not belong into one folder. So it does for captions whose
  rows carry another hash, should recipe.json be lost or another's. A folder
  that holds neither, left by a command that failed, may be begun anew.
  """
  mark, path = digest(recipe), workdir / CAPTIONS
  begun = any(map(_holds, map(workdir.joinpath, MADE)))
  differing = [
    f"{key}: {then!r} there, {now!r} now"
    for key, then, now in _differences(workdir / "recipe.json", recipe, begun)
  ]
  if differing:
    raise ValueError(
      f"{workdir} was begun with another recipe ({'; '.join(differing)}); "
      "choose another --workdir"
    )
  for name, row in journal.read(path).items():
    if (own := row.get("recipe_hash")) != mark:
      raise ValueError(
        f"{path}: the caption of {name} was made with another recipe (hash "
        f"{own}, now {mark}), which recipe.json does not say; put that file "
        "back, or choose another --workdir"
      )
  settings.claim(workdir / "recipe.json", recipe, anew=not begun)
  return mark


def _differences(path, recipe, begun):
  """What differs from the file, if it is there and counts."""
  if not begun or not path.exists():
    return ()
  return settings.claim(path, recipe)


def _holds(path):
  return path.exists() and path.stat().st_size > 0
