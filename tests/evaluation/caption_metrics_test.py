"""Caption metrics against pycocoevalcap, which shares no code with them."""

import json
import math
import random

import numpy as np
import pytest

from synpo_jax.evaluation import caption_metrics, meteor, vatex
from synpo_jax.evaluation.tokenizer import tokenize

WORDS = "a man dog plays guitar in the park and then runs away slowly".split()


def random_corpus(seed, videos, most_references):
  """Token lists with repeats, empties, single words and ties in length."""
  rng = random.Random(seed)
  text = lambda: rng.choices(WORDS, k=rng.choice([0, 1, 2, 3, 5, 8, 8, 13]))  # noqa: E731
  references = [
    [text() for _ in range(rng.randint(1, most_references))]
    for _ in range(videos)
  ]
  predictions = [
    list(rng.choice(refs)) if rng.random() < 0.3 else text()
    for refs in references
  ]
  return predictions, references


def published(scorer, predictions, references):
  rows = {i: [" ".join(p)] for i, p in enumerate(predictions)}
  gold = {i: [" ".join(r) for r in refs] for i, refs in enumerate(references)}
  return scorer.compute_score(gold, rows)


CASES = [(seed, videos, refs) for seed in range(6) for videos, refs in [(9, 4)]]
CASES += [(11, 1, 3), (12, 2, 1), (13, 40, 10)]


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_published_ones(case):
  from pycocoevalcap.bleu.bleu_scorer import BleuScorer
  from pycocoevalcap.cider.cider import Cider
  from pycocoevalcap.rouge.rouge import Rouge

  predictions, references = random_corpus(*case)
  cider, ciders = caption_metrics.cider_d(predictions, references)
  want, wants = published(Cider(), predictions, references)
  np.testing.assert_allclose(cider, want, atol=1e-9)
  np.testing.assert_allclose(ciders, wants, atol=1e-9)

  scorer = BleuScorer(n=4)
  for prediction, refs in zip(predictions, references, strict=True):
    scorer += (" ".join(prediction), [" ".join(r) for r in refs])
  want, _ = scorer.compute_score(option="closest")
  got = caption_metrics.bleu(predictions, references)
  np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)

  rouge, rouges = caption_metrics.rouge_l(predictions, references)
  want, wants = published(Rouge(), predictions, references)
  np.testing.assert_allclose(rouge, want, atol=1e-9)
  np.testing.assert_allclose(rouges, wants, atol=1e-9)


def test_cider_by_hand():
  """Two videos, one word each: idf log 2, cosine 1 in one order of four."""
  score, scores = caption_metrics.cider_d([["a"], ["a"]], [[["a"]], [["b"]]])
  assert scores == [2.5, 0.0] and score == 1.25


def test_bleu_takes_the_shorter_of_two_equally_near_references():
  # Length 2 lies between 1 and 3: the nearest is 1, so no brevity penalty.
  got = caption_metrics.bleu([["a", "b"]], [[["a"], ["a", "b", "c"]]], orders=1)
  assert math.isclose(got[0], 1.0, rel_tol=1e-8)


def test_empty_input_is_named():
  with pytest.raises(ValueError, match="0 predictions"):
    caption_metrics.bleu([], [])
  with pytest.raises(ValueError, match="video number 1 has no reference"):
    caption_metrics.rouge_l([["a"], ["b"]], [[["a"]], []])


def test_repetition_and_distinct():
  loop = "go on go on go on".split()  # 3 four-grams, 2 of them different
  assert caption_metrics.repetition([loop]) == pytest.approx(1 / 3)
  assert caption_metrics.repetition([["go"]]) == 0.0
  assert caption_metrics.distinct([loop, ["go"]], n=1) == pytest.approx(2 / 7)
  assert caption_metrics.distinct([loop], n=2) == pytest.approx(2 / 5)
  assert caption_metrics.distinct([["go"]], n=2) == 0.0


SENTENCES = """A man's dog isn't "happy" -- he can't run...
It's 3.5 km/h; the U.S. team (all 10) won $5,000!
The rock-n-roll band plays at 10:30 p.m. near St. Louis.
Mr. Smith said: 'hello'. I'm gonna eat it, cannot wait.
Someone's cutting wood w/ a T-shirt on, and/or jumping.
“Curly quotes” — and dashes… they’re here; no. 5 too!!
two kids (a boy & a girl) jump on the trampoline :)
He rides AT&T's 18-wheeler at 55mph. What?! Wow, the '80s
The end.The start of a half-pipe in Jan. 2012, 50% off
a naïve café, 20°C, 1/2 cup of sugar, e.g. "brown sugar" etc.
a man,2 dogs and .5 mile of road.2 kids:3 balls ,1/2
he wears a suit., then x-ray.; the end., U.S.-based e.g.-like
R&amp;B &lt;3 it&#39;s &quot;loud&quot; a&nbsp;b costs US$5 or ₹50 ###
half‑pipe a‐b 5‑6 – zero\u200bwidth ❤\u200d🔥 H₂O 「quoted」 ‹x›
rock ’n’ roll, n'roll, Xi'an, qu'il, c'mon somethin' HE'S in the ’90s 5'10
He is 5'10" :D =( run!Wow?yes F# o’clock it’s don’t नमस्ते""".split("\n")


def test_tokeniser_by_hand():
  got = tokenize("A man's dog isn't \"happy\" -- he (can't) run... the U.S.!")
  want = "a man 's dog is n't happy he -lrb- ca n't -rrb- run the u.s."
  assert got == want.split()
  assert tokenize(" ... ") == []


@pytest.mark.slow
@pytest.mark.skipif(bool(meteor.missing()), reason=str(meteor.missing()))
def test_tokeniser_and_meteor_equal_the_java_programs():
  from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

  rows = {i: [{"caption": s}] for i, s in enumerate(SENTENCES)}
  published_tokens = PTBTokenizer().tokenize(rows)
  for i, sentence in enumerate(SENTENCES):
    assert tokenize(sentence) == published_tokens[i][0].split()
  tokens = [tokenize(s) for s in SENTENCES]
  score, scores = meteor.meteor(tokens[:2], [[tokens[0]], [tokens[2]]])
  assert scores[0] == pytest.approx(1.0) and scores[1] < score < 1.0


def test_chinese_is_counted_by_letter():
  text = "一个男人在弹吉他，跳舞。"
  assert tokenize(text) == list("一个男人在弹吉他跳舞")
  assert tokenize("他说 Hello, world！") == ["他", "说", "hello", "world"]
  assert tokenize("カメラが動く。") == list("カメラが動く")
  assert tokenize("two men dance") == ["two", "men", "dance"]


def test_chinese_references_are_scored(tmp_path):
  path = tmp_path / "vatex.jsonl"
  texts = {"a": "一个男人在弹吉他。", "b": "一只狗在公园里跑步。"}
  rows = [
    {"videoID": name, "enCap": ["x"], "chCap": [text, "有人在动。"]}
    for name, text in texts.items()
  ]
  path.write_text("\n".join(map(json.dumps, rows)))
  references = vatex.read_references(path, "zh")
  _, summary = vatex.score(references, texts)
  assert summary["BLEU-4"] > 99 and summary["CIDEr-D"] > 100
  assert "English" in summary["METEOR_missing"]
  _, other = vatex.score(references, {"a": "一个女人在唱歌", "b": "一只狗"})
  assert 0 < other["ROUGE-L"] < 90 and "CIDEr-D_note" not in other
  with pytest.raises(ValueError, match="choose one of en, zh"):
    vatex.read_references(path, "fr")
  path.write_text(json.dumps({"video": "a", "references": ["ผู้ชายเล่นกีตาร์"]}))
  with pytest.raises(ValueError, match="row 1: .*without spaces"):
    vatex.read_references(path, "en")


@pytest.mark.slow
def test_cider_of_one_video_is_0_and_says_why():
  _, summary = vatex.score({"a": ["a dog runs"]}, {"a": "a dog runs"})
  assert summary["CIDEr-D"] == 0
  assert "0 by its formula" in summary["CIDEr-D_note"]
