"""The files of a pair run, and the settings each of them was made with.

A stage's rows carry the hash of all settings that shape them; a stage that
finds its file made with others refuses, and says which differ.
"""

import hashlib
import json
from pathlib import Path

from synpo_jax import journal

FILES = {
  "segments": "segments.jsonl",
  "clips": "clips.jsonl",
  "candidates": "candidates.jsonl",
  "judge": "judgements.jsonl",
  "pairs": "pairs.jsonl",
}
CACHE = "judge_cache.jsonl"
SETTINGS = "settings.jsonl"


def path(workdir: Path | str, stage: str) -> Path:
  """The file of a stage."""
  return Path(workdir) / FILES[stage]


def rows(workdir: Path | str, stage: str) -> dict[str, dict]:
  """What a stage has written so far, by video id.

  Raises FileNotFoundError when it has written nothing.
  """
  found = journal.read(path(workdir, stage))
  if not found:
    raise FileNotFoundError(
      f"{path(workdir, stage)}: no rows; run the stage {stage!r} first"
    )
  return found


def register(workdir: Path | str, stage: str, settings: dict) -> str:
  """Keeps the settings of a stage; returns their hash, 12 hex digits.

  Raises ValueError, with the keys that differ, when the stage's file was
  begun with other settings.
  """
  settings = json.loads(json.dumps(settings))  # tuples become lists
  mark = digest(settings)
  file = path(workdir, stage)
  known = journal.read(Path(workdir) / SETTINGS, "stage")
  begun = file.exists() and file.stat().st_size > 0
  if begun and stage in known and known[stage]["hash"] != mark:
    differing = _differing(known[stage]["settings"], settings)
    raise ValueError(
      f"{file} was made with other settings ({'; '.join(differing)}); "
      "use another workdir, or move that file and those of later stages away"
    )
  known[stage] = {"stage": stage, "hash": mark, "settings": settings}
  journal.rewrite(Path(workdir) / SETTINGS, list(known.values()))
  return mark


def digest(settings: dict) -> str:
  """Hash of plain settings; the order of keys does not matter."""
  text = json.dumps(settings, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _differing(old: dict, new: dict, prefix: str = "") -> list[str]:
  lines = []
  for key in sorted(old.keys() | new.keys()):
    a, b = old.get(key), new.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      lines += _differing(a, b, f"{prefix}{key}.")
    elif a != b:
      lines.append(f"{prefix}{key}: {a!r} then, {b!r} now")
  return lines
