"""The same rows as files of every kind that is read."""

import gzip
import json

import pyarrow as pa
from pyarrow import parquet


def lines(rows) -> bytes:
  return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zstd(content: bytes) -> bytes:
  return pa.compress(content, codec="zstd", asbytes=True)


def write_stream(path, rows):
  table = pa.Table.from_pylist(rows)
  with pa.OSFile(str(path), "wb") as file:
    with pa.ipc.new_stream(file, table.schema) as writer:
      writer.write_table(table, max_chunksize=1)


def write_arrow(path, rows):
  table = pa.Table.from_pylist(rows)
  with pa.OSFile(str(path), "wb") as file:
    with pa.ipc.new_file(file, table.schema) as writer:
      writer.write_table(table, max_chunksize=1)


def write_saved(folder, rows):
  """As datasets.save_to_disk does, a row a file."""
  folder.mkdir()
  names = [f"data-{i:05}-of-{len(rows):05}.arrow" for i in range(len(rows))]
  for name, row in zip(names, rows, strict=True):
    write_stream(folder / name, [row])
  state = {"_data_files": [{"filename": name} for name in names]}
  (folder / "state.json").write_text(json.dumps(state))
  (folder / "dataset_info.json").write_text("{}")


def write_parquet(path, rows):
  parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)


KINDS = {
  "pairs.jsonl": lambda path, rows: path.write_bytes(lines(rows)),
  "pairs.jsonl.gz": lambda path, rows: path.write_bytes(
    gzip.compress(lines(rows))
  ),
  "pairs.jsonl.zst": lambda path, rows: path.write_bytes(zstd(lines(rows))),
  "pairs.json": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
  "pairs.json.gz": lambda path, rows: path.write_bytes(
    gzip.compress(json.dumps(rows).encode())
  ),
  "pairs.parquet": write_parquet,
  "pairs.arrow": write_arrow,
  "stream.arrow": write_stream,
  "saved": write_saved,
}
