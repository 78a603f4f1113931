"""An export takes its place in one step, or none."""

import ctypes
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from synpo_jax.runtime import buckets
from synpo_jax.weights import exported, safetensors_files
from tests.support import small_files
from tests.support.paths import ROOT


def write(out, form, **files):
  with exported.replacing(out, form) as made:
    for name, text in files.items():
      (made / "part").mkdir(exist_ok=True)
      (made / "part" / name).write_text(text)


def content(out):
  return {path.name: path.read_text() for path in (out / "part").iterdir()}


def test_an_export_is_replaced_whole(tmp_path):
  out = tmp_path / "deep" / "out"
  write(out, "merged", a="old", b="old")
  write(out, "merged", a="new", c="new")
  assert content(out) == {"a": "new", "c": "new"}
  assert list(out.parent.iterdir()) == [out]
  (tmp_path / "link").symlink_to(out)
  write(tmp_path / "link", "merged", d="newest")
  assert content(out) == {"d": "newest"} and (tmp_path / "link").is_symlink()


def test_one_export_at_a_time_writes_a_folder(tmp_path):
  out = tmp_path / "out"
  with exported.replacing(out, "merged") as made:
    (made / "a").write_text("first")
    with pytest.raises(ValueError, match=f"{out} is held by process "):
      write(out, "merged", a="second")
  assert (out / "a").read_text() == "first"


def test_an_empty_folder_is_taken(tmp_path):
  (tmp_path / "out").mkdir()
  write(tmp_path / "out", "peft", a="new")
  assert content(tmp_path / "out") == {"a": "new"}


def test_a_full_disk_is_named_and_leaves_what_was(tmp_path):
  out, table = tmp_path / "out", {"a": np.zeros(4000, np.float32)}
  with exported.replacing(out, "merged") as made:
    (made / "x").write_text("old")
  with (
    pytest.raises(OSError, match=f"File too large: '{out}'"),
    exported.replacing(out, "merged") as made,
    small_files.limited(2000),
  ):
    safetensors_files.write_as(made / "x", table, table.values())
  assert (out / "x").read_text() == "old"


def test_what_is_no_export_of_this_form_stays(tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  (out / "model.safetensors").write_text("a checkpoint")
  with pytest.raises(ValueError, match="holds files, and would not be one"):
    write(out, "merged", a="new")
  write(tmp_path / "peft", "peft", a="old")
  with pytest.raises(ValueError, match="holds an export as peft, .* as merged"):
    write(tmp_path / "peft", "merged", a="new")
  (tmp_path / "peft" / "notes.md").write_text("mine")
  with pytest.raises(ValueError, match="notes.md is no part of the export"):
    write(tmp_path / "peft", "peft", a="new")
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="file: is no folder"):
    write(tmp_path / "file", "peft", a="new")
  assert {p.name for p in tmp_path.iterdir()} == {"out", "peft", "file"}


def test_work_that_fails_leaves_what_was(tmp_path):
  write(tmp_path / "out", "merged", a="old")
  with pytest.raises(OSError, match="full"):
    with exported.replacing(tmp_path / "out", "merged") as made:
      (made / "a").write_text("new")
      raise OSError("full")
  assert content(tmp_path / "out") == {"a": "old"}
  assert len(list(tmp_path.iterdir())) == 1


DYING = """
import os, pathlib, signal, sys
from synpo_jax.weights import exported
moment, out = sys.argv[1], pathlib.Path(sys.argv[2])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment in ("_record", "_exchange"):
  setattr(exported, moment, die)
if moment == "after":
  exported._sync = lambda path: die() if path == out.parent else None
with exported.replacing(out, "merged") as made:
  (made / "part").mkdir()
  (made / "part" / "b").write_text("new")
  if moment == "writing":
    die()
"""


@pytest.mark.parametrize("moment", ["writing", "_record", "_exchange", "after"])
def test_killed_at_any_moment_it_is_old_or_new(moment, tmp_path, caplog):
  out = tmp_path / "out"
  write(out, "merged", a="old")
  done = subprocess.run([sys.executable, "-c", DYING, moment, out], cwd=ROOT)
  assert done.returncode == -signal.SIGKILL
  assert content(out) == ({"b": "new"} if moment == "after" else {"a": "old"})
  write(out, "merged", c="next")
  assert content(out) == {"c": "next"}
  assert "left by an export that was killed" in caplog.text


def test_a_file_system_that_cannot_exchange_is_named(tmp_path, monkeypatch):
  def refuse(*_):
    ctypes.set_errno(22)
    return -1

  library = type("Library", (), {"renameat2": staticmethod(refuse)})
  monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
  write(Path(tmp_path, "out"), "merged", a="old")
  with pytest.raises(ValueError, match=f"in one step .{os.strerror(22)}.; ch"):
    write(Path(tmp_path, "out"), "merged", a="new")
  assert content(tmp_path / "out") == {"a": "old"}


def test_in_a_bucket_the_record_goes_first_and_comes_last(monkeypatch):
  out = buckets.at(f"memory://{uuid.uuid4().hex}/out")
  write(out, "merged", a="old", b="old")
  seen, send = [], buckets.send

  def note(file, to):
    seen.append((to.name, (out / exported.RECORD).exists()))
    send(file, to)

  monkeypatch.setattr(buckets, "send", note)
  write(out, "merged", a="new", c="new")
  assert seen == [("a", False), ("c", False), (exported.RECORD, False)]
  names = [path.relative_to(out).as_posix() for path in out.files()]
  assert names == [exported.RECORD, "part/a", "part/c"]
  assert (out / "part" / "a").read_text() == "new"
  with pytest.raises(ValueError, match=f"--out={out}: holds an export as me"):
    write(out, "peft", a="other")
  (out / "mine.txt").write_text("")
  with pytest.raises(ValueError, match="mine.txt is no part of the export"):
    write(out, "merged", a="new")
