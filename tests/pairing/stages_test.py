import itertools
import json
import os

import numpy as np
import pytest

from synpo_jax.data import sources
from synpo_jax.judging.replies import Unreadable
from synpo_jax.pairing import choose, criteria, segments, words

# Segments


@pytest.mark.parametrize(
  ("duration", "count"),
  [
    (5, 2),
    (9.99, 2),
    (10, 2),
    (20, 3),
    (95, 10),
    (149, 15),
    (150, 16),
    (999, 16),
  ],
)
def test_the_number_of_segments_is_the_release_s(duration, count):
  assert len(segments.segments(float(duration), 10_000)) == count


def test_segments_cover_every_frame_once():
  for duration, total in itertools.product((0.1, 15.0, 400.0), range(1, 70)):
    ranges = segments.segments(duration, total)
    frames = [i for a, b in ranges for i in range(a, b)]
    assert frames == list(range(total))
    assert all(a < b for a, b in ranges)


def test_frames_of_a_segment_stay_inside_it():
  picks = segments.sample([(0, 3), (3, 30)], 8)
  assert picks.shape == (2, 8)
  assert picks[0].min() == 0 and picks[0].max() == 2
  assert picks[1].tolist() == np.linspace(3, 29, 8).astype(int).tolist()


# What a judge is asked and how it is understood


def asked(captions, notes=("It is red.",)):
  found = criteria.requests("v", "What?", list(captions), list(notes))
  return {request.id[1:]: request for request in found}


def test_every_candidate_is_asked_about_by_itself_and_all_together():
  found = asked(["One {brace}.", "  ", "Three."])
  assert found.keys() == {
    ("factuality", 0),
    ("factuality", 2),
    ("fluency", 0),
    ("fluency", 2),
    ("consistency", None),
  }
  text = found["factuality", 0].messages[0]["content"]
  assert "1. It is red." in text and "One {brace}." in text
  assert "It is red." not in found["fluency", 0].messages[0]["content"]
  shape = found["consistency", None].schema["properties"]["scores"]
  assert shape["required"] == ["1", "2"] and not shape["additionalProperties"]
  assert found["consistency", None].parse(
    '{"scores": [{"caption": 2, "score": 1}, {"caption": 1, "score": 3}]}'
  ) == {0: 3, 2: 1}


def test_nothing_is_asked_where_nothing_could_be_judged():
  assert not asked(["One.", "Two."], notes=())
  assert not asked([" ", ""])


@pytest.mark.parametrize(
  "reply",
  [
    '{"reason": "x", "scores": [{"caption": 1, "score": 3},'
    ' {"caption": 2, "score": 0}]}',
    "{'scores': {'2': 0, '1': '3'}}",
    '{"caption 2": 0, "caption 1": 3}',
    '{"score1": 3, "score_2": {"score": 0, "reason": "an outlier"}}',
    '```json\n{"reason": "x", "scores": {"Caption 1": 3.0, "#2": 0}}\n```',
  ],
)
def test_consistency_is_read_by_caption_number(reply):
  assert criteria.read_scores(reply, [0, 1]) == {0: 3, 1: 0}


@pytest.mark.parametrize(
  ("reply", "fault"),
  [
    ('{"scores": [{"caption": 1, "score": 3}]}', "1 of 2 captions"),
    ('{"1": 1, "2": 1, "3": 1}', "no caption 3"),
    ('{"0": 1, "1": 1}', "no caption 0"),
    ('{"1": 1, "caption 1": 1}', "scored twice"),
    ('{"1": 1, "2": 4}', "outside 0 to 3"),
    ('{"scores": [3, 0]}', "without caption numbers"),
    ('{"scores": "3, 0"}', "not a list"),
    ('{"scores": [{"score": 3}, {"score": 0}]}', "no caption number"),
    ('{"reason": "none"}', "0 of 2 captions"),
  ],
)
def test_other_replies_about_consistency_are_refused(reply, fault):
  with pytest.raises(Unreadable, match=fault):
    criteria.read_scores(reply, [0, 1])


# Choosing


def pick(captions, scores, negative="worst", target_gap=None):
  rule = choose.WORST._replace(negative=negative, target_gap=target_gap)
  return choose.choose(captions, scores, rule)


def test_scores_are_weighed_and_missing_ones_stay_missing():
  judgement = {
    "factuality": [5, None, 2.5, 0],
    "fluency": [5, 5, 1, 0],
    "consistency": [3, 3, 0.25, 0],
  }
  got = choose.totals(judgement, ["a", "b", "c", " "])
  assert got == [13.5, None, 4.0, None]


TOO_FEW = "fewer than two judged candidates"
NO_SECOND = "no second worst candidate"


@pytest.mark.parametrize(
  ("scores", "negative", "gap", "wanted"),
  [
    ([5.0, 9.0, 1.0, 9.0], "worst", None, (1, 2)),  # first of the best
    ([1.0, 9.0, 1.0, 5.0], "worst", None, (1, 0)),  # first of the worst
    ([1.0, 9.0, 1.0, 5.0], "second_worst", None, (1, 2)),  # not the worst again
    ([1.0, 9.0, 3.0, 5.0], "second_worst", None, (1, 2)),
    ([1.0, 9.0, 3.0, 5.0], "gap", 4.0, (1, 3)),
    ([1.0, 9.0, 3.0, 5.0], "gap", 5.0, (1, 2)),  # the earlier on ties
    ([1.0, 9.0, 9.0, 9.0], "gap", 0.0, (1, 0)),  # never an equal score
    ([None, 9.0, None, 5.0], "worst", None, (1, 3)),
    (
      [None, 9.0, None, None],
      "worst",
      None,
      "fewer than two judged candidates",
    ),
    ([None] * 4, "worst", None, "fewer than two judged candidates"),
    ([None, 9.0, None, 5.0], "second_worst", None, "no second worst candidate"),
    ([7.0] * 4, "worst", None, "equal scores"),
  ],
)
def test_the_pair_follows_the_rule(scores, negative, gap, wanted):
  assert pick(["a", "b", "c", "d"], scores, negative, gap) == wanted


def test_a_pair_has_two_different_captions():
  assert pick(["A  cat.", "a cat."], [9.0, 1.0]) == "same words"
  assert pick(["A cat.", "a  cat.", "b"], [9.0, 1.0, 5.0]) == (0, 2)


@pytest.mark.parametrize(
  "rule, said",
  [
    (dict(negative="best"), "pairs.negative='best': choose one of worst"),
    (dict(negative="gap"), "target_gap=None with negative=gap: that takes t"),
    (dict(target_gap=3.0), "target_gap=3.0 with negative=worst.*takes none"),
    (dict(negative="length", least_gap=1.0), "tolerance=None .*takes least_g"),
    (dict(negative="quantile", quantiles=(0.1, 0.9)), "quantiles: .chosen, re"),
    (dict(negative="quantile", quantiles=(0.9, 0.9)), "two different numbers"),
    (dict(negative="quantile", quantiles=(1.1, 0.0)), "from 0 to 1"),
    (dict(negative="quantile", quantiles=(0.9,)), "pairs.quantiles"),
    (dict(negative="length", least_gap=-1.0, tolerance=0.1), "least_gap=-1.0"),
  ],
)
def test_a_rule_that_is_none_is_refused(rule, said):
  with pytest.raises(ValueError, match=said) as error:
    choose.check(choose.WORST._replace(**rule))
  assert "\n" not in str(error.value)


SCORES = [3.0, 11.0, 7.0, 11.0, 1.0, 7.0, 9.0]  # worst first: 4 0 2 5 6 1 3


@pytest.mark.parametrize(
  ("quantiles", "wanted"),
  [
    ((1.0, 0.0), (1, 4)),  # as the worst
    ((0.9, 0.1), (3, 0)),  # places 1 from the top, 1 from below
    ((0.5, 0.45), "equal scores"),
    ((0.6, 0.0), (6, 4)),  # 0.4 of six steps down from the best: two
    ((0.6, 0.59), "one candidate at both quantiles"),
  ],
)
def test_both_captions_stand_at_quantiles_of_the_scores(quantiles, wanted):
  rule = choose.WORST._replace(negative="quantile", quantiles=quantiles)
  choose.check(rule)
  found = choose.choose(list("abcdefg"), SCORES, rule)
  assert found == wanted


@pytest.mark.parametrize(
  ("least_gap", "tolerance", "wanted"),
  [
    (1.0, 0.0, (1, 3)),  # five words and a mark, as the chosen
    (3.0, 0.2, (1, 4)),  # one of 6 tokens off; the lower of two such
    (3.0, 0.1, choose.OTHER_LENGTHS),
    (9.0, 1.0, choose.NONE_BELOW),
  ],
)
def test_the_rejected_caption_is_as_long_as_the_chosen(
  least_gap, tolerance, wanted
):
  captions = ["One two three four five six seven eight."]
  captions += ["A red ball rolls left.", "A box turns slowly."]
  captions += ["Then the blue box turns.", "One box turns twice."]
  rule = choose.WORST._replace(
    negative="length", least_gap=least_gap, tolerance=tolerance
  )
  choose.check(rule)
  scores = [1.0, 9.0, 6.0, 8.0, 5.0]
  assert choose.choose(captions, scores, rule) == wanted


def test_words_and_first_sentences():
  assert words.split("It's RED, twice.") == [*"it ' s red , twice .".split()]
  assert words.first_sentence(" A dog. It runs.") == "A dog."
  assert words.first_sentence("3.5 m wide\nand tall") == "3.5 m wide"


# Sources


def test_videos_are_found_in_every_way_and_once(tmp_path):
  root, listing = tmp_path / "root", tmp_path / "list.jsonl"
  (root / "deep").mkdir(parents=True)
  for name in ("broken", *(f"v{i}" for i in range(6))):
    (root / "deep" / f"{name}.mp4").touch()
  (root / "notes.txt").write_text("no video")
  rows = [{"video": "deep/v2.mp4"}, {"video_name": "deep/v0.mp4"}]
  listing.write_text("\n\n".join(map(json.dumps, rows)))

  def names(wanted):
    return [source.id for source in sources.find(wanted, root)]

  everything = ["deep/broken.mp4"] + [f"deep/v{i}.mp4" for i in range(6)]
  assert names(".") == names("deep") == names("**/*.mp4") == everything
  assert names("deep/v[12].mp4,deep/v1.mp4") == ["deep/v1.mp4", "deep/v2.mp4"]
  assert names(str(listing)) == ["deep/v2.mp4", "deep/v0.mp4"]
  for wanted in ("nowhere/*.mp4", "notes", ""):
    with pytest.raises(FileNotFoundError, match="no such video"):
      names(wanted)


def test_names_that_look_like_patterns_and_names_that_are_no_text(tmp_path):
  root = tmp_path / "take [1]"
  root.mkdir()
  (root / "a.mp4").touch()
  assert [source.id for source in sources.find("*.mp4", root)] == ["a.mp4"]
  (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
  with pytest.raises(ValueError, match="must be UTF-8; rename it"):
    sources.find(".", tmp_path)
