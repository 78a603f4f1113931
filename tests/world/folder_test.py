"""The synthetic world on disk: made once, gone on with, mended."""

import subprocess
import sys

import pytest

from synpo_jax.world import folder
from synpo_jax.world.scene import read_scenes
from tests.support import json_rows
from tests.support.clips import decoded


def test_rendering_resumes_and_keeps_what_is_there(tmp_path):
  folder.render_world(tmp_path, [3, 4])
  kept = tmp_path / "clips" / "shapes-00000003.mp4"
  before = kept.stat().st_mtime_ns
  (tmp_path / "clips" / "shapes-00000005.part.mp4").write_bytes(b"cut off")
  scenes = folder.render_world(tmp_path, [3, 4, 5])
  assert [scene.seed for scene in scenes] == [3, 4, 5]
  assert kept.stat().st_mtime_ns == before
  assert len(decoded(tmp_path / "clips" / "shapes-00000005.mp4")) == (
    scenes[2].frames
  )
  known = read_scenes(str(tmp_path / "scenes.jsonl"))
  assert sorted(known) == [scene.video for scene in scenes]


def test_a_world_holds_clips_rows_and_held_out_ids(tmp_path):
  command = f"-m synpo_jax.world --out={tmp_path} --clips=6 --seed=40"
  command = [sys.executable, *command.split(), "--heldout=2", "--workers=2"]
  subprocess.run(command, check=True)
  unseen = json_rows.read(tmp_path / "heldout.jsonl")
  heldout = [row["video"].removeprefix("clips/")[:-4] for row in unseen]
  rows = json_rows.read(tmp_path / "sft.jsonl")
  pairs = json_rows.read(tmp_path / "pairs.jsonl")
  assert heldout == ["shapes-00000044", "shapes-00000045"]
  assert len(rows) == 16 and len(pairs) == 4
  for row in rows + pairs:
    assert (tmp_path / row["video"]).exists()
    assert all(video not in row["video"] for video in heldout)


def test_a_world_that_is_there_is_not_written_again(tmp_path):
  def make(clips):
    folder.write_world(tmp_path, clips=clips, seed=40, heldout=1)
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}

  names = ("scenes", "sft", "pairs", "heldout")
  files = [tmp_path / f"{name}.jsonl" for name in names]
  first = make(2)
  assert make(2) == first
  (tmp_path / "sft.jsonl").write_text("{}\n")
  again = make(2)
  assert {name for name in again if again[name] != first[name]} == {"sft.jsonl"}
  folder.render_world(tmp_path, [7])  # by another call
  make(3)
  known = read_scenes(str(tmp_path / "scenes.jsonl"))
  assert sorted(scene.seed for scene in known.values()) == [7, 40, 41, 42]


def test_a_damaged_clip_is_rendered_anew(tmp_path):
  (scene,) = folder.render_world(tmp_path, [3])
  clip = tmp_path / "clips" / f"{scene.video}.mp4"
  whole = clip.read_bytes()
  for damaged in (b"", whole[:50], bytes(len(whole))):
    clip.write_bytes(damaged)
    folder.render_world(tmp_path, [3])
    assert clip.read_bytes() == whole


def test_a_world_cannot_hold_out_all_of_its_clips(tmp_path):
  with pytest.raises(ValueError, match="cannot hold out 3 of 3"):
    folder.write_world(tmp_path, clips=3, seed=0, heldout=3)
