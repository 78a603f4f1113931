"""Rows of Parquet and Arrow files, a few at a time."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from synpo_jax.runtime import buckets

ROWS = 64  # made at once; one may hold a picture
STATE, SPLITS = "state.json", "dataset_dict.json"  # of datasets.save_to_disk
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream that was written to its end


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
  """Rows of a Parquet file; a row group is read when its turn comes.

  Raises ValueError, one line with the file, for a damaged one.
  """
  with _damage(path, "Parquet"), parquet.ParquetFile(opened(path)) as file:
    _check_names(file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=ROWS):
      yield from batch.to_pylist()


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
  """Rows of an Arrow file or stream. Raises ValueError as `parquet_rows`."""
  with _damage(path, "Arrow"), opened(path) as file:
    for batch in _batches(path, file):
      for start in range(0, batch.num_rows, ROWS):
        yield from batch.slice(start, ROWS).to_pylist()


def opened(path: Path) -> pa.NativeFile:
  """The file for pyarrow, which reads what it needs of it."""
  if isinstance(path, buckets.BucketPath):
    return pa.PythonFile(path.open("rb"), "r")
  return pa.OSFile(str(path))


def _batches(path: Path, file) -> Iterator[pa.RecordBatch]:
  if file.read(6) == b"ARROW1":
    reader = pa.ipc.open_file(file)
    _check_names(reader.schema.names)
    for number in range(reader.num_record_batches):
      yield reader.get_batch(number)
    return
  if _last_bytes(path, len(END)) != END:  # cut between two batches
    raise ValueError("its end is missing")
  file.seek(0)
  reader = pa.ipc.open_stream(file)
  _check_names(reader.schema.names)
  yield from reader


def _last_bytes(path: Path, count: int) -> bytes:
  with path.open("rb") as file:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - count))
    return file.read()


def _check_names(names: list[str]) -> None:
  """Raises ValueError for a column that stands twice."""
  for name in names:
    if names.count(name) > 1:
      raise ValueError(f"its column {name!r} stands twice")


@contextlib.contextmanager
def _damage(path: Path, kind: str):
  """Names the file and its kind in what pyarrow says of its bytes."""
  try:
    yield
  except (pa.ArrowException, OSError, ValueError) as error:
    if isinstance(error, FileNotFoundError | PermissionError):
      raise
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ValueError(
      f"{path}: cannot be read as {kind} ({first:.200}); bring it here anew, "
      "or write its rows as JSON lines"
    ) from error


def is_saved(folder: Path) -> bool:
  """Whether `datasets.save_to_disk` made a folder."""
  return any((folder / name).is_file() for name in (STATE, SPLITS))


def saved_files(folder: Path) -> list[Path]:
  """The Arrow files of a folder saved by `datasets`, in the order of rows.

  Raises ValueError, one line, for one of several splits, or whose list of
  files is damaged or names what is not there.
  """
  if (folder / SPLITS).is_file():
    splits = sorted(p.parent.name for p in folder.glob(f"*/{STATE}"))
    raise ValueError(
      f"{folder}: holds the splits {', '.join(splits)}; name one, as "
      f"{folder / splits[0] if splits else folder}"
    )
  try:
    state = json.loads((folder / STATE).read_bytes())
    names = [entry["filename"] for entry in state["_data_files"]]
    plain = all(Path(name).name == name for name in names)
  except (ValueError, LookupError, TypeError, RecursionError):
    plain = False
  if not plain:
    raise ValueError(f"{folder / STATE}: is damaged; save the dataset anew")
  if state.get("_indices_data_files"):
    raise ValueError(
      f"{folder}: holds rows that a selection left out; save it anew with a "
      "newer datasets, which writes the selected rows alone"
    )
  for name in names:
    if not (folder / name).is_file():
      raise ValueError(f"{folder}: lacks {name}, which its {STATE} names")
  return [folder / name for name in names]
