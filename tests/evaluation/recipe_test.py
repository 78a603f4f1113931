"""What a score depends on is named by all of it."""

import pytest

from synpo_jax.evaluation import recipe


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
