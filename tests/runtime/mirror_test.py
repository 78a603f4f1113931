"""What grows on the disk is in the bucket in whole parts."""

import contextlib
import uuid

import pytest
from tensorboardX.proto.event_pb2 import Event

from synpo_jax.runtime import buckets, journal, mirror
from synpo_jax.training import metrics, tracker


@pytest.fixture
def place():
  return buckets.at(f"memory://{uuid.uuid4().hex}/run")


def names(place):
  return [path.relative_to(place).as_posix() for path in place.files()]


def test_a_local_folder_is_itself(tmp_path):
  with mirror.kept(tmp_path) as folder:
    mirror.push(folder)
  assert folder == tmp_path and not list(tmp_path.iterdir())


def test_what_is_written_is_there_at_the_end_and_comes_back(place):
  with mirror.kept(place) as folder:
    (folder / "deep").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "x.png").write_bytes(b"\0\1")
    with journal.extend(folder / "rows.jsonl") as (_, append):
      append({"id": "a"})
  assert names(place) == [
    *(".rows.jsonl.begun", "config.json", "deep/x.png", "rows.jsonl"),
  ]
  with mirror.kept(place) as folder:
    assert (folder / "deep" / "x.png").read_bytes() == b"\0\1"
    with journal.extend(folder / "rows.jsonl") as (rows, append):
      assert list(rows) == ["a"]
      append({"id": "b"})
    (folder / "config.json").unlink()
  assert list(journal.read(place / "rows.jsonl")) == ["a", "b"]
  assert "config.json" not in names(place)


def test_of_a_file_that_grows_only_the_last_part_is_written_again(
  place, monkeypatch
):
  monkeypatch.setattr(mirror, "PART", 300)
  written, write = [], buckets.BucketPath.write_bytes
  monkeypatch.setattr(
    buckets.BucketPath,
    "write_bytes",
    lambda self, data: written.append(self.name) or write(self, data),
  )
  with mirror.kept(place) as folder:
    path = folder / "metrics.jsonl"
    for step in range(1, 10):
      metrics.append(path, {"step": step, "loss": 0.5})
      mirror.push(folder)
    whole = path.read_bytes()
    parts = [x for x in names(place) if x.startswith("metrics")]
    assert len(parts) > 1 and parts[1].startswith("metrics.jsonl.part-0000")
    assert written == sorted(written)  # never back to an earlier part
    contents = [(place / name).read_bytes() for name in parts]
    assert b"".join(contents) == whole
    assert all(x.endswith(b"\n") and len(x) <= 300 for x in contents)
    kept = metrics.keep_rows(path, 4)
    mirror.push(folder)
    assert names(place) == ["metrics.jsonl"]
  with mirror.kept(place) as folder:
    assert metrics.read_rows(folder / "metrics.jsonl") == kept


def test_after_a_kill_parts_are_put_together_and_old_ones_passed_over(place):
  (place / "a.jsonl").write_bytes(b"1\n2\n")
  (place / "a.jsonl.part-000000000002").write_bytes(b"2\n")  # now in the whole
  (place / "a.jsonl.part-000000000004").write_bytes(b"3\n")
  (place / "b.jsonl").write_bytes(b"1\n")
  with mirror.kept(place) as folder:
    assert (folder / "a.jsonl").read_bytes() == b"1\n2\n3\n"
  assert len(names(place)) == 4  # whoever only reads changes nothing
  with mirror.kept(place) as folder:
    with (folder / "a.jsonl").open("ab") as file:
      file.write(b"4\n")
  assert names(place) == ["a.jsonl", "b.jsonl"]
  assert (place / "a.jsonl").read_bytes() == b"1\n2\n3\n4\n"
  (place / "b.jsonl.part-000000000009").write_bytes(b"2\n")
  with pytest.raises(ValueError, match="part-000000000009: what stands before"):
    with mirror.kept(place):
      pass


def test_no_reader_sees_half_a_row_or_an_unfinished_file(place):
  with mirror.kept(place) as folder:
    (folder / "rows.jsonl").write_bytes(b'{"id": "a"}\n{"id": ')
    (folder / ".config.json.draft").write_bytes(b"{")
    mirror.push(folder)
    assert (place / "rows.jsonl").read_bytes() == b'{"id": "a"}\n'
    (folder / "page.html").write_text("<p>")
    mirror.push(folder, settled=mirror.SETTLED)  # as it does all the time
    assert names(place) == ["rows.jsonl"]


def test_events_are_cut_between_records(place, monkeypatch):
  monkeypatch.setattr(mirror, "PART", 400)
  monkeypatch.setattr(tracker, "FLUSH_SECONDS", -1.0)
  with mirror.kept(place) as folder:
    log = metrics.open_log(folder, start_step=0)
    for step in range(1, 30):
      log.write({"step": step, "loss": 0.5})
      mirror.push(folder)
    log.close()
    mirror.push(folder)
    parts = [x for x in names(place) if x.startswith("events/")]
    contents = [(place / name).read_bytes() for name in parts]
  assert len(parts) > 2
  seen = [step for content in contents for step in steps(content)]
  assert seen == steps(b"".join(contents)) and seen[-1] == 29
  with mirror.kept(place) as folder:
    (file,) = (folder / "events").iterdir()
    assert file.read_bytes() == b"".join(contents)


def steps(content):
  """The steps of the events of a file, every record whole."""
  found, at = [], 0
  while at < len(content):
    length = int.from_bytes(content[at : at + 8], "little")
    record = content[at + 12 : at + 12 + length]
    assert len(record) == length
    found.append(Event.FromString(record).step)
    at += 16 + length
  return found


def test_what_is_said_names_the_bucket(place, capsys):
  with pytest.raises(ValueError, match=f"^{place}/config.json: "):
    with mirror.kept(place) as folder:
      print(f"see {folder}/report")
      raise ValueError(f"{folder}/config.json: no")
  assert capsys.readouterr().out == f"see {place}/report\n"
  with pytest.raises(OSError, match=f"{place}/x"), mirror.kept(place) as folder:
    (folder / "x").read_text()
  with pytest.raises(SystemExit) as left, mirror.kept(place) as folder:
    raise SystemExit(f"error: {folder}")
  assert left.value.code == f"error: {place}"


def test_checkpoints_and_locks_stay_where_they_are(place):
  (place / "checkpoints" / "1" / "x").write_text("much")
  (place / ".lock.000001").write_text("{}")
  with mirror.kept(place) as folder:
    assert [x.name for x in folder.iterdir()] == [mirror.STATE]
  assert len(names(place)) == 2


def test_a_store_that_is_away_is_said_once(place, monkeypatch, capsys):
  monkeypatch.setattr(mirror, "FLUSH", 0.01)
  away = [True] * 3

  def push(folder, **_):
    if away:
      away.pop()
      raise OSError("gs://b: away")

  with contextlib.suppress(OSError), mirror.kept(place):
    monkeypatch.setattr(mirror, "push", push)
    while away:
      pass
  assert capsys.readouterr().err == "gs://b: away; trying again\n"
