"""Pairs as tokens, and captions that do not fit."""

import pytest
from tokenizers import normalizers

from synpo_jax.data import text, tokens
from synpo_jax.data.pairs import Pair
from tests.support import tokenizers_made


@pytest.fixture(scope="module")
def llama():
  return tokenizers_made.llama()


def fitted(llama, caption_pairs, **how):
  """Rows and counts; that these are of what was dropped is checked."""
  rows, counts, dropped = tokenised(llama, caption_pairs, **how)
  assert sum(counts.values()) - counts[tokens.SHORTENED] == len(dropped)
  assert len(rows.pair) + len(dropped) == len(caption_pairs)
  return rows, counts


def tokenised(
  llama, caption_pairs, blocks=(4,), captions=2, question="Q", **limits
):
  pairs = [
    Pair(str(i), None, question, (), chosen, rejected, None, None)
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


@pytest.mark.parametrize(
  "chosen, rejected",
  [
    ("A\u00a0dog.", "A dog."),
    ("caf\u00e9", "cafe\u0301"),
    ("a  b", "a b"),
  ],
)
def test_captions_that_read_alike_are_dropped_and_counted(
  llama, chosen, rejected
):
  rows, counts = fitted(llama, [(chosen, rejected), ("A dog.", "A cat.")])
  assert rows.pair.tolist() == [1] and counts == {tokens.SAME: 1}

  rows, _ = fitted(llama, [("a\nb", "a b")])
  assert len(rows.pair) == 1  # lines are a difference


def test_captions_of_the_same_tokens_are_dropped_and_counted():
  lower = tokenizers_made.llama()
  lower.backend_tokenizer.normalizer = normalizers.Lowercase()
  rows, counts = fitted(lower, [("a DOG", "A dog"), ("a dog", "a cat")])
  assert rows.pair.tolist() == [1] and counts == {tokens.SAME: 1}


def test_a_prompt_that_cannot_be_made_names_its_row(llama):
  with pytest.raises(ValueError, match="^row '0': a question holds U\\+FFFC"):
    fitted(llama, [("a", "b")], question=text.MARK)


def test_turns_before_a_question_are_part_of_what_makes_its_prompt():
  chatml = tokenizers_made.chatml()
  told = [(), (("user", "a"), ("assistant", "b"))]
  pairs = [
    Pair("1", None, "Q", turns, "one", "two", None, None) for turns in told
  ]
  limits = tokens.Limits(10_000, None, None, "drop")
  rows, *_ = tokens.tokenise(
    pairs,
    *([-1, -1], [0, 0]),
    tokenizer=chatml,
    template="tokenizer",
    blocks=lambda frames: [],
    captions=2,
    limits=limits,
  )
  for number, turns in enumerate(told):
    want = text.prompt_ids(chatml, "tokenizer", "Q", blocks=[], history=turns)
    assert rows.prefix[number].tolist() == want


def test_what_is_dropped_is_told_by_its_number(llama):
  caption_pairs = [("aaa", "bb"), ("a  b", "a b"), ("c", "dd"), ("aaaa", "b")]
  rows, _, dropped = tokenised(llama, caption_pairs, response=5)
  assert rows.pair.tolist() == [0, 2]
  assert dropped == {1: tokens.SAME, 3: tokens.CAPTION_TOO_LONG}
