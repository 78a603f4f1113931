"""The pair pipeline on files that cameras, editors and accidents make."""

import pytest

from synpo_jax import make_pairs
from tests.support import clips, fake_pairs, json_rows
from tests.support.judge_server import serve


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  root = tmp_path_factory.mktemp("odd")
  (root / "empty.mp4").write_bytes(b"")
  head = clips.stamped(root / "head.mp4", 30)
  head.write_bytes(head.read_bytes()[:600])
  clips.tone(root / "sound.mp4")
  clips.stamped(root / "one.mp4", 1)
  clips.stamped(root / "odd.webm", 12, codec="libvpx-vp9", size=(35, 51))
  clips.stamped(root / "turned.mp4", 30, rotation=90)
  ticks = [0, 40, 80, 1000, 1040, 3000, 6000, 9000, 9040, 17900]
  clips.stamped(root / "varying.mkv", 10, ticks=ticks)
  torn = clips.stamped(root / "torn.avi", 90, codec="mpeg4", size=(240, 320))
  torn.write_bytes(torn.read_bytes()[: torn.stat().st_size * 6 // 10])
  return root


def test_each_is_captioned_or_named(videos, tmp_path):
  with serve(fake_pairs.honest) as (url, _):
    c = fake_pairs.config(videos, url)
    summary = make_pairs.run(c, tmp_path, fake_pairs.open_writer)
  faults = summary["unreadable"]
  assert sorted(faults) == ["empty.mp4", "head.mp4", "sound.mp4"]
  for name, reason in faults.items():
    assert name in reason and "\n" not in reason
  cuts = json_rows.read(tmp_path / "segments.jsonl")
  found = {row["id"]: row for row in cuts}
  names = ["odd.webm", "one.mp4", "torn.avi", "turned.mp4", "varying.mkv"]
  assert sorted(found) == names
  assert found["one.mp4"]["segments"] == [[0, 1]]
  assert found["varying.mkv"]["frames"] == 10
  assert 20 < found["torn.avi"]["frames"] < 90
  pairs = json_rows.read(tmp_path / "pairs.jsonl")
  assert sorted(row["id"] for row in pairs) == names
  page = (tmp_path / "pairs.html").read_text()
  assert "cannot be read" not in page and page.count("<article") == len(names)
