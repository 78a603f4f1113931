"""What became of the rows: every one that is dropped is listed."""

import json
from collections import Counter
from types import SimpleNamespace

from synpo_jax.data import accounts, pairs
from synpo_jax.training import row_counts
from tests.support import row_files

ROW = {"question": "Q", "chosen": "A", "rejected": "B"}


def read(folder):
  """Six rows in two files; the second row's gap is too small."""
  scores = [{"chosen_score": 9, "rejected_score": n} for n in (0, 8, 1)]
  row_files.write_parquet(folder / "a.parquet", [ROW | s for s in scores])
  rows = [ROW | scores[0] | {"video": f"{n}.mp4"} for n in range(3)]
  (folder / "b.jsonl").write_bytes(row_files.lines(rows))
  return pairs.read_pairs(f"{folder}/*", min_score_gap=4)


def test_rows_are_listed_by_file_row_and_reason(tmp_path):
  (tmp_path / "data").mkdir()
  found = read(tmp_path / "data")
  kept = [pair for pair in found.pairs if pair.video != "1.mp4"]
  unfit = {1: "dropped: caption too long"}  # the third row
  dropped = accounts.dropped(found, kept, unfit)
  accounts.write_dropped(tmp_path / "dropped.jsonl", dropped)
  lines = (tmp_path / "dropped.jsonl").read_text().splitlines()
  a, b = (str(tmp_path / "data" / name) for name in ("a.parquet", "b.jsonl"))
  told = [[json.loads(x)[k] for k in ("file", "row", "reason")] for x in lines]
  assert told == [
    [a, 2, "score gap too small"],
    [a, 3, "caption too long"],
    [b, 2, "video quarantined"],
  ]
  assert json.loads(lines[2])["id"] == "file-2-line-2"
  counts = accounts.count(found, {}, Counter(unfit.values()), 3)
  assert accounts.summary(counts) == (
    "6 rows read, 1 dropped: score gap too small, 1 dropped: caption too long, "
    "3 rows used"
  )


def test_forms_name_how_many_files_there_are(tmp_path):
  (line,) = accounts.forms("data/*", read(tmp_path))
  assert line == "data/* (2 files): rows of ours (question, chosen, rejected)"


def test_the_list_lies_in_the_workdir_and_is_made_anew(tmp_path, capsys):
  data, workdir = (tmp_path / name for name in ("data", "run"))
  data.mkdir()
  workdir.mkdir()
  found = read(data)
  dropped = accounts.dropped(found, found.pairs, {})
  path = workdir / "dropped.jsonl"

  def list_dropped(rows, held=None):
    read_rows = SimpleNamespace(dropped=rows)
    row_counts.list_dropped(workdir, read_rows, held and read_rows)

  list_dropped([])
  assert not path.exists()
  list_dropped(dropped, held=True)
  assert len(path.read_text().splitlines()) == 2
  assert f"dropped rows: {path}" in capsys.readouterr().out
  list_dropped([])
  assert path.read_text() == ""
