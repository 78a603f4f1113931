"""Rows of other programs, in every kind of file: the pairs they stand for."""

import pytest

from synpo_jax.data import accounts, pairs
from tests.support import row_files

ANSWERS = {"chosen": "A dog runs.", "rejected": "A cat sits."}
SYSTEM, QUESTION = "Be brief.", "What happens?"
TURNS = (("user", "Hi"), ("assistant", "Hello"))
BOTH = (("system", SYSTEM), *TURNS)


def said(role, content):
  return {"role": role, "content": content}


def told(who, value):
  return {"from": who, "value": value}


def pair(video="a.mp4", history=(), scores=(None, None), id="line-1"):
  return pairs.Pair(id, video, QUESTION, history, *ANSWERS.values(), *scores)


ASKED = [said(role, text) for role, text in (*BOTH, ("user", QUESTION))]
SHARED = [
  told("system", SYSTEM),
  told("human", "Hi"),
  told("gpt", "Hello"),
  told("human", f"<video>{QUESTION}"),
]
EACH = {name: [said("assistant", text)] for name, text in ANSWERS.items()}
WHOLE = {name: ASKED + answer for name, answer in EACH.items()}
PART = [{"type": "video"}, {"type": "text", "text": QUESTION}]
SWIFT = {
  "messages": [said("user", f"<video>{QUESTION}"), *EACH["chosen"]],
  "videos": ["a.mp4"],
}
SHAREGPT = {
  "chosen": told("gpt", ANSWERS["chosen"]),
  "rejected": told("gpt", ANSWERS["rejected"]),
  "videos": ["a.mp4"],
}

# Name of the form, a row of it, the pair it stands for.
ROWS = {
  "ours": (
    "ours (question, chosen, rejected)",
    {"video": "a.mp4", "question": QUESTION, **ANSWERS, "id": "x"},
    pair(id="x"),
  ),
  "official": (
    "the official release (question, pos_pre, neg_pre)",
    {
      **{"idx": 7, "video_name": "a.mp4", "question": QUESTION},
      **{"pos_pre": ANSWERS["chosen"], "neg_pre": ANSWERS["rejected"]},
      **{"pos_score": 11.5, "neg_score": 2.0},
    },
    pair(scores=(11.5, 2.0), id="7"),
  ),
  "trl-texts": (
    "TRL (prompt, chosen, rejected)",
    {"prompt": QUESTION, **ANSWERS, "videos": ["a.mp4"]},
    pair(),
  ),
  "trl-implicit": (
    "TRL (chosen, rejected as messages)",
    WHOLE,
    pair(None, BOTH),
  ),
  "trl-explicit": (
    "TRL (prompt, chosen, rejected as messages)",
    {"prompt": ASKED, **EACH, "video": "a.mp4"},
    pair(history=BOTH),
  ),
  "trl-text-and-messages": (
    "TRL (prompt, chosen, rejected as messages)",
    {"prompt": QUESTION, **EACH, "images": []},
    pair(None),
  ),
  "trl-parts": (
    "TRL (prompt, chosen, rejected as messages)",
    {"prompt": [said("user", PART)], **EACH, "videos": ["a.mp4"]},
    pair(),
  ),
  "trl-prompt-repeated": (
    "TRL (chosen, rejected as messages)",
    {"prompt": ASKED, **WHOLE},
    pair(None, BOTH),
  ),
  "sharegpt": (
    "LLaMA-Factory, ShareGPT (conversations, chosen, rejected)",
    {"conversations": SHARED, **SHAREGPT},
    pair(history=BOTH),
  ),
  "sharegpt-system": (
    "LLaMA-Factory, ShareGPT (conversations, chosen, rejected)",
    {"conversations": SHARED[1:], "system": SYSTEM, **SHAREGPT, "tools": ""},
    pair(history=BOTH),
  ),
  "sharegpt-messages": (
    "LLaMA-Factory, ShareGPT (conversations, chosen, rejected)",
    {"messages": ASKED + EACH["chosen"], **ANSWERS},
    pair(None, BOTH),
  ),
  "alpaca": (
    "LLaMA-Factory, alpaca (instruction, input, chosen, rejected)",
    {
      **{"instruction": QUESTION, "input": "", "system": SYSTEM},
      **{"history": [["Hi", "Hello"]], **ANSWERS, "videos": ["a.mp4"]},
    },
    pair(history=BOTH),
  ),
  "swift": (
    "ms-swift (messages, rejected_response)",
    SWIFT | {"rejected_response": ANSWERS["rejected"]},
    pair(),
  ),
  "swift-messages": (
    "ms-swift (messages, rejected_response)",
    SWIFT
    | {"rejected_messages": SWIFT["messages"][:1] + EACH["rejected"]}
    | {"rejected_videos": ["a.mp4"]},
    pair(),
  ),
  "swift-query": (
    "ms-swift (query, response, rejected_response)",
    {
      **{"query": QUESTION, "response": ANSWERS["chosen"], "system": SYSTEM},
      "rejected_response": ANSWERS["rejected"],
      "history": [["Hi", "Hello"]],
    },
    pair(None, BOTH),
  ),
  "llava-hound": (
    "LLaVA-Hound (video, prompt, chosen, rejected)",
    {
      **{"id": "a_0", "video": "a", "prompt": f"<video>\n{QUESTION}"},
      **{"answer": "A dog.", **ANSWERS},
      **{"chosen_score": 5, "rejected_score": 3},
    },
    pair("a", scores=(5.0, 3.0), id="a_0"),
  ),
  "rlaif-v": (
    "RLAIF-V (ds_name, question, chosen, rejected)",
    {
      **{"ds_name": "RLAIF-V", "video": "a.mp4", "question": QUESTION},
      **{**ANSWERS, "origin_dataset": "x", "origin_split": "{}", "idx": "4"},
    },
    pair(id="4"),
  ),
  "ultrafeedback": (
    "UltraFeedback (prompt_id, chosen, rejected as messages)",
    {
      **{"prompt": QUESTION, "prompt_id": "p", **WHOLE},
      "messages": WHOLE["chosen"],
      **{"score_chosen": 8.0, "score_rejected": 3.5},
    },
    pair(None, BOTH, (8.0, 3.5), id="p"),
  ),
  "system": (
    "texts beneath a system turn (system, question, chosen, rejected)",
    {"system": SYSTEM, "question": QUESTION, **ANSWERS},
    pair(None, (("system", SYSTEM),)),
  ),
  "empty-system": (
    "texts beneath a system turn (system, question, chosen, rejected)",
    {"system": "", "question": QUESTION, **ANSWERS},
    pair(None),
  ),
}


@pytest.mark.parametrize("kind", row_files.KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_each_form_in_each_kind_of_file(tmp_path, name, kind):
  form, row, expected = ROWS[name]
  path = tmp_path / kind
  row_files.KINDS[kind](path, [row])
  read = pairs.read_pairs(path)
  if expected.id == "line-1" and "jsonl" not in kind:
    expected = expected._replace(id="row-1")
  assert read.pairs == [expected]
  assert accounts.forms(str(path), read) == [f"{path}: rows of {form}"]


def test_forms_may_mix_and_are_counted(tmp_path):
  path = tmp_path / "pairs.jsonl"
  rows = [ROWS[name][1] for name in ("swift", "ours", "trl-texts", "swift")]
  path.write_bytes(row_files.lines(rows))
  assert accounts.forms("pairs.jsonl", pairs.read_pairs(path)) == [
    "pairs.jsonl: 2 rows of ms-swift (messages, rejected_response)",
    "pairs.jsonl: 1 rows of ours (question, chosen, rejected)",
    "pairs.jsonl: 1 rows of TRL (prompt, chosen, rejected)",
  ]


def test_several_pairs_of_a_prompt(tmp_path):
  row = ROWS["ultrafeedback"][1]
  row_files.write_parquet(tmp_path / "p.parquet", [row, row, row])
  found = [p.id for p in pairs.read_pairs(tmp_path / "p.parquet").pairs]
  assert found == ["p", "p-row-2", "p-row-3"]


def test_a_chosen_caption_alone_is_enough_for_fine_tuning(tmp_path):
  for name in ("sharegpt", "alpaca", "trl-explicit", "trl-implicit"):
    row = {k: v for k, v in ROWS[name][1].items() if k != "rejected"}
    (tmp_path / "rows.jsonl").write_bytes(row_files.lines([row]))
    (found,) = pairs.read_pairs(tmp_path / "rows.jsonl", captions=1).pairs
    assert found == ROWS[name][2]._replace(rejected=None)


OURS, RLAIF = ROWS["ours"][1], ROWS["rlaif-v"][1]
IMAGE = {"path": None, "bytes": b"\x89PNG"}
HOSTILE = [
  (RLAIF | {"image": IMAGE}, "'image' holds a picture, which is not read"),
  (RLAIF | {"image_path": "x.jpg"}, "'image_path' holds a picture"),
  (ROWS["trl-parts"][1] | {"images": [IMAGE]}, "'images' holds a picture"),
  (OURS | {"audio": "a.wav"}, "'audio' holds a sound"),
  (SWIFT | {"rejected_response": "x", "audios": ["a"]}, "'audios' holds a sou"),
  (
    SWIFT | {"rejected_response": "x", "rejected_images": ["a"]},
    "'rejected_images' is not read",
  ),
  (
    SWIFT | {"rejected_response": "x", "rejected_videos": ["b.mp4"]},
    "'videos' and 'rejected_videos' differ",
  ),
  (
    SWIFT | {"rejected_response": "x", "chosen": "y"},
    "'chosen' stands beside ms-swift's rejected answer",
  ),
  (
    SWIFT | {"rejected_response": "x", "rejected_messages": ASKED},
    "'rejected_response' stands beside 'rejected_messages'",
  ),
  (SWIFT | {"rejected_response": "x", "tools": "[1]"}, "'tools' is not read"),
  (SWIFT | {"rejected_response": "x", "objects": "b"}, "'objects' is not read"),
  (SWIFT | {"rejected_response": 7}, "'rejected_response' message 1 is a int"),
  ({"conversations": SHARED, **SHAREGPT, "chosen": 3}, "'chosen' message 1 is"),
  (
    {"conversations": [*SHARED, told("gpt", "Else.")], **SHAREGPT},
    "'conversations' ends with an answer that is not the chosen one",
  ),
  (
    {"conversations": SHARED, "system": SYSTEM, **SHAREGPT},
    "'system' stands beside a system message",
  ),
  (
    {"conversations": [told("observation", "x"), *SHARED], **SHAREGPT},
    "role 'observation' is none of",
  ),
  ({"instruction": 5, "input": "", **ANSWERS}, "'instruction' is a int"),
  (
    {"instruction": "Q", "history": ["x"], **ANSWERS},
    "'history' is no list of",
  ),
  (OURS | {"history": [["a", "b"]]}, "'history' is not read"),
  ({"messages": ASKED}, "'messages' is not read"),
  (OURS | {"video": IMAGE}, "'video' holds a video's bytes"),
]


@pytest.mark.parametrize("row, reason", HOSTILE)
@pytest.mark.parametrize("kind", ["pairs.jsonl", "pairs.parquet"])
def test_what_a_form_cannot_say_is_refused_by_name(tmp_path, row, reason, kind):
  path = tmp_path / kind
  if kind == "pairs.jsonl":
    row = {k: "PNG" if v is IMAGE else v for k, v in row.items()}
    row |= {k: ["PNG"] for k, v in row.items() if v == [IMAGE]}
    row |= {"video": {"bytes": "x"}} if row.get("video") == "PNG" else {}
  row_files.KINDS[kind](path, [row])
  with pytest.raises(ValueError, match=f"{kind}:1: .*{reason}"):
    pairs.read_pairs(path)


def test_a_video_of_a_table_is_read_by_its_path(tmp_path):
  row = {k: v for k, v in OURS.items() if k != "video"}
  rows = [
    row | {"id": "1", "videos": [{"path": "a.mp4", "bytes": None}]},
    row | {"id": "2", "videos": None},
  ]
  row_files.write_parquet(tmp_path / "p.parquet", rows)
  found = [p.video for p in pairs.read_pairs(tmp_path / "p.parquet").pairs]
  assert found == ["a.mp4", None]
