"""Rows of preferences: what is read, refused and left out."""

import json

import pytest

from synpo_jax.data import pairs

ROW = {"video": "a.mp4", "question": "What?", "chosen": "A.", "rejected": "B."}
SCORES = {"chosen_score": 9.0, "rejected_score": 4}


def written(path, *rows):
  lines = (r if isinstance(r, str) else json.dumps(r) for r in rows)
  path.write_text("\n".join(lines) + "\n")
  return path


def read(path, question=None, captions=2, min_score_gap=None):
  return pairs.read_pairs(
    path, question=question, captions=captions, min_score_gap=min_score_gap
  )


@pytest.fixture
def file(tmp_path):
  return lambda *rows: written(tmp_path / "pairs.jsonl", *rows)


def test_our_own_fields(file):
  row = ROW | SCORES | {"id": "x7", "judge": "ignored"}
  (pair,) = read(file(row)).pairs
  assert pair == pairs.Pair("x7", "a.mp4", "What?", (), "A.", "B.", 9.0, 4.0)


def test_the_official_fields(file):
  row = {
    "idx": 3,
    "video_name": "a",
    "question": "Q",
    "pos_pre": "A.",
    "neg_pre": "B.",
    "pos_score": 11.5,
    "neg_score": 2.0,
    "long_answers": ["A.", "B."],
  }
  (pair,) = read(file(row)).pairs
  assert pair == pairs.Pair("3", "a", "Q", (), "A.", "B.", 11.5, 2.0)


def test_text_rows_of_chat_messages(file):
  asked = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Why?"},
  ]
  row = {
    "prompt": "Hi",
    "prompt_id": "p1",
    "chosen": [*asked, {"role": "assistant", "content": "So."}],
    "rejected": [*asked, {"role": "assistant", "content": "No."}],
    "score_chosen": 8,
    "score_rejected": 3,
  }
  (pair,) = read(file(row), min_score_gap=4).pairs
  assert pair.video is None and pair.question == "Why?"
  assert pair.history == (
    ("system", "Be brief."),
    ("user", "Hi"),
    ("assistant", "Hello"),
  )
  assert (pair.chosen, pair.rejected, pair.id) == ("So.", "No.", "p1")


def test_blank_lines_a_bom_and_missing_ids(tmp_path):
  path = tmp_path / "pairs.jsonl"
  line = json.dumps(ROW | {"id": None}).encode()
  path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\n   \n" + line)
  assert [p.id for p in read(path).pairs] == ["line-1", "line-4"]


def test_a_question_for_rows_without_one(file):
  bare = {k: v for k, v in ROW.items() if k != "question"}
  path = file(bare, ROW)
  assert [p.question for p in read(path, "Tell.").pairs] == ["Tell.", "What?"]
  with pytest.raises(ValueError, match=":1: lacks 'question'"):
    read(path)


def test_plain_fine_tuning_needs_no_rejected_caption(file):
  chosen = {k: v for k, v in ROW.items() if k != "rejected"}
  path = file(chosen, ROW)
  read_pairs = read(path, captions=1, min_score_gap=4).pairs
  assert [p.rejected for p in read_pairs] == [None, None]
  with pytest.raises(ValueError, match=":1: lacks 'rejected'"):
    read(path)


@pytest.mark.parametrize(
  "told",
  [
    {"reference_caption": "Gold."},
    {"reference": "Gold."},  # TRL's, for TPO
    {"reference": [{"role": "assistant", "content": "Gold."}]},
    {"reference_caption": "Gold.", "reference": "Gold."},
  ],
)
def test_a_reference_caption_is_read_where_it_is_needed(file, told):
  (pair,) = read(file(ROW | told), captions=3).pairs
  assert (pair.gold, pair.rejected) == ("Gold.", "B.")
  assert read(file(ROW | told)).pairs[0].gold is None
  assert read(file(ROW | told), captions=1).pairs[0].gold is None


@pytest.mark.parametrize(
  "told, said",
  [
    ({}, "lacks 'reference_caption', from which the loss learns"),
    ({"reference": 7}, "'reference' is a int, not text"),
    ({"reference": ""}, "'reference' is empty"),
    ({"reference": [{"role": "user", "content": "G"}]}, "does not end with an"),
    ({"reference": [{"role": "assistant"}]}, "lacks 'content'"),
    ({"reference": "a", "reference_caption": "b"}, "say different things"),
    ({"reference": " B."}, "rejected and reference caption are the same text"),
  ],
)
def test_a_row_without_a_right_reference_caption_is_named(file, told, said):
  path = file(ROW | {"reference": "Gold."}, ROW | told)
  with pytest.raises(ValueError, match=f":2: .*{said}"):
    read(path, captions=3)
  assert len(read(path).pairs) == 2  # other losses leave it alone


def test_scores_count_where_a_reference_caption_is_read(file):
  told = {"reference": "Gold."}
  path = file(ROW | SCORES | told, ROW | SCORES | told | {"chosen_score": 5.0})
  found = read(path, captions=3, min_score_gap=4)
  assert [len(found.pairs), len(found.below_gap)] == [1, 1]


def test_the_gap_filter_keeps_the_boundary_and_counts(file):
  gaps = [3.99, 4.0, 4.01, -5]
  path = file(
    *(ROW | {"chosen_score": 5 + g, "rejected_score": 5.0} for g in gaps)
  )
  kept = read(path, min_score_gap=4.0)
  assert [p.id for p in kept.below_gap] == ["line-1", "line-4"]
  assert [p.id for p in kept.pairs] == ["line-2", "line-3"]
  assert read(path).below_gap == []
  with pytest.raises(ValueError, match="none of 4 rows has a score gap"):
    read(path, min_score_gap=10.0)


FAULTS = [
  ("{oops", "is not JSON: .* at column 2"),
  ("[1]", "is a JSON list, not an object"),
  ({**ROW, "chosen": ""}, "'chosen' is empty"),
  ({**ROW, "chosen": " B. "}, "chosen and rejected are the same text"),
  ({**ROW, "rejected": 7}, "'rejected' is a int, not text"),
  ({**ROW, "rejected": None}, "lacks 'rejected'"),
  ({**ROW, "video": 1}, "'video' is a int, not text"),
  ({**ROW, "id": "once"}, "id 'once' is already used on line 1"),
  ({**ROW, "id": ["x"]}, "'id' is neither text nor a whole number"),
  ({**ROW, "pos_pre": "C."}, "chosen and pos_pre say different things"),
  ({**ROW, "chosen_score": float("nan")}, "'chosen_score' is nan"),
  ({**ROW, "rejected_score": True}, "'rejected_score' is True"),
  ({**ROW, "chosen_score": 10**400}, "'chosen_score' is 1000*, not a finite"),
  ('{"id": ' + "9" * 5000 + "}", "is JSON too deep, or a number too long"),
  ("[" * 100_000, "is JSON too deep, or a number too long"),
  ({**ROW, "chosen": "a \ud83d"}, r"'chosen' holds '\\ud83d', half of a char"),
  ({**ROW, "chosen": [{"role": "user"}]}, "without 'role' or 'content'"),
  ({**ROW, "chosen": [{"role": "user", "content": "a"}]}, "does not end with"),
]


def test_all_faults_are_listed_with_their_lines(file):
  path = file({**ROW, "id": "once"}, *(row for row, _ in FAULTS))
  with pytest.raises(ValueError) as error:
    read(path)
  first, *lines = str(error.value).splitlines()
  assert first == f"{path}: {len(FAULTS)} faults"
  assert len(lines) == len(FAULTS)
  for number, (line, (_, reason)) in enumerate(
    zip(lines, FAULTS, strict=True), start=2
  ):
    with pytest.raises(ValueError, match=f"pairs.jsonl:{number}: .*{reason}"):
      raise ValueError(line)


def test_conversations_that_part_early_are_refused(file):
  def chat(first, last):
    return [
      {"role": "user", "content": first},
      {"role": "assistant", "content": last},
    ]

  path = file({"chosen": chat("a", "x"), "rejected": chat("b", "y")})
  with pytest.raises(ValueError, match="differ before their last message"):
    read(path)


def test_missing_scores_are_faults_only_where_they_are_needed(file):
  path = file(ROW | SCORES, ROW)
  assert len(read(path).pairs) == 2
  with pytest.raises(ValueError, match=":2: lacks 'chosen_score', which min"):
    read(path, min_score_gap=4.0)


def test_the_listing_is_capped_and_counted(file):
  path = file(*["nonsense"] * 33)
  with pytest.raises(ValueError) as error:
    read(path)
  lines = str(error.value).splitlines()
  assert lines[0].endswith("33 faults") and len(lines) == 22
  assert lines[-1] == "  … and 13 more"
  assert all(line.startswith("  ") for line in lines[1:])


def test_files_that_are_missing_empty_or_not_text(tmp_path):
  with pytest.raises(FileNotFoundError, match="gone.jsonl"):
    read(tmp_path / "gone.jsonl")
  (tmp_path / "empty.jsonl").write_text("\n")
  with pytest.raises(ValueError, match="empty.jsonl: holds no rows"):
    read(tmp_path / "empty.jsonl")
  (tmp_path / "latin.jsonl").write_bytes(b'{"chosen": "\xe9"}\n')
  with pytest.raises(ValueError, match="latin.jsonl:1: is not UTF-8"):
    read(tmp_path / "latin.jsonl")


TEXT = {"question": "What?", "chosen": "A.", "rejected": "B."}


def test_several_pairs_may_share_a_prompts_id(file):
  row = TEXT | {"prompt_id": "p"}
  read_pairs = read(file(row, row, row | {"id": "q"})).pairs
  assert [p.id for p in read_pairs] == ["p", "p-line-2", "q"]


def test_a_key_that_stands_twice_is_refused(file):
  with pytest.raises(ValueError, match=":1: 'chosen' stands twice"):
    read(file('{"question": "Q", "chosen": "a", "chosen": "b"}'))


KINDS = [
  (b'{\n "question": "Q"\n}', "JSON spread over many lines"),
  (b"BZh9", "bzip2, not JSON lines; unpack it first"),
  (b"PK\x03\x04", "a zip archive"),
  (json.dumps(ROW).encode("utf-16"), "UTF-16 text; save it as UTF-8"),
  (json.dumps(ROW).encode("utf-16-be"), "UTF-16 text.*-f UTF-16BE"),
  (b"\0" * 50, "filled with zero bytes"),
]


@pytest.mark.parametrize("content, what", KINDS)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path, content, what):
  path = tmp_path / "pairs.jsonl"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f"pairs.jsonl: is {what}") as error:
    read(path)
  assert len(str(error.value).splitlines()) == 1
  with pytest.raises(ValueError, match="is a folder; name the file of pairs"):
    read(tmp_path)
