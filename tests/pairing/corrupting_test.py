"""Pairs whose rejected caption is of a corrupted video."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from synpo_jax import make_pairs
from synpo_jax.data import corruption, video
from synpo_jax.pairing import choose, ledger, worth
from synpo_jax.runtime import journal
from tests.support import captioner_server, fake_pairs
from tests.support.judge_server import serve

STAGES = "segments,clips,corrupted,candidates,judge,pairs"


class Seeing(fake_pairs.Writer):
  """Keeps what it was shown; dies after `lives` shots of whole videos."""

  def __init__(self, lives=99):
    self.shown, self.lives = [], lives

  def write(self, shots, ask):
    def kept():
      for shot in shots:
        if shot.part is None:
          self.lives -= 1
          if self.lives < 0:
            raise KeyboardInterrupt
        self.shown.append((shot, ask))
        yield shot

    return super().write(kept(), ask)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  """Four clips of 12 to 102 frames."""
  root = tmp_path_factory.mktemp("videos")
  for number in range(4):
    fake_pairs.clip(root / f"v{number}.mp4", 12 + 30 * number, 30 * number)
  return root


def config(videos, url=""):
  c = fake_pairs.config(videos, url)
  c.stages, c.candidates.candidates, c.corrupted.candidates = STAGES, 3, 2
  c.pairs.update(negative="corrupted", least_gap=0.0)
  return c


def make(videos, workdir, writer):
  with serve(fake_pairs.honest) as (url, log):
    made = make_pairs.run(
      config(videos, url), workdir, lambda placing, **model: writer
    )
  return made, log


@pytest.fixture(scope="module")
def done(videos, tmp_path_factory):
  workdir, writer = tmp_path_factory.mktemp("done"), Seeing()
  summary, log = make(videos, workdir, writer)
  return workdir, summary, writer, log


def rows(workdir, name):
  return journal.read(workdir / name)


def test_the_captioner_is_shown_the_frames_that_the_row_names(done, videos):
  """Decoded one by one, in order; and asked as for the candidates."""
  workdir, _, writer, _ = done
  known = rows(workdir, "corrupted.jsonl")
  whole = [(shot, ask) for shot, ask in writer.shown if shot.part is None]
  spoilt, candidates = whole[:4], whole[4:]
  for (shot, ask), (clean, asked) in zip(spoilt, candidates, strict=True):
    about = known[shot.id]["corruption"]
    assert about["version"] == corruption.VERSION
    every = video.read(videos / shot.id, lambda _, total: np.arange(total))
    np.testing.assert_array_equal(shot.frames, every.frames[about["frames"]])
    assert len(shot.times) == len(shot.frames) and shot.times[0] >= 0
    assert [*shot.times] == sorted(shot.times)
    assert shot.frames.tobytes() != clean.frames.tobytes()
    assert (ask.seed, ask.question, ask.temperature, ask.candidates) == (
      *(asked.seed, asked.question, asked.temperature),
      2,
    )


def test_the_rejected_caption_is_of_the_corrupted_video(done):
  workdir, summary, _, log = done
  spoilt, clean = (
    rows(workdir, "corrupted.jsonl"),
    rows(workdir, "candidates.jsonl"),
  )
  made = rows(workdir, "pairs.jsonl")
  assert 0 < len(made) == summary["pairs"]
  assert summary["pairs"] + sum(summary["dropped"].values()) == 4
  assert summary["rows"]["corrupted"] == 4
  for row in made.values():
    origin, id_ = row["provenance"], row["id"]
    assert row["chosen"] in clean[id_]["captions"]
    assert row["rejected"] in spoilt[id_]["captions"]
    assert origin["corruption"] == spoilt[id_]["corruption"]
    assert len(origin["scores"]["total"]) == 5  # all were judged together
    assert row["rejected_score"] <= row["chosen_score"]
    assert row["rejected_score"] == min(origin["scores"]["total"][3:])
  assert len(log.bodies) == 8 + 4 * (2 * 5 + 1)  # of the judge's trial, 8
  told = (workdir / "pairs.html").read_text()
  assert all(
    f"of frames after {row['provenance']['corruption']['kind']}" in told
    for row in made.values()
  )
  assert (workdir / worth.FILE).exists()


def test_a_kill_in_the_stage_changes_nothing(done, videos, tmp_path):
  with pytest.raises(KeyboardInterrupt):
    make(videos, tmp_path, Seeing(lives=2))
  assert 0 < len(rows(tmp_path, "corrupted.jsonl")) < 4
  again = Seeing()
  make(videos, tmp_path, again)
  whole = [shot.id for shot, _ in again.shown if shot.part is None]
  assert len(whole) < 8  # what was written is not asked for again
  for name in (*ledger.FILES.values(), "corrupted.jsonl"):
    assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()


def test_other_rules_leave_them_out(done, videos, tmp_path):
  for path in done[0].iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  c = config(videos)
  c.stages = "pairs"
  c.pairs.update(negative="worst", least_gap=None)
  make_pairs.run(c, tmp_path)
  clean = rows(tmp_path, "candidates.jsonl")
  made = rows(tmp_path, "pairs.jsonl")
  assert made
  for row in made.values():
    assert row["rejected"] in clean[row["id"]]["captions"]
    assert "corruption" not in row["provenance"]


def test_a_server_is_shown_the_same_frames(videos, tmp_path, done):
  with serve(fake_pairs.both) as (url, log):
    c = fake_pairs.served(videos, url, side=64)
    c.update(config(videos, url).to_dict() | c.to_dict())
    c.stages = "segments,corrupted"
    c.served = "candidates"
    make_pairs.run(c, tmp_path)
    asked = len(log.bodies)
    make_pairs.run(c, tmp_path)
    assert len(log.bodies) == asked
  wanted = rows(done[0], "corrupted.jsonl")
  found = rows(tmp_path, "corrupted.jsonl")
  about = lambda known: {id_: row["corruption"] for id_, row in known.items()}  # noqa: E731
  assert about(found) == about(wanted)
  said = {
    captioner_server.words(body, n) for body in log.bodies for n in (0, 1)
  }
  for row in found.values():
    assert {*row["captions"]} <= said and row["served"]["model"] == "served"
  one, by = next(iter(found.values())), captioner_server.words
  body = next(x for x in log.bodies if by(x) in one["captions"])
  urls = [
    part["image_url"]["url"] for part in body["messages"][0]["content"][:-1]
  ]
  seen = Image.open(io.BytesIO(base64.b64decode(urls[0].split(",")[1])))
  order = one["corruption"]["frames"]
  first = video.read(videos / one["id"], lambda *_: np.array(order[:1]))
  assert len(urls) == len(order)
  assert np.abs(np.float32(seen) - first.frames[0]).mean() < 4  # JPEG


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"corrupted.kinds": ("blur",)}, "corrupted.kinds: 'blur' is none of"),
    ({"candidates.contrast_weight": 0.5}, "contrast_weight=0.5: corrupted vid"),
    ({"model.endpoint": "http://127.0.0.1:9/v1"}, "serving.send=video: of a f"),
    ({"stages": "segments,clips,candidates,judge,pairs"}, "=segments,clips,co"),
  ],
)
def test_what_the_stage_cannot_do_is_refused_by_name(
  videos, tmp_path, changes, said
):
  c = config(videos, "http://127.0.0.1:9/v1")
  c.serving.update(model="served", send="video")
  c.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=said) as error:
    make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("scores", "least_gap", "wanted"),
  [
    ([5.0, 9.0, 1.0, 4.0, 3.0], 1.0, (1, 4)),  # never candidate 2, the worst
    ([5.0, 9.0, 1.0, 4.0, 3.0], 7.0, choose.NONE_BELOW),
    ([5.0, 9.0, 1.0, None, None], 1.0, choose.NONE_CORRUPTED),
    ([None, 9.0, None, 4.0, None], 1.0, (1, 3)),  # one candidate is enough
    ([None, None, None, 4.0, 3.0], 1.0, choose.NO_CANDIDATES),
    ([5.0, 2.0, 1.0, 9.0, 5.0], 0.0, "equal scores"),
  ],
)
def test_the_worst_caption_of_the_corrupted_video_is_rejected(
  scores, least_gap, wanted
):
  rule = choose.WORST._replace(negative="corrupted", least_gap=least_gap)
  choose.check(rule)
  assert choose.choose(list("abcde"), scores, rule, 3) == wanted
