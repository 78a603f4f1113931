"""The video file that a row was made from, by content, and no other since."""

from pathlib import Path

from synpo_jax.runtime import digests

KEY = "file"  # of a row that says which


def describe(path: Path) -> dict[str, int | str]:
  """Size, time of the last change and SHA-256 of a file; reads all of it."""
  before = _look(path)
  return before | {"sha256": digests.of(path).hex()}


def check(path: Path, row: dict, way_out: str) -> None:
  """Raises ValueError where a file is not the one that a row was made from.

  row: holds `describe` of that one as KEY; an earlier version's holds nothing,
  and is not compared. way_out: what one can do, in words. A file of the same
  size and time is not read again.
  """
  then = row.get(KEY)
  if then is None or then | _look(path) == then:
    return
  if digests.of(path).hex() != then["sha256"]:
    raise ValueError(
      f"{path}: this is not the video that its row was made from (other "
      f"content); put that back, or {way_out}"
    )


def _look(path: Path) -> dict[str, int]:
  found = path.stat()
  return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
