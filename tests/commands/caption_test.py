"""Captions of real files: the entry, both passes, contrast."""

import io
import os
import subprocess
import sys
import uuid

import jax
import pytest
from rich.console import Console

from configs import pairs
from synpo_jax import caption, make_pairs
from synpo_jax.data import prompts, text, video
from synpo_jax.generation import shots, writer
from synpo_jax.pairing import ledger
from synpo_jax.runtime import buckets, journal
from synpo_jax.weights.config_reading import captioner_config
from tests.support import clips, json_rows, stores
from tests.support.small_captioner import config, write_captioner

pytestmark = pytest.mark.slow

RULE = video.FrameRule(2, 4, 1.0)
SAMPLED = dict(temperature=4.0, top_k=32, top_p=0.95)


@pytest.fixture(scope="module")
def one_device():
  """A process of one device, as most users have."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Videos of 2, 4 and 4 frames by the rule, a broken one, a captioner."""
  path = tmp_path_factory.mktemp("videos")
  write_captioner(path / "captioner")
  for name, count in (("a", 25), ("b", 100), ("d", 120)):
    clips.stamped(path / f"{name}.mp4", count)
  (path / "c.mp4").write_bytes(b"no video")
  return path


@pytest.fixture(scope="module")
def opened(one_device, folder):
  """A writer of the shipped captioner."""
  c = config(folder)
  return writer.open_writer(c.placing.to_dict(), **c.model.to_dict())


@pytest.fixture(scope="module")
def seen(opened, folder):
  """The three videos as shots, with weak frames."""
  return [
    shots.read(name, folder / name, RULE, opened.prepare, contrast=True)[0]
    for name in ("a.mp4", "b.mp4", "d.mp4")
  ]


@pytest.fixture
def ask(opened, folder):
  """write with the config's settings, changed by keywords: {id: texts}."""
  settings = config(folder).captions.to_dict()
  settings |= dict(seed=0, question=prompts.TRAINING_QUESTION)

  def ask(wanted, **changed):
    asked = shots.Ask(**settings | changed)
    return {name: texts for name, _, texts in opened.write(wanted, asked)}

  return ask


def as_it_is(picture, count):
  return picture


def test_weak_frames_are_spread_over_the_whole_video(folder):
  shot, clip = shots.read("b", folder / "b.mp4", RULE, as_it_is, contrast=True)
  assert clips.numbers(shot.frames) == [0, 33, 66, 99]
  assert clips.numbers(shot.weak) == [0, 99]
  assert shots.has_contrast(shot) and clip.total == 100
  one = video.FrameRule(1, 1, 1.0)
  shot, _ = shots.read("b", folder / "b.mp4", one, as_it_is, contrast=True)
  assert clips.numbers(shot.weak) == [0] and not shots.has_contrast(shot)


def test_contrast_needs_weak_frames(ask, seen):
  bare = seen[0]._replace(weak=None)
  with pytest.raises(ValueError, match="a.mp4: contrast needs .* weak frames"):
    ask([bare], contrast_weight=0.5)


def test_a_caption_depends_on_its_video_and_the_seed_only(ask, seen):
  together = ask(seen, candidates=2, **SAMPLED)
  assert list(together) == [shot.id for shot in seen]
  alone = ask(seen[1:2], candidates=2, **SAMPLED)
  assert alone[seen[1].id] == together[seen[1].id]
  first, second = together[seen[1].id]
  assert first.last != second.last and first.first == first.last
  other = ask(seen[1:2], seed=1, candidates=2, **SAMPLED)
  assert other[seen[1].id] != together[seen[1].id]


def test_the_second_pass_answers_the_retrospective_prompt(ask, seen):
  """Both passes equal two calls, contrast included."""
  how = dict(contrast_weight=0.5, contrast_cutoff=0.05)
  [both] = ask(seen[1:2], retrospective=True, **how)[seen[1].id]
  [first] = ask(seen[1:2], **how)[seen[1].id]
  assert both.first == first.last != both.last
  question = prompts.retrospective(first.last)
  [second] = ask(seen[1:2], question=question, **how)[seen[1].id]
  assert both.last == second.last
  assert both.tokens == first.tokens + second.tokens
  [plain] = ask(seen[1:2])[seen[1].id]
  assert plain.last != first.last


def test_candidates_have_second_passes_of_their_own(ask, seen):
  """Tails share the video: greedy ones equal the passes one by one."""
  texts = ask(seen[1:2], candidates=2, retrospective=True)[seen[1].id]
  [single] = ask(seen[1:2], retrospective=True)[seen[1].id]
  assert texts == [single, single]
  drawn = ask(seen[1:2], candidates=2, retrospective=True, **SAMPLED)
  first, second = drawn[seen[1].id]
  assert first.first != second.first and first.last != second.last


def test_without_fewer_frames_there_is_no_contrast(ask, seen):
  still = shots.Shot("still", seen[1].frames[:1], seen[1].frames[:1])
  assert ask([still], contrast_weight=0.5) == ask([still])


def test_an_adapter_is_no_checkpoint_and_a_dtype_is_one_of_three(tmp_path):
  (tmp_path / "adapter_config.json").write_text("{}")
  c = config(tmp_path)
  for folder, dtype, said in (
    (tmp_path, "float32", "an adapter; name it as model.adapter"),
    ("synpo_jax/assets/tiny", "foo", "dtype='foo': choose one of float32"),
  ):
    c.model.update(checkpoint=str(folder), dtype=dtype)
    with pytest.raises(ValueError, match=said):
      writer.open_writer(c.placing.to_dict(), **c.model.to_dict())


def test_a_video_of_more_frames_than_any_bucket_names_the_setting():
  tiny = captioner_config("synpo_jax/assets/tiny")
  with pytest.raises(ValueError, match="frame_buckets: .*holds 9 frames"):
    shots.frame_bucket(tiny, (4, 8), 9)


@pytest.mark.parametrize("weight", [-0.5, float("nan")])
def test_a_contrast_that_makes_no_sense_is_refused(ask, seen, weight):
  with pytest.raises(ValueError, match="contrast_weight="):
    ask(seen[:1], contrast_weight=weight)


def test_an_answer_cannot_pass_for_a_video():
  ask = shots.Ask(0, "What?", 1, 1, 0.0, 1, 1.0, True, False, 0.0, None)
  asked = shots.again("A dog \ufffcruns.", ask)
  assert "A dog runs." in asked and text.MARK not in asked
  assert shots.again(" \ufffc ", ask) == "What?"


def test_the_entry_goes_on_and_takes_in_new_videos(one_device, folder, caplog):
  c, shown = config(folder), io.StringIO()
  c.videos = "a.mp4,c.mp4,b.mp4"
  faults = caption.run(c, Console(file=shown, width=100))
  assert len(faults) == 1 and "c.mp4: cannot be read as video" in faults[0]
  rows = json_rows.read(c.output)
  assert [row["id"] for row in rows] == ["a.mp4", "b.mp4"]
  assert rows[0]["frames"] == 2 and rows[1]["duration"] == 4.0
  assert "b.mp4  (2/3, 4 frames of 4.0 s)" in shown.getvalue()
  assert letters(rows[1]["caption"]) in letters(shown.getvalue())
  assert shown.getvalue().replace("\n", "").isprintable()
  c.videos = "*.mp4"
  caption.run(c, Console(file=shown))
  again = json_rows.read(c.output)
  assert again[:2] == rows and [row["id"] for row in again[2:]] == ["d.mp4"]
  c.captions.max_new_tokens = 13
  with pytest.raises(ValueError, match="other settings"):
    caption.run(c, Console(file=shown))


def test_make_pairs_draws_the_same_captions_of_a_video(
  one_device, folder, tmp_path
):
  c, p = config(folder), pairs.get_config()
  c.videos, c.seed, c.output = "b.mp4", 3, str(tmp_path / "captions.jsonl")
  c.captions.update(SAMPLED, candidates=2, retrospective=True)
  caption.run(c, Console(file=io.StringIO()))
  p.update(videos="*.mp4", root=c.root, seed=3, stages="segments,candidates")
  p.model, p.placing = c.model, c.placing
  p.candidates.update(c.captions.to_dict(), question=c.question)
  p.candidates.frames.update(c.frames.to_dict())
  make_pairs.run(p, tmp_path)
  [ours] = json_rows.read(c.output)
  theirs = ledger.rows(tmp_path, "candidates")["b.mp4"]
  for key in ("captions", "first", "tokens", "question"):
    assert theirs[key] == ours[key]
  assert len({*ours["first"], *ours["captions"]}) == 4


def test_everything_may_lie_in_a_bucket(one_device, folder, tmp_path):
  place = stores.upload(folder, f"memory://{uuid.uuid4().hex}/all")
  c, there, p = config(folder), config(folder), pairs.get_config()
  c.videos = there.videos = "a.mp4,c.mp4,b.mp4"
  c.output, there.output = f"{tmp_path}/x.jsonl", f"{place}/out/x.jsonl"
  there.model.checkpoint, there.root = f"{place}/captioner", place
  caption.run(c, Console(file=io.StringIO()))
  for _ in range(2):  # it goes on, with nothing left
    faults = caption.run(there, Console(file=io.StringIO()))
    assert len(faults) == 1 and f"{place}/c.mp4: cannot be read" in faults[0]
    rows = list(journal.read(there.output).values())
    assert [row["caption"] for row in rows] == [
      row["caption"] for row in json_rows.read(c.output)
    ]
  p.update(videos="b.mp4", root=place, stages="segments,candidates")
  p.model, p.placing, p.seed = there.model, there.placing, c.seed
  p.candidates.update(there.captions.to_dict(), question=c.question)
  p.candidates.frames.update(there.frames.to_dict())
  work = buckets.at(f"{place}/pairs")
  make_pairs.run(p, work)
  [made] = journal.read(work / "candidates.jsonl").values()
  assert made["captions"][0] == rows[1]["caption"]
  names = [path.relative_to(work).as_posix() for path in work.files()]
  assert {"segments.jsonl", "settings.jsonl", "summary.json"} <= {*names}


def test_several_hosts_write_files_of_their_own(
  one_device, folder, tmp_path, monkeypatch
):
  c = config(folder)
  c.output = str(tmp_path / "captions.jsonl")
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  caption.run(c, Console(file=io.StringIO()))
  [path] = tmp_path.glob("*.jsonl")
  assert path.name == "captions.1-of-2.jsonl"
  rows = json_rows.read(path)
  assert [row["id"] for row in rows] == ["b.mp4", "d.mp4"]


def test_the_documented_command_says_what_failed(folder, tmp_path):
  command = [
    *(sys.executable, "-m", "synpo_jax.caption"),
    "--config=configs/caption.py",
    f"--config.videos={folder}/a.mp4,{folder}/c.mp4",
    f"--config.output={tmp_path}/captions.jsonl",
    "--config.captions.max_new_tokens=3",
    f"--config.model.checkpoint={folder}/captioner",
    "--config.model.kept_ratio=0.5",
  ]
  done = subprocess.run(
    command,
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and "Traceback" not in done.stderr
  said = done.stderr.splitlines()
  assert said[-1] == "error: 1 video has no caption, as said above"
  assert any(line.startswith("failed: ") and "c.mp4" in line for line in said)
  [row] = json_rows.read(tmp_path / "captions.jsonl")
  assert letters(row["caption"]) in letters(done.stdout)


def letters(text):
  """What any terminal shows of a text."""
  return "".join(filter(str.isalnum, text))
