"""Rows as people have them: the forms of common programs, told by columns.

A form is a name, how its rows are told, and what makes a row of ours of one:
a dict with `question`, `chosen` and `rejected` as texts, or with `chosen` and
`rejected` as lists of messages that differ in the last one (data/turns.py).
Keys that a form does not use stay in the row.
"""

from typing import Any

from synpo_jax.data import lists, turns
from synpo_jax.data.media import Fault

Row = dict[str, Any]

MEDIA = ("images", "audios")  # of rejected messages, in ms-swift's rows


def ours(row: Row) -> tuple[str, Row]:
  """The name of a row's form, and the row in ours.

  Raises:
    Fault: what of its form is not there, is said twice, or is not read.
  """
  present = {key: value for key, value in row.items() if value is not None}
  for name, fits, convert in FORMS:
    if fits(present):
      return name, convert(present)
  return PLAIN, row


def _chat(row: Row, used: set, asked: list, answers: dict) -> Row:
  """A row of messages: what stands before the answers, and each answer."""
  system = _text(row, "system")
  if system and asked and asked[0].get("role") == "system":
    raise Fault("'system' stands beside a system message; take one out")
  before = [{"role": "system", "content": system}] if system else []
  rest = {k: v for k, v in row.items() if k not in used | {"system"}}
  lists = {name: [*before, *asked, *answer] for name, answer in answers.items()}
  return rest | lists


def _text(row: Row, name: str) -> str:
  """A text that may be missing."""
  if not isinstance(row.get(name, ""), str):
    raise Fault(f"{name!r} is a {type(row[name]).__name__}, not text")
  return row.get(name, "")


def _answers(row: Row) -> dict[str, list[Row]]:
  """What is chosen and rejected: a text, a message, or a list of messages."""
  names = [name for name in ("chosen", "rejected") if name in row]
  return {name: _answer(row[name], name) for name in names}


def _answer(value: Any, name: str) -> list[Row]:
  if isinstance(value, str):
    return [{"role": "assistant", "content": value}]
  return turns.messages(value if isinstance(value, list) else [value], name)


def _user(text: Any) -> Row:
  return {"role": "user", "content": text}


def _history(row: Row) -> list[Row]:
  """Earlier turns as pairs of a question and its answer."""
  turns = row.get("history", [])
  if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
    raise Fault("'history' is no list of [question, answer]")
  return [
    {"role": role, "content": text}
    for turn in turns
    for role, text in zip(("user", "assistant"), turn, strict=True)
  ]


def _is_turn(turn: Any) -> bool:
  return isinstance(turn, list) and len(turn) == 2


def _listed(row: Row, name: str) -> bool:
  return isinstance(row.get(name), list)


def _is_conversation(value: Any) -> bool:
  """Whether a list of messages also holds what was asked."""
  if not isinstance(value, list):
    return False
  said = [m.get("role", m.get("from")) for m in value if isinstance(m, dict)]
  return any(role in ("user", "human") for role in said)


# TRL


def _is_implicit(row: Row) -> bool:
  return _is_conversation(row.get("chosen"))


def _implicit(row: Row) -> Row:
  """The prompt is what both conversations begin with; `prompt` repeats it."""
  return _chat(row, {"prompt", "messages"}, _prompt_of(row), _answers(row))


def _prompt_of(row: Row) -> list[Row]:
  """The prompt's messages that the conversations do not hold themselves."""
  if not _listed(row, "prompt"):
    return []
  prompt = turns.messages(row["prompt"], "prompt")
  starts = [a[: len(prompt)] == prompt for a in _answers(row).values()]
  return [] if all(starts) else prompt


def _is_explicit(row: Row) -> bool:
  answers = _listed(row, "chosen") or isinstance(row.get("chosen"), dict)
  return _listed(row, "prompt") or "prompt" in row and answers


def _explicit(row: Row) -> Row:
  asked = row["prompt"]
  asked = [_user(asked)] if isinstance(asked, str) else asked
  return _chat(row, {"prompt"}, turns.messages(asked, "prompt"), _answers(row))


# ms-swift


def _is_swift(row: Row) -> bool:
  return _has_rejected(row) and _listed(row, "messages")


def _has_rejected(row: Row) -> bool:
  return "rejected_response" in row or "rejected_messages" in row


def _swift(row: Row) -> Row:
  _check_alone(row)
  chosen = turns.messages(row["messages"], "messages")
  if "rejected_messages" in row:
    rejected = turns.messages(row["rejected_messages"], "rejected_messages")
  else:
    answer = _answer(row["rejected_response"], "rejected_response")
    rejected = chosen[:-1] + answer
  used = {"messages", "rejected_messages", "rejected_response"}
  used |= {"rejected_videos"}
  return _chat(row, used, [], {"chosen": chosen, "rejected": rejected})


def _check_alone(row: Row) -> None:
  """Raises Fault where a rejected answer has media or a rival of its own."""
  for name in ("chosen", "rejected"):
    if name in row:
      raise Fault(f"{name!r} stands beside ms-swift's rejected answer")
  if {"rejected_response", "rejected_messages"} <= row.keys():
    raise Fault("'rejected_response' stands beside 'rejected_messages'")
  for name in MEDIA:
    if row.get(f"rejected_{name}"):
      raise Fault(f"'rejected_{name}' is not read; take it out")
  videos = row.get("rejected_videos")
  if videos and videos != row.get("videos"):
    raise Fault("'videos' and 'rejected_videos' differ; a row has one video")
  if row.get("objects"):
    raise Fault("'objects' is not read; take it out")


def _is_swift_query(row: Row) -> bool:
  return _has_rejected(row) and "query" in row and "response" in row


def _swift_query(row: Row) -> Row:
  _check_alone(row)
  asked = [*_history(row), _user(row["query"])]
  answers = {
    "chosen": _answer(row["response"], "response"),
    "rejected": _answer(row.get("rejected_response"), "rejected_response"),
  }
  used = {"query", "response", "rejected_response", "history"}
  return _chat(row, used | {"rejected_videos"}, asked, answers)


# LLaMA-Factory


def _is_sharegpt(row: Row) -> bool:
  listed = _listed(row, "conversations") or _listed(row, "messages")
  return listed and "chosen" in row and not _asks(row)


def _asks(row: Row) -> bool:
  return "question" in row or "prompt" in row


def _sharegpt(row: Row) -> Row:
  if _listed(row, "conversations") and _listed(row, "messages"):
    raise Fault("'conversations' stands beside 'messages'; take one out")
  name = "conversations" if _listed(row, "conversations") else "messages"
  asked, answers = turns.messages(row[name], name), _answers(row)
  if asked and asked[-1].get("role") == "assistant":
    if asked[-1:] != answers["chosen"]:
      raise Fault(f"{name!r} ends with an answer that is not the chosen one")
    asked = asked[:-1]
  return _chat(row, {name}, asked, answers)


def _is_alpaca(row: Row) -> bool:
  return "instruction" in row and "chosen" in row and not _asks(row)


def _alpaca(row: Row) -> Row:
  parts = [_text(row, "instruction"), _text(row, "input")]
  asked = "\n".join(part for part in parts if part)
  used = {"instruction", "input", "history"}
  return _chat(row, used, [*_history(row), _user(asked)], _answers(row))


# Texts, whose columns have our names or others that are read (data/rows.py)


def _has(row: Row, *names: str) -> bool:
  return row.keys() >= {*names}


def _with_system(row: Row) -> Row:
  """A question beneath a system turn."""
  if not row["system"]:
    return {k: v for k, v in row.items() if k != "system"}
  asked = row["question"] if "question" in row else row["prompt"]
  used = {"question", "prompt"}
  return _chat(row, used, [_user(asked)], _answers(row))


def _same(row: Row) -> Row:
  return row


PLAIN = "ours (question, chosen, rejected)"
FORMS = (
  (lists.FORM, lists.is_list, lists.as_pair),
  (
    "the official release (question, pos_pre, neg_pre)",
    lambda row: "pos_pre" in row,
    _same,
  ),
  ("ms-swift (messages, rejected_response)", _is_swift, _swift),
  (
    "ms-swift (query, response, rejected_response)",
    _is_swift_query,
    _swift_query,
  ),
  (
    "UltraFeedback (prompt_id, chosen, rejected as messages)",
    lambda row: _is_implicit(row) and "prompt_id" in row,
    _implicit,
  ),
  ("TRL (chosen, rejected as messages)", _is_implicit, _implicit),
  ("TRL (prompt, chosen, rejected as messages)", _is_explicit, _explicit),
  (
    "LLaMA-Factory, ShareGPT (conversations, chosen, rejected)",
    _is_sharegpt,
    _sharegpt,
  ),
  (
    "LLaMA-Factory, alpaca (instruction, input, chosen, rejected)",
    _is_alpaca,
    _alpaca,
  ),
  (
    "texts beneath a system turn (system, question, chosen, rejected)",
    lambda row: "system" in row and "chosen" in row and _asks(row),
    _with_system,
  ),
  (
    "RLAIF-V (ds_name, question, chosen, rejected)",
    lambda row: _has(row, "ds_name", "question", "chosen"),
    _same,
  ),
  (
    "LLaVA-Hound (video, prompt, chosen, rejected)",
    lambda row: _has(row, "video", "prompt", "chosen"),
    _same,
  ),
  (
    "TRL (prompt, chosen, rejected)",
    lambda row: _has(row, "prompt", "chosen"),
    _same,
  ),
)
