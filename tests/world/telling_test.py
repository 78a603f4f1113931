"""Captions and rows of the synthetic world: order, words, planted faults."""

import collections
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from synpo_jax.data import pairs, prompts
from synpo_jax.world import rows as world_rows
from synpo_jax.world import spoiling, staging, telling, vocabulary
from synpo_jax.world.scene import SHAPES, Event, Facts, Thing, main_thing

SEEDS = range(60)
FACTS = Facts(
  "field",
  "sunny",
  "zoom in",
  (
    Thing("circle", "red", "large", "top left"),
    Thing("star", "blue", "small", "middle"),
    Thing("ring", "white", "small", None),
  ),
  (
    Event("move", 0, "down right"),
    Event("colour", 0, "green"),
    Event("enter", 2, "top"),
  ),
  (1,),
)


@pytest.fixture(scope="module")
def scenes():
  return [staging.sample(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  from transformers import AutoTokenizer

  folder = tmp_path_factory.mktemp("tokenizer")
  command = f"-m synpo_jax.world.vocabulary --out={folder}"
  done = subprocess.run(
    [sys.executable, *command.split()],
    check=True,
    capture_output=True,
    text=True,
  )
  loaded = AutoTokenizer.from_pretrained(str(folder))
  assert done.stdout == f"{len(loaded)} entries in {folder}\n"
  return loaded


def test_a_caption_says_everything_in_the_order_of_telling():
  for seed in range(20):
    text = telling.tell(FACTS, np.random.default_rng(seed))
    cues = (
      "a grassy field under a sunny sky",
      "zooms in",
      "a large red circle at the top left",
      "a small blue star in the middle",
      "the red circle ",
      " down and to the right",
      "the red circle ",
      " green",
      "a small white ring ",
      " the top",
      "the blue star ",
    )
    position = 0
    for cue in cues:
      found = text.lower().find(cue, position)
      assert found >= 0, (cue, text)
      position = found


def test_captions_are_of_a_readable_length(scenes):
  for scene in scenes:
    for seed in range(5):
      rng = np.random.default_rng(seed)
      told = telling.sentences(scene.facts, rng)
      assert 4 <= len(told) <= 8
      assert len(" ".join(told).split()) <= 90
      assert len(telling.sentences(scene.facts, rng, "short")) == 1


def test_wording_varies_and_is_repeatable():
  texts = [telling.tell(FACTS, np.random.default_rng(s)) for s in range(50)]
  again = telling.tell(FACTS, np.random.default_rng(7))
  assert len(set(texts)) > 45 and texts[7] == again


def test_partial_captions_keep_to_their_part(scenes):
  for scene in scenes:
    rng = np.random.default_rng(scene.seed)
    background = telling.tell(scene.facts, rng, "background")
    camera = telling.tell(scene.facts, rng, "camera")
    assert "camera" not in background and "view" not in background
    assert not any(shape in camera for shape in SHAPES)
    main = scene.facts.things[main_thing(scene.facts)]
    told = telling.tell(scene.facts, rng, "main_object")
    assert f"{main.size} {main.colour} {main.shape}" in told


def test_an_unknown_kind_is_named():
  with pytest.raises(ValueError, match="no caption of kind 'long'"):
    telling.tell(FACTS, np.random.default_rng(0), "long")


def test_planted_faults_are_what_they_say():
  for seed in range(40):
    rng = np.random.default_rng(seed)
    spoilt = {f: spoiling.spoil(FACTS, rng, f) for f in spoiling.FACTUAL}
    assert len(spoilt["attribute"].things) == 3
    assert spoilt["attribute"] != FACTS
    kinds = [event.kind for event in spoilt["order"].events]
    assert sorted(kinds) == ["colour", "enter", "move"]
    assert kinds != ["move", "colour", "enter"]
    shapes = {thing.shape for thing in spoilt["invention"].things}
    assert shapes > {"circle", "star", "ring"}
    left = spoilt["omission"]
    assert len(left.events) + len(left.things) < 6
    for facts in spoilt.values():
      assert spoiling.possible(facts.things, facts.events)


def test_a_fault_without_a_place_is_none():
  alone = Facts(
    "night",
    "moon",
    "static",
    (Thing("star", "red", "small", None),),
    (Event("enter", 0, "left"),),
  )
  rng = np.random.default_rng(0)
  assert spoiling.spoil(alone, rng, "order") is None
  assert spoiling.spoil(alone, rng, "omission") is None
  with pytest.raises(ValueError, match="no fault 'lie'"):
    spoiling.spoil(alone, rng, "lie")


def test_clumsy_changes_as_many_sentences_as_asked():
  told = telling.sentences(FACTS, np.random.default_rng(1))
  for seed in range(60):
    for faults in (0, 1, 3):
      broken = spoiling.clumsy(told, np.random.default_rng(seed), faults)
      changed = collections.Counter(broken) - collections.Counter(told)
      assert changed.total() == faults


def test_caption_rows_keep_their_mix(scenes):
  kinds = collections.Counter()
  for scene in scenes:
    for index in range(8):
      rng = np.random.default_rng([scene.seed, index])
      row = world_rows.sft_row(scene, "clips/a.mp4", rng)
      assert set(row) == {"video", "question", "chosen"}
      parts = [p for p in world_rows.PARTS if row["question"] in prompts.VDC[p]]
      earlier = "Here is an earlier answer" in row["question"]
      kinds["retro" if earlier else parts[0] if parts else "detailed"] += 1
  total = kinds.total()
  assert abs(kinds["detailed"] / total - 0.75) < 0.05
  assert abs(kinds["retro"] / total - 0.05) < 0.03
  assert all(kinds[part] / total > 0.03 for part in world_rows.PARTS)


def test_pair_rows_are_read_by_the_pair_reader(scenes, tmp_path):
  path = tmp_path / "pairs.jsonl"
  rows = [
    world_rows.pair_row(scene, "clips/a.mp4", np.random.default_rng(i))
    for i, scene in enumerate(scenes)
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  read = pairs.read_pairs(path, question=None, min_score_gap=None).pairs
  assert [pair.rejected for pair in read] == [row["rejected"] for row in rows]
  assert all(pair.chosen_score == 13.5 for pair in read)
  gaps = [pair.chosen_score - pair.rejected_score for pair in read]
  assert min(gaps) > 0 and np.mean(np.array(gaps) >= 4) > 0.25


def test_the_vocabulary_is_small_and_each_word_one_token(tokenizer):
  assert len(vocabulary.words(vocabulary.corpus())) < 350
  assert not split_words(tokenizer)


def split_words(tokenizer):
  """Words of captions, within a sentence, that are more than one token."""
  said = set(re.findall(r" [A-Za-z]+", " ".join(vocabulary.corpus()[20:])))
  return [word for word in said if len(tokenizer.tokenize(word)) > 1]


def test_the_shipped_tokenizer_serves_what_is_told_today():
  from transformers import AutoTokenizer

  shipped = AutoTokenizer.from_pretrained("synpo_jax/assets/tiny")
  assert split_words(shipped) == [" Behind"]  # it is older than that start


def test_the_tokenizer_adds_and_loses_nothing(tokenizer):
  specials = [tokenizer.unk_token_id, tokenizer.bos_token_id]
  specials += [tokenizer.eos_token_id, tokenizer.pad_token_id]
  assert specials == [0, 1, 2, 0]
  ids = tokenizer("The camera pans left.").input_ids
  assert not {0, 1, 2} & set(ids)
  for text in ("USER: ", " ", "\nWhat?\n ASSISTANT:", "Ünlikely 12 été\t☃"):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_retrospective_prompt_keeps_question_and_text():
  asked = prompts.VDC["short"][0]
  text = prompts.retrospective(" A ring. ", question=asked, caution=True)
  assert text.startswith(asked) and "\nA ring.\n" in text
  assert prompts.CAUTION in text
  assert prompts.CAUTION not in prompts.retrospective("A ring.")
  with pytest.raises(ValueError, match="needs the text of a first pass"):
    prompts.retrospective("  ")
