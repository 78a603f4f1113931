"""What a report says of pairs whose faults are planted, and of fair ones."""

import json
import random

import numpy as np
import pytest

from synpo_jax.data.rows import Pair
from synpo_jax.pairing import copies, separable, worth

WORDS = (
  "red blue box ball dog cat door tree road rolls turns runs waits".split()
)


def pair(number, chosen, rejected, video=None):
  video = f"v{number}.mp4" if video is None else video
  return Pair(str(number), video, "What?", (), chosen, rejected, None, None)


def text(rng, count):
  return " ".join(rng.choices(WORDS, k=count))


def drawn(seed, count=400):
  """Pairs that nothing tells apart."""
  rng = random.Random(seed)
  lengths = [rng.randrange(20, 40) for _ in range(2 * count)]
  texts = [f"{text(rng, 6)}. {text(rng, n)}." for n in lengths]
  return [pair(n, *texts[2 * n : 2 * n + 2]) for n in range(count)]


@pytest.fixture(scope="module")
def fair():
  return drawn(0)


def test_nothing_is_found_where_there_is_nothing(fair):
  report = worth.look(fair)
  least = 0.5 - 3 * report["standard_error"]
  assert report["standard_error"] == 0.025
  for found in (
    report["by_length"]["pairs"],
    report["by_length"]["captions"],
    report["by_first_sentence"]["pairs"],
  ):
    assert least < found < 1 - least  # not learnt from what it is asked
  assert report["copies"] == {"exact": 0, "near": 0, "alike": 0}
  assert report["next"].startswith("Train: ")
  json.dumps(report)


def test_length_alone_is_told_and_which_way(fair):
  """Nine of ten chosen captions lack their last third."""
  short = [
    x._replace(chosen=x.rejected[: len(x.rejected) * 2 // 3]) if n % 10 else x
    for n, x in enumerate(fair)
  ]
  report = worth.look(short)
  found = report["by_length"]
  assert found["chosen_is"] == "shorter" and 0.93 < found["pairs"] < 0.97
  assert report["length"]["chosen_shorter"] == pytest.approx(
    np.mean([len(x.chosen.split()) < len(x.rejected.split()) for x in short])
  )
  assert "The shorter caption is the chosen one in 9" in report["next"]
  wide = [x._replace(rejected=f"{x.chosen} {x.chosen}") for x in fair]
  assert worth.look(wide)["by_length"]["captions"] > 0.99


def test_the_best_threshold_parts_what_two_lengths_can():
  lengths = np.array([[5, 3], [6, 4], [9, 5], [3, 2]])
  assert separable._threshold(lengths) == (5, True)  # 7 of 8 on their side
  assert separable._threshold(lengths[:, ::-1]) == (5, False)


def test_first_sentences_are_told_by_words_of_other_videos(fair):
  marked = [
    x._replace(rejected=f"Sorry, {x.rejected}") if n % 5 else x
    for n, x in enumerate(fair)
  ]
  report = worth.look(marked)
  found = report["by_first_sentence"]
  assert 0.86 < found["pairs"] < 0.95  # 4 of 5, and half of the fifth
  assert "sorry" in found["rejected_words"][:2]
  assert "First sentences alone tell 9" in report["next"] or (
    "First sentences alone tell 8" in report["next"]
  )
  one = [x._replace(video="v.mp4") for x in marked]
  assert worth.look(one)["by_first_sentence"] is None
  assert "of one video" in worth.look(one)["next"]


def test_later_sentences_are_not_first_ones(fair):
  marked = [x._replace(rejected=f"{x.rejected} Sorry.") for x in fair]
  assert worth.look(marked)["by_first_sentence"]["pairs"] < 0.6


def test_copies_are_named(fair):
  rows = fair[:40]
  words = rows[3].chosen.split()
  words[9] = "yellow"
  rows += [
    pair(100, rows[0].chosen.upper(), rows[0].rejected + "!", "v0.mp4"),
    pair(101, rows[0].chosen, rows[0].rejected),  # of another video
    pair(102, " ".join(words), rows[3].rejected, "v3.mp4"),
    pair(103, rows[5].rejected, rows[5].chosen),  # swapped is another row
    pair(104, rows[6].chosen, rows[6].chosen + " Red."),
  ]
  found = copies.find(rows)
  assert found["exact"] == ["100"]
  assert found["near"] == ["101", "102"]
  assert found["alike"] == ["104"]
  report = worth.look(rows[:5] + rows[-5:-2])
  assert report["copied"]["near"] == ["101", "102"]
  assert report["next"].startswith("3 of 8 rows copy others")


def test_runs_are_compared_as_sets():
  """Six words have four runs of three; a changed last word leaves three."""
  one, other = copies.runs("a b c d e f"), copies.runs("a b c d e g")
  assert len(one) == 4 and copies.shared(one, other) == 3 / 5
  assert copies.shared(copies.runs("a"), copies.runs("a")) == 1.0


def test_ranking_counts_what_is_won():
  """By hand: S is 0.5 against 0.4, 0.42, 0.5 and 0.6 with 2 and 4 tokens."""
  S = np.array([[0.5, 0.4], [0.5, 0.42], [0.5, 0.49], [0.5, 0.6]])
  lengths = np.array([[2.0, 4.0]] * 4)
  found = worth.rank(np.log(S) * lengths, lengths)
  assert (found["accuracy"], found["summed"]) == (0.75, 1.0)
  assert (found["won"], found["lost"]) == (0.5, 0.25)  # 0.953, 0.917, 0.574
  np.testing.assert_allclose(found["margins"][1], 0.045, atol=1e-6)
  report = worth.look(drawn(1), ranking=found)
  assert "The model has won 50% already" in report["next"]
  assert "ranks 75% of 4 right" in " ".join(worth.sentences(report))
  assert report["next"] in worth.section(report)
