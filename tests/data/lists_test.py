"""Rows of captions and scores: read, ordered, padded, or refused by name."""

import json

import numpy as np
import pytest

from synpo_jax.data import accounts, lists, pairs, text, tokens
from tests.support import text_update, tokenizers_made

ROW = {"id": "a", "question": "What?", "captions": ["A.", "B.", "C."]}
ROW |= {"scores": [2, 9.5, 2]}


@pytest.fixture
def read(tmp_path):
  def of(*rows, captions=lists.MOST, **how):
    path = tmp_path / "lists.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return pairs.read_pairs(path, captions=captions, **how)

  return of


def test_a_list_is_told_by_its_columns_and_ordered(read):
  found = read(ROW)
  (pair,) = found.pairs
  assert pair.listed == (("B.", "A.", "C."), (9.5, 2.0, 2.0))
  assert (pair.chosen, pair.rejected) == ("B.", "A.")  # the first as bad
  assert list(found.forms) == [lists.FORM]


def test_a_loss_of_pairs_reads_best_and_worst(read):
  """And plain fine-tuning the best; neither needs scores that differ less."""
  (pair,) = read(ROW, captions=2, min_score_gap=4.0).pairs
  assert (pair.chosen, pair.chosen_score) == ("B.", 9.5)
  assert (pair.rejected, pair.rejected_score) == ("A.", 2.0)
  (alone,) = read(ROW, captions=1).pairs
  assert (alone.chosen, alone.rejected) == ("B.", None)


def test_what_is_left_of_lists_is_said(read):
  found = read(ROW)
  (line,) = accounts.of_lists(found, 2)
  assert "of each list the best and the worst caption alone; loss.all_" in line
  assert "the best caption alone" in accounts.of_lists(found, 1)[0]
  assert accounts.of_lists(found, lists.MOST) == []


def test_a_pair_with_scores_is_a_list_of_two(read):
  row = {"question": "What?", "chosen": "A.", "rejected": "B."}
  row |= {"chosen_score": 7, "rejected_score": 6.5}
  (pair,) = read(row).pairs
  assert pair.listed == (("A.", "B."), (7.0, 6.5))


def test_captions_beside_a_pair_are_provenance(read):
  row = {"question": "What?", "chosen": "A.", "rejected": "B."}
  (pair,) = read(row | {"captions": ["A.", "B."]}, captions=2).pairs
  assert pair.listed is None


def test_lists_too_near_are_left_out_and_ties_said(read):
  near = ROW | {"id": "b", "scores": [5, 5, 5]}
  found = read(ROW, near, min_score_gap=4.0)
  assert [pair.id for pair in found.below_gap] == ["b"]
  with pytest.raises(ValueError, match="lists.jsonl:2: all scores are 5, so"):
    read(ROW, near)


@pytest.mark.parametrize(
  "changed, said",
  [
    ({"captions": ["A."], "scores": [1]}, "'captions' holds 1; .* 2 to 16"),
    (
      {"captions": list("abcdefghijklmnopq"), "scores": [*range(17)]},
      "'captions' holds 17; a row has 2 to 16",
    ),
    ({"scores": [1, 2]}, "'captions' holds 3, 'scores' 2"),
    ({"scores": None}, "lacks 'scores'"),
    ({"captions": None}, "lacks 'captions'"),
    ({"scores": "1 2 3"}, "'scores' is a str, not a list"),
    ({"scores": [1, "2", 3]}, r"'scores\[1\]' is '2', not a finite number"),
    ({"scores": [1, float("nan"), 3]}, r"'scores\[1\]' is nan, not a finite"),
    ({"scores": [1, 2, float("inf")]}, r"'scores\[2\]' is inf, not a finite"),
    ({"scores": [True, 2, 3]}, r"'scores\[0\]' is True, not a finite"),
    ({"scores": [1, 2, None]}, r"'scores\[2\]' is None, not a finite"),
    ({"scores": [1, 2, 1e300]}, r"'scores\[2\]' is 1e\+300, .* to 1e\+30"),
    ({"captions": ["A.", " ", "C."]}, r"'captions\[1\]' is empty"),
    ({"captions": ["A.", ["B."], "C."]}, r"'captions\[1\]' is a list, not t"),
    ({"captions": ["A.", "B.", "A. "]}, r"'captions\[0\]' and 'captions\[2\]'"),
    ({"chosen": "A."}, "'chosen' stands beside 'captions' and 'scores'"),
    ({"question": None}, "lacks 'question'"),
  ],
)
def test_what_cannot_be_used_is_refused_by_row_and_field(read, changed, said):
  row = {k: v for k, v in (ROW | changed).items() if v is not None}
  with pytest.raises(ValueError, match=f"lists.jsonl:2: {said}") as error:
    read(ROW | {"id": "z"}, row)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "changed, said",
  [
    ({}, "lacks 'chosen_score', by which the loss orders captions"),
    (
      {"chosen_score": 1, "rejected_score": 2},
      "'chosen_score' 1 is below 'r",
    ),
    ({"chosen_score": 1, "rejected_score": 1}, "all scores are 1, so no"),
  ],
)
def test_a_pair_that_is_no_list_is_refused(read, changed, said):
  row = {"question": "What?", "chosen": "A.", "rejected": "B."} | changed
  with pytest.raises(ValueError, match=f":1: {said}"):
    read(row)


@pytest.fixture(scope="module")
def llama():
  return tokenizers_made.llama()


def batch_of(tmp_path, llama, *rows, **settings):
  given = tmp_path / "rows.jsonl", llama, lists.MOST, rows
  made = text_update.data(*given, template="aurora", **settings)
  return made.batches[0], made


def test_short_lists_end_with_captions_of_no_token(tmp_path, llama):
  two = {"question": "Q", "captions": ["d", "e"], "scores": [-1, 5.5]}
  batch, made = batch_of(tmp_path, llama, ROW | {"question": "Q"}, two)
  assert batch.response.shape == (1, 2, 3, 16)
  names = [made.pairs[n].id for n in batch.row[0]]
  first, second = names.index("a"), 1 - names.index("a")
  np.testing.assert_array_equal(batch.scores[0, first], [7.5, 0, 0])
  np.testing.assert_array_equal(batch.scores[0, second], [6.5, 0, 0])
  assert batch.response_mask[0, second].any(-1).tolist() == [True, True, False]
  ids = text.response_ids(llama, ["B.", "A.", "C.", "e", "d"], 2)
  held = [
    batch.response[0, b, c][batch.response_mask[0, b, c]].tolist()
    for b, c in [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]
  ]
  assert held == ids


def test_captions_that_do_not_fit_leave_the_rest_of_their_list(tmp_path, llama):
  """Too long, or the same but for spaces: the best of them stays."""
  long = {"question": "Q", "captions": ["a" * 40, "b", "c  d", "c d"]}
  long |= {"scores": [9, 5, 6, 7]}
  lost = {"question": "Q", "captions": ["a" * 40, "b"], "scores": [9, 5]}
  batch, made = batch_of(tmp_path, llama, long, lost, batch_size=1)
  assert batch.scores.tolist() == [[[2.0, 0.0]]]
  assert made.counts[tokens.LEFT_OUT] == 2 and made.counts[tokens.FEW] == 1
  kept = text.response_ids(llama, ["c d", "b"], 2)
  assert [x[x > 0].tolist() for x in batch.response[0, 0]] == kept
  cut, made = batch_of(tmp_path, llama, lost, too_long="shorten")
  assert cut.scores.tolist() == [[[4.0, 0.0]]]
  assert made.counts[tokens.SHORTENED] == 1


def test_a_gap_that_is_lost_with_the_best_leaves_the_row_out(tmp_path, llama):
  row = {"question": "Q", "captions": ["a" * 40, "b", "c"], "scores": [9, 5, 4]}
  other = {"question": "Q", "captions": ["b", "c"], "scores": [9, 4]}
  _, made = batch_of(tmp_path, llama, row, other, min_score_gap=4.0)
  assert made.counts[tokens.FEW] == 1 and made.counts["rows used"] == 1
