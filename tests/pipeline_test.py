"""Batches: complete, reproducible, the same whoever makes them."""

import json
from collections import Counter

import clips
import ml_dtypes
import numpy as np
import pytest
import tokenizers_made

from synpo_jax.data import batches, pipeline, text, tokens, video
from synpo_jax.data.batches import FILLER
from synpo_jax.data.pairs import Pair

IMAGE = text.IMAGE_TOKEN
RULE = video.FrameRule(min_frames=1, max_frames=4, frames_per_second=1.0)
HOW = video.Preprocess(size=(12, 16))


@pytest.fixture(scope="module")
def llama():
  return tokenizers_made.llama()


# ---- The plan of an epoch.


def random_sizes(rng):
  rows = int(rng.integers(1, 60))
  options = [(32, 64), (8, 16, 24), (0, 4, 8)]
  columns = [rng.choice(o[: rng.integers(1, 4)], rows) for o in options]
  return np.stack(columns, axis=1)


@pytest.mark.parametrize("seed", range(40))
def test_every_row_comes_once_an_epoch_in_a_bucket_that_holds_it(seed):
  rng = np.random.default_rng(seed)
  sizes, group = random_sizes(rng), int(rng.integers(1, 9))
  epochs = [
    batches.plan(sizes, group=group, seed=seed, epoch=e) for e in range(3)
  ]
  assert len({len(plan) for plan in epochs}) == 1
  for plan in epochs:
    rows = np.concatenate([rows for _, rows in plan])
    np.testing.assert_array_equal(
      np.sort(rows[rows != FILLER]), np.arange(len(sizes))
    )
    for bucket, rows in plan:
      real = rows[rows != FILLER]
      assert len(rows) == group and len(real) > 0
      assert (rows[: len(real)] == real).all()  # filler stands at the end
      assert (sizes[real] <= bucket).all()
      assert ((sizes[real, 2] > 0) == (bucket[2] > 0)).all()


def test_few_updates_are_partly_filled():
  sizes = np.array([[32, r, 8] for r in (8, 16, 24) for _ in range(7)])
  plan = batches.plan(sizes, group=5, seed=0, epoch=0)
  assert len(plan) == 5  # 21 rows: four whole updates and a rest of one
  assert sorted((rows != FILLER).sum() for _, rows in plan) == [1, 5, 5, 5, 5]


def test_epochs_and_seeds_shuffle_rows_and_updates():
  sizes = np.full((64, 3), 8)
  plans = [
    batches.plan(sizes, group=4, seed=s, epoch=e)
    for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))
  ]
  order = [np.concatenate([rows for _, rows in p]).tolist() for p in plans]
  assert order[0] == order[3] and len({str(o) for o in order}) == 3
  assert sorted(order[0][:4]) != [0, 1, 2, 3]
  many = np.array([[32, 8, 4]] * 64 + [[32, 16, 4]] * 64)
  plan = batches.plan(many, group=4, seed=0, epoch=0)
  kinds = [bucket for bucket, _ in plan]
  assert kinds != sorted(kinds)


def test_rounding_up():
  lengths = np.array([0, 1, 31, 32, 33])
  np.testing.assert_array_equal(
    batches.round_up(lengths, 32), [0, 32, 32, 32, 64]
  )
  np.testing.assert_array_equal(
    batches.round_up(lengths, (16, 40)), [16, 16, 40, 40, 40]
  )
  with pytest.raises(ValueError, match="no bucket of \\[16, 32\\] holds 33"):
    batches.round_up(lengths, (16, 32))


# ---- The arrays of an update.


def made_rows(rng, count, captions=2):
  """Rows of random tokens; odd rows have no video."""
  prefix = [rng.integers(1, 99, rng.integers(3, 20)) for _ in range(count)]
  answers = [
    rng.integers(1, 99, rng.integers(2, 12)) for _ in range(count * captions)
  ]
  video_of = np.where(np.arange(count) % 2, -1, rng.integers(0, 3, count))
  return batches.Rows(
    batches.ragged([p.tolist() for p in prefix]),
    batches.ragged([a.tolist() for a in answers]),
    pair=rng.permutation(100)[:count],
    video=video_of,
    frames=np.where(video_of >= 0, video_of + 1, 0),
    captions=captions,
  )


def visual(number):
  """Video 0, 1, 2 has 1, 2, 3 frames, all pixels of frame f 10 n + f + 1."""
  shade = 10 * number + np.arange(1, number + 2)
  return np.tile(shade[:, None, None, None], (1, 2, 3, 3)).astype(np.uint8)


def make_batches(rows, index=0, count=1, batch_size=4, accumulation=2):
  sizes = batches.bucket_sizes(rows, 16, (8, 12), (2, 4))
  return batches.Batches(
    rows,
    sizes,
    visual,
    visual_key="frames",
    batch_size=batch_size,
    accumulation=accumulation,
    epochs=2,
    seed=3,
    process_index=index,
    process_count=count,
  )


@pytest.mark.parametrize("captions", [1, 2])
def test_arrays_hold_each_row_padded_on_its_side(captions):
  rows = made_rows(np.random.default_rng(0), 21, captions)
  at = {int(pair): row for row, pair in enumerate(rows.pair)}
  source, seen = make_batches(rows), Counter()
  for i in range(len(source)):
    batch = source[i]
    for a, b in np.ndindex(batch["row"].shape):
      if batch["row"][a, b] == FILLER:
        assert batch["weight"][a, b] == 0
        assert batch["prefix_mask"][a, b].any()  # a real pair, for finiteness
        assert batch["response_mask"][a, b].any(axis=-1).all()
        continue
      row = at[int(batch["row"][a, b])]
      seen[row] += 1
      assert batch["weight"][a, b] == 1
      P = batch["prefix"].shape[-1]
      ids = list(rows.prefix[row])
      assert batch["prefix"][a, b].tolist() == [0] * (P - len(ids)) + ids
      assert batch["prefix_mask"][a, b].tolist() == [
        p >= P - len(ids) for p in range(P)
      ]
      for c in range(captions):
        ids = list(rows.response[row * captions + c])
        R = batch["response"].shape[-1]
        padded = ids + [0] * (R - len(ids))
        assert batch["response"][a, b, c].tolist() == padded
        mask = batch["response_mask"][a, b, c].tolist()
        assert mask == [r < len(ids) for r in range(R)]
      number = int(rows.video[row])
      if number < 0:
        assert "frames" not in batch
        continue
      frames = batch["frames"][a, b]
      np.testing.assert_array_equal(frames[: number + 1], visual(number))
      assert not frames[number + 1 :].any()
  assert seen == {row: 2 for row in range(21)}  # two epochs


def test_types_and_axes():
  batch = make_batches(made_rows(np.random.default_rng(1), 9))[0]
  kinds = {name: str(array.dtype) for name, array in batch.items()}
  frames = kinds.pop("frames", "uint8")
  assert frames == "uint8"
  assert kinds == {
    "prefix": "int32",
    "prefix_mask": "bool",
    "response": "int32",
    "response_mask": "bool",
    "weight": "float32",
    "row": "int32",
  }
  assert all(array.shape[:2] == (2, 4) for array in batch.values())


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_hold_the_batch_of_one(processes):
  rows = made_rows(np.random.default_rng(2), 21)
  whole = make_batches(rows)
  parts = [make_batches(rows, p, processes) for p in range(processes)]
  assert len({len(part) for part in (whole, *parts)}) == 1
  for i in range(len(whole)):
    split = [part[i] for part in parts]
    for name, array in whole[i].items():
      joined = np.concatenate([s[name] for s in split], axis=1)
      np.testing.assert_array_equal(joined, array)


def test_a_process_reads_only_its_own_videos():
  rows, asked = made_rows(np.random.default_rng(2), 20), []
  part = make_batches(rows, 0, 4)
  part.visual = lambda number: asked.append(number) or visual(number)
  for i in range(part.per_epoch):
    asked.clear()
    part[i]
    assert len(asked) in (0, 2)  # one pair in each of two micro-batches


def test_a_batch_that_does_not_split_is_refused():
  rows = made_rows(np.random.default_rng(0), 5)
  with pytest.raises(ValueError, match="batch_size=4 must be a multiple of"):
    make_batches(rows, 0, 3)


# ---- Tokens, and captions that do not fit.


def fitted(llama, caption_pairs, blocks=(4,), captions=2, **limits):
  pairs = [
    Pair(str(i), None, "Q", (), chosen, rejected, None, None)
    for i, (chosen, rejected) in enumerate(caption_pairs)
  ]
  settings = dict(max_len=10_000, prefix=None, response=None, too_long="drop")
  return tokens.tokenise(
    pairs,
    [0] * len(pairs),
    [2] * len(pairs),
    tokenizer=llama,
    template="aurora",
    blocks=lambda frames: list(blocks) * frames,
    captions=captions,
    limits=tokens.Limits(**settings | limits),
  )


def test_rows_hold_prompt_chosen_and_rejected(llama):
  rows, counts = fitted(llama, [("aaa", "bb"), ("c", "dddd")])
  assert not counts and rows.pair.tolist() == [0, 1]
  prompt = text.prompt_ids(llama, "aurora", "Q", blocks=[4, 4])
  assert rows.prefix[0].tolist() == rows.prefix[1].tolist() == prompt
  expected = text.response_ids(llama, ["aaa", "bb", "c", "dddd"], 2)
  assert [rows.response[i].tolist() for i in range(4)] == expected
  single, _ = fitted(llama, [("aaa", None)], captions=1)
  assert single.response.lengths().tolist() == [len(expected[0])]


def test_long_captions_are_dropped_and_counted(llama):
  prompt = len(text.prompt_ids(llama, "aurora", "Q", blocks=[4, 4]))
  # "aaa" is 5 tokens: the leading space, three letters, the end.
  rows, counts = fitted(
    llama, [("aaa", "b"), ("aaaa", "b"), ("a", "bbbb")], max_len=prompt + 5
  )
  assert rows.pair.tolist() == [0]
  assert counts == {tokens.CAPTION_TOO_LONG: 2}
  rows, counts = fitted(llama, [("aaa", "b"), ("aaaa", "b")], response=5)
  assert rows.pair.tolist() == [0] and counts == {tokens.CAPTION_TOO_LONG: 1}


def test_long_captions_are_shortened_and_still_end(llama):
  rows, counts = fitted(
    llama,
    [("abcdef", "x"), ("abcdef", "ghijkl"), ("aaaz", "aaay"), ("a", "b")],
    response=5,
    too_long="shorten",
  )
  assert rows.pair.tolist() == [0, 1, 3]
  assert counts == {tokens.SHORTENED: 3, tokens.ALIKE: 1}
  whole = text.response_ids(llama, ["abcdef"], 2)[0]
  assert rows.response[0].tolist() == [*whole[:4], 2]


@pytest.mark.parametrize("too_long", ["drop", "shorten"])
def test_visual_tokens_are_never_cut(llama, too_long):
  prompt = len(text.prompt_ids(llama, "aurora", "Q", blocks=[4, 4]))
  for limits in (dict(max_len=prompt + 1), dict(prefix=prompt - 1)):
    rows, counts = fitted(llama, [("a", "b")], too_long=too_long, **limits)
    assert len(rows.pair) == 0
    assert counts == {tokens.PROMPT_TOO_LONG: 1}
  with pytest.raises(ValueError, match="too_long='cut': choose drop or"):
    fitted(llama, [("a", "b")], too_long="cut")


# ---- From files to a stream that resumes.


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


def make(files, llama, **changed):
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
    frame_buckets=(2, 4),
    batch_size=4,
    accumulation=1,
    workers=0,
  )
  return pipeline.make(
    pipeline.Settings(**settings | changed),
    rule=RULE,
    how=HOW,
    tokenizer=llama,
    blocks=lambda frames: [3] * frames,
    captions=2,
    epochs=2,
    seed=0,
  )


@pytest.fixture(scope="module")
def data(files, llama):
  return make(files, llama)


def test_files_become_batches_and_every_loss_is_counted(data):
  # Rows 4, 11, 18, 25 name the broken video, 5, 12, 19, 26 the missing one.
  assert data.counts["rows read"] == 30
  assert data.counts["dropped: score gap too small"] == 1
  assert data.counts["dropped: video quarantined"] == 8
  assert data.counts["rows used"] == 21
  line = pipeline.summary(data.counts)
  assert "2 videos quarantined (see " in line and " 0 " not in line
  assert data.updates == 2 * data.updates_per_epoch
  for i in range(data.updates):
    batch = data.batches[i]
    for a, b in np.ndindex(batch["row"].shape):
      pair = data.pairs[batch["row"][a, b]]
      if batch["row"][a, b] == FILLER:
        continue
      visual_tokens = (batch["prefix"][a, b] == IMAGE).sum()
      if pair.video is None:
        assert visual_tokens == 0 and "frames" not in batch
        continue
      seconds = int(pair.video[1])  # one frame a second
      assert visual_tokens == 3 * seconds
      shown = clips.numbers(batch["frames"][a, b])
      expected = np.trunc(np.linspace(0, 5 * seconds - 1, seconds))
      assert shown[:seconds] == expected.tolist()


def same(batch, other):
  assert batch.keys() == other.keys()
  for name, array in batch.items():
    np.testing.assert_array_equal(array, other[name])


def test_a_stream_resumes_at_every_step(data):
  whole = list(pipeline.Stream(data.batches, 0))
  assert len(whole) == data.updates
  for step in range(data.updates + 1):
    stopped = pipeline.Stream(data.batches, 0)
    for _ in range(step):
      next(stopped)
    state = json.loads(json.dumps(stopped.get_state()))
    stopped.close()
    resumed = pipeline.Stream(data.batches, 0)
    resumed.set_state(state)
    rest = list(resumed)
    assert len(rest) == data.updates - step
    for batch, other in zip(whole[step:], rest, strict=True):
      same(batch, other)


def test_worker_processes_give_the_same_batches_and_may_change(data):
  whole = list(pipeline.Stream(data.batches, 0))
  stream = pipeline.Stream(data.batches, 2)
  for i in range(5):
    same(next(stream), whole[i])
  state = stream.get_state()
  stream.close()
  alone = pipeline.Stream(data.batches, 0)
  alone.set_state(state)
  same(next(alone), whole[5])


def test_cached_features_take_the_place_of_frames(data):
  def features(number):
    shape = (data.frames.count(number), 3, 5)
    return np.full(shape, number + 1, ml_dtypes.bfloat16)

  swapped = pipeline.with_features(data, features)
  assert data.batches.visual_key == "frames"
  for i in range(swapped.updates_per_epoch):
    batch, original = swapped.batches[i], data.batches[i]
    assert ("features" in batch) == ("frames" in original)
    assert "frames" not in batch
    if "features" not in batch:
      continue
    assert batch["features"].dtype == ml_dtypes.bfloat16
    F = original["frames"].shape[2]
    assert batch["features"].shape[2:] == (F, 3, 5)
    kept = (batch["features"] > 0).any(axis=(3, 4))
    # Filler repeats the first row, frames included.
    np.testing.assert_array_equal(
      kept, original["frames"].reshape(*kept.shape, -1).any(axis=-1)
    )


def test_text_alone_needs_no_videos(tmp_path, llama):
  row = {"question": "Q", "chosen": "a", "rejected": "b"}
  (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
  data = make(tmp_path, llama, videos="/nowhere", min_score_gap=None)
  assert data.frames is None and "frames" not in data.batches[0]
  assert data.batches[0]["weight"].tolist() == [[1, 0, 0, 0]]


def test_no_row_left_says_why(files, llama):
  with pytest.raises(ValueError, match="no row can be used .*no room"):
    make(files, llama, max_len=8)
