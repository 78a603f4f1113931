"""Batches: complete, reproducible, the same whoever makes them."""

import copy
import json

import ml_dtypes
import numpy as np
import pytest

from synpo_jax.data import accounts, frame_size, pipeline, stream, text, video
from synpo_jax.data.batches import FILLER
from synpo_jax.data.stream import Stream
from tests.support import clips, tokenizers_made

IMAGE = text.IMAGE_TOKEN
RULE = video.FrameRule(min_frames=1, max_frames=4, frames_per_second=1.0)
PREPROCESS = video.Preprocess(size=(12, 16))


@pytest.fixture(scope="module")
def llama():
  return tokenizers_made.llama()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Videos of 1 to 4 seconds, a broken one, and 30 pairs on them."""
  folder = tmp_path_factory.mktemp("pipeline")
  for seconds in range(1, 5):
    clips.stamped(
      folder / f"v{seconds}.avi",
      5 * seconds,
      rate=5,
      codec="mjpeg",
      pixels="yuvj420p",
    )
  (folder / "broken.avi").write_bytes(b"nothing")
  names = ["v1.avi", "v2", "v3.avi", "v4", "broken", "gone.mp4", None]
  rows = [
    {
      "video": names[i % 7],
      "question": "Q" * (1 + i % 3),
      "chosen": "a" * (i % 9 + 1),
      "rejected": "b" * (i % 5 + 1),
      "chosen_score": 10,
      "rejected_score": 5 + (i == 0) * 3,
    }
    for i in range(30)
  ]
  lines = (
    json.dumps({k: v for k, v in r.items() if v is not None}) for r in rows
  )
  (folder / "pairs.jsonl").write_text("\n".join(lines))
  return folder


def make(files, llama, preprocess=PREPROCESS, **changed):
  settings = dict(
    pairs=str(files / "pairs.jsonl"),
    videos=str(files),
    cache=str(files / "cache"),
    question=None,
    template="aurora",
    min_score_gap=4,
    max_len=128,
    too_long="drop",
    prefix_buckets=16,
    response_buckets=(8, 16),
    most_shapes=8,
    frame_buckets=(2, 4),
    batch_size=4,
    accumulation=1,
    workers=0,
  )
  return pipeline.make(
    pipeline.Settings(**settings | changed),
    rule=RULE,
    preprocess=preprocess,
    tokenizer=llama,
    blocks=lambda frames, size=None: [3] * frames,
    captions=2,
    epochs=2,
    seed=0,
  )


def test_videos_whose_size_changes_are_counted(llama, tmp_path):
  """They have no size to follow; squashed they are used."""
  clips.changing(tmp_path / "mixed.mkv", 25)
  clips.stamped(tmp_path / "plain.mp4", 10)
  rows = [
    dict(video=name, question="Q", chosen="a", rejected="b")
    for name in ("mixed.mkv", "plain.mp4")
  ]
  told = "".join(f"{json.dumps(row)}\n" for row in rows)
  (tmp_path / "pairs.jsonl").write_text(told)
  rule = frame_size.Follow(8, 1, 0, 10**9, False, 10**9)
  follow = video.Preprocess((None, None), "follow", rule=rule)
  own = dict(min_score_gap=None, batch_size=1)
  counts = make(tmp_path, llama, follow, **own).counts
  assert counts["rows used"] == 1
  said = "1 of these because the picture size changes along the way"
  assert said in accounts.summary(counts)
  squash = video.Preprocess((12, 16), "squash")
  assert make(tmp_path, llama, squash, **own).counts["rows used"] == 2


@pytest.fixture(scope="module")
def data(files, llama):
  return make(files, llama)


def test_files_become_batches_and_every_loss_is_counted(data):
  # Rows 4, 11, 18, 25 name the broken video, 5, 12, 19, 26 the missing one.
  assert data.counts["rows read"] == 30
  assert data.counts["dropped: score gap too small"] == 1
  assert data.counts["dropped: video quarantined"] == 8
  assert data.counts["rows used"] == 21
  assert data.counts["rows of text alone"] == 4
  rows = {d.place.number: d.reason for d in data.dropped}
  gone = dict.fromkeys((5, 6, 12, 13, 19, 20, 26, 27), "video quarantined")
  assert rows == {1: "score gap too small", **gone}
  (form,) = data.forms
  assert form.endswith("pairs.jsonl: rows of ours (question, chosen, rejected)")
  line = accounts.summary(data.counts)
  assert "2 videos quarantined (see " in line and " 0 " not in line
  assert data.updates == 2 * data.updates_per_epoch
  for i in range(data.updates):
    batch = data.batches[i]
    for a, b in np.ndindex(batch.row.shape):
      pair = data.pairs[batch.row[a, b]]
      if batch.row[a, b] == FILLER:
        continue
      visual_tokens = (batch.prefix[a, b] == IMAGE).sum()
      if pair.video is None:
        assert visual_tokens == 0 and batch.frames is None
        continue
      seconds = int(pair.video[1])  # one frame a second
      assert visual_tokens == 3 * seconds
      shown = clips.numbers(batch.frames[a, b])
      expected = np.trunc(np.linspace(0, 5 * seconds - 1, seconds))
      assert shown[:seconds] == expected.tolist()


def same(batch, other):
  for array, its in zip(batch, other, strict=True):
    assert (array is None) == (its is None)
    np.testing.assert_array_equal(array, its)


def test_a_stream_resumes_at_every_step(data):
  whole = list(Stream(data.batches, 0))
  assert len(whole) == data.updates
  for step in range(data.updates + 1):
    stopped = Stream(data.batches, 0)
    for _ in range(step):
      next(stopped)
    state = json.loads(json.dumps(stopped.get_state()))
    stopped.close()
    resumed = Stream(data.batches, 0)
    resumed.set_state(state)
    rest = list(resumed)
    assert len(rest) == data.updates - step
    for batch, other in zip(whole[step:], rest, strict=True):
      same(batch, other)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_and_may_change(data):
  whole = list(Stream(data.batches, 0))
  stream = Stream(data.batches, 2)
  for i in range(5):
    same(next(stream), whole[i])
  state = stream.get_state()
  stream.close()
  alone = Stream(data.batches, 0)
  alone.set_state(state)
  same(next(alone), whole[5])


def test_tokens_alone_start_no_workers(data, monkeypatch):
  started = []

  def read_ahead(source, start, workers):
    started.append(workers)
    return iter([None])

  monkeypatch.setattr(stream, "_read_ahead", read_ahead)
  alone = copy.copy(data.batches)
  alone.visual = None
  for batches in (data.batches, alone):
    next(Stream(batches, 8))
  assert started == [8, 0]


def test_other_rows_are_told_apart(data):
  batches = data.batches
  again = copy.copy(batches)
  vars(again).pop("digest", None)
  assert again.digest == batches.digest
  changes = [
    dict(rows=batches.rows._replace(video=batches.rows.video[::-1])),
    dict(rows=batches.rows._replace(frames=batches.rows.frames + 1)),
    dict(sizes=batches.sizes[::-1]),
  ]
  for ids in ("prefix", "response"):
    tokens = getattr(batches.rows, ids)
    values = tokens.values.copy()
    values[-1] += 1
    changes.append(
      dict(
        rows=batches.rows._replace(**{ids: type(tokens)(values, tokens.starts)})
      )
    )
  for change in changes:
    other = copy.copy(again)
    vars(other).pop("digest")
    vars(other).update(change)
    assert other.digest != batches.digest


def test_cached_features_take_the_place_of_frames(data):
  def features(number):
    shape = (data.frames.count(number), 3, 5)
    return np.full(shape, number + 1, ml_dtypes.bfloat16)

  swapped = pipeline.with_features(data, features)
  assert data.batches.visual_key == "frames"
  for i in range(swapped.updates_per_epoch):
    batch, original = swapped.batches[i], data.batches[i]
    assert (batch.features is None) == (original.frames is None)
    assert batch.frames is None
    if batch.features is None:
      continue
    assert batch.features.dtype == ml_dtypes.bfloat16
    F = original.frames.shape[2]
    assert batch.features.shape[2:] == (F, 3, 5)
    kept = (batch.features > 0).any(axis=(3, 4))
    # Filler repeats the first row, frames included.
    np.testing.assert_array_equal(
      kept, original.frames.reshape(*kept.shape, -1).any(axis=-1)
    )


def test_text_alone_needs_no_videos(tmp_path, llama):
  row = {"question": "Q", "chosen": "a", "rejected": "b"}
  (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
  data = make(tmp_path, llama, videos="/nowhere", min_score_gap=None)
  assert data.frames is None and data.batches[0].frames is None
  assert data.batches[0].weight.tolist() == [[1, 0, 0, 0]]


def test_no_row_left_says_why(files, llama):
  with pytest.raises(ValueError, match="no row can be used .*no room"):
    make(files, llama, max_len=8)


def test_a_captioner_whose_rows_hold_no_video_is_not_trained(
  files, data, tmp_path, llama
):
  row = {"question": "Q", "chosen": "a", "rejected": "b"}
  path = tmp_path / "pairs.jsonl"
  path.write_text(json.dumps(row) + "\n")
  section = dict(pairs=str(path), videos="/nowhere")
  blind = make(tmp_path, llama, min_score_gap=None)
  with pytest.raises(
    ValueError, match="pairs.jsonl: none of the rows used has"
  ):
    pipeline.check_seen(blind, section)
  pipeline.check_seen(blind, section | {"videos": ""})  # meant
  pipeline.check_seen(data, section)


def test_marks_taken_out_are_counted(files, tmp_path, llama):
  row = {"video": "v1.avi", "question": "<video>\nQ", "chosen": "a"}
  path = tmp_path / "pairs.jsonl"
  path.write_text(json.dumps(row | {"rejected": "b"}) + "\n")
  marked = make(files, llama, pairs=str(path), min_score_gap=None)
  line = accounts.summary(marked.counts)
  assert "1 marks of the video taken out of questions" in line
  spelled = llama.convert_tokens_to_ids(["<", "v", "i", "d", "e", "o", ">"])
  prefix = marked.batches.rows.prefix[0].tolist()
  assert not any(prefix[i : i + 7] == spelled for i in range(len(prefix)))
