"""What a score depends on is named by all of it."""

import json

import pytest

from synpo_jax.evaluation import recipe
from synpo_jax.runtime import journal


def test_files_are_known_by_all_of_their_content(tmp_path):
  path, named = tmp_path / "scenes.jsonl", set()
  for changed in (None, 0, 3_000_000, 5_999_999):
    content = bytearray(6_000_000)
    if changed is not None:
      content[changed] = 1
    path.write_bytes(content)
    named.add(recipe.content(path))
  assert len(named) == 4
  path.write_bytes(b"abc")  # its SHA-256 is an example of FIPS 180-2
  assert recipe.content(path) == "ba7816bf8f01cfea"
  with pytest.raises(FileNotFoundError, match="gone.jsonl not found"):
    recipe.content(tmp_path / "gone.jsonl")


def test_captions_are_known_by_their_own_mark(tmp_path):
  ours, other = {"seed": 0}, {"seed": 1}
  mark = recipe.claim(tmp_path, ours)
  with journal.extend(tmp_path / "captions.jsonl") as (_, append):
    append({"id": "a", "caption": "x", "recipe_hash": mark})
  path = tmp_path / "recipe.json"
  for content in (None, json.dumps(other)):
    path.unlink()
    if content:
      path.write_text(content)
    said = f"caption of a was made with another recipe .hash {mark}, now"
    with pytest.raises(ValueError, match=said):
      recipe.claim(tmp_path, other)
    path.touch()
  path.unlink()
  assert recipe.claim(tmp_path, ours) == mark  # which the rows confirm
  assert json.loads(path.read_text()) == ours
