"""Preference files of all sorts: the pairs that were written or named faults.

A failure prints the smallest file that shows it, and how to draw it again.
"""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from synpo_jax.data import pairs
from tests.support import draws

WORDS = st.text(min_size=1, max_size=12)
SCORES = st.none() | st.integers(-5, 5) | st.floats(-5, 5)
PLAIN = st.fixed_dictionaries(
  {"question": WORDS, "chosen": WORDS, "rejected": WORDS},
  optional={
    "video": st.sampled_from(("a.mp4", "b/c.webm", "ü.mov")) | WORDS,
    "chosen_score": SCORES,
    "rejected_score": SCORES,
  },
)
PARTS = st.fixed_dictionaries(
  {"type": st.sampled_from(("text", "video", "image", 3))},
  optional={"text": WORDS, "video": WORDS, "url": WORDS | st.none()},
)
MESSAGES = st.lists(
  st.fixed_dictionaries(
    {
      "role": st.sampled_from(("system", "user", "assistant", "me", None)),
      "content": WORDS | st.none() | st.lists(PARTS | WORDS, max_size=3),
    },
    optional={"tool_calls": WORDS, "image": WORDS},
  )
  | st.fixed_dictionaries(
    {"from": st.sampled_from(("system", "human", "gpt", None)), "value": WORDS}
  ),
  max_size=4,
)
VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
  lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner),
  max_leaves=4,
)
KEYS = st.sampled_from(
  (
    *("id", "prompt_id", "idx", "video", "videos", "video_path", "image"),
    *("question", "prompt", "chosen", "rejected", "pos_pre", "neg_score"),
    *("chosen_score", "rejected_score", "messages", "system", "meta"),
    *("conversations", "instruction", "input", "history", "query", "response"),
    *("rejected_response", "rejected_messages", "rejected_videos", "tools"),
  )
)
ODD = st.dictionaries(KEYS | WORDS, VALUES | MESSAGES, max_size=6)
EDITS = st.lists(
  st.tuples(st.integers(0, 10**4), st.integers(0, 255), st.booleans()),
  max_size=4,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  return tmp_path_factory.mktemp("rows") / "pairs.jsonl"


def read(file, **how):
  """The pairs of a file, or None where it is refused by name."""
  try:
    return pairs.read_pairs(file, **how).pairs
  except ValueError as error:
    assert str(error).startswith(f"{file}:"), error
    for line in str(error).splitlines()[1:]:
      assert line.startswith((f"  {file}:", "  … and ")), error
    return None


def check(found, count):
  """Every field of every pair is what the rest of a run takes it for."""
  assert len(found) <= count
  assert len({pair.id for pair in found}) == len(found)
  for pair in found:
    texts = [pair.id, pair.question, pair.chosen, pair.rejected]
    texts += [text for _, text in pair.history]
    for text in (*texts, *([] if pair.video is None else [pair.video])):
      assert isinstance(text, str) and text.encode()
    assert pair.chosen.strip() != pair.rejected.strip()


@draws.most(300)
@hypothesis.given(rows=st.lists(PLAIN, min_size=1, max_size=3), ascii=...)
def test_what_is_written_is_read(file, rows: list, ascii: bool):
  try:
    lines = [json.dumps(row, ensure_ascii=ascii).encode() for row in rows]
  except UnicodeEncodeError:
    hypothesis.reject()
  file.write_bytes(b"\n".join(lines))
  found = read(file)
  if found is None:
    return
  assert len(found) == len(rows)
  for row, pair in zip(rows, found, strict=True):
    for field in ("chosen", "rejected", "video"):
      assert getattr(pair, field) == row.get(field)
    for field in ("chosen_score", "rejected_score"):
      assert getattr(pair, field) == row.get(field)
    assert pair.question in row["question"] and not pair.history
  check(found, len(rows))


@draws.most(400)
@hypothesis.given(
  rows=st.lists(ODD | st.builds(dict.__or__, PLAIN, ODD), max_size=3),
  gap=st.none() | st.floats(-1, 1),
)
def test_odd_rows_are_read_or_named(file, rows, gap):
  lines = [json.dumps(row).encode() for row in rows]
  file.write_bytes(b"\n".join(lines) + b"\n")
  found = read(file, question="Describe it.", min_score_gap=gap)
  if found is not None:
    check(found, len(rows))


@draws.most(300)
@hypothesis.given(
  rows=st.lists(PLAIN, min_size=1, max_size=3), edits=EDITS, noise=st.binary()
)
def test_damaged_files_are_read_or_named(file, rows, edits, noise):
  content = bytearray(b"\n".join(json.dumps(row).encode() for row in rows))
  for place, byte, cuts in edits:
    at = place % len(content)
    content[at : at + 1] = b"" if cuts and len(content) > 1 else bytes([byte])
  file.write_bytes(bytes(content) + noise * (len(edits) > 2))
  found = read(file)
  if found is not None:
    check(found, bytes(content + noise).count(b"\n") + 1 + len(noise))
