"""What a row says of media, turns and words: read, or refused by name."""

import json

import pytest

from synpo_jax.data import pairs

ROW = {"video": "a.mp4", "question": "What?", "chosen": "A.", "rejected": "B."}


def read(path, question=None):
  return pairs.read_pairs(path, question=question)


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "pairs.jsonl"

  def write(*rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path

  return write


TEXT = {"question": "What?", "chosen": "A.", "rejected": "B."}


@pytest.mark.parametrize(
  "named",
  [
    {"videos": ["a.mp4"]},
    {"videos": "a.mp4"},
    {"video_path": "a.mp4"},
    {"video": ["a.mp4"], "images": [], "audio": None},
    {"video": "a.mp4", "video_id": "x", "clip_url": "https://h/a.mp4"},
    {"video": "a.mp4", "frames": 16, "judge": {"image": "provenance"}},
  ],
)
def test_one_video_is_read_under_any_of_its_names(file, named):
  (pair,) = read(file(TEXT | named)).pairs
  assert pair.video == "a.mp4"


LOST = [
  ({"videos": ["a.mp4", ["b.mp4", 3]]}, "'videos' lists a int, not a path"),
  ({"video": "a.mp4", "videos": ["b.mp4"]}, "video and videos say different"),
  ({"videos": [{"file": "a.mp4"}]}, "'videos' lists a dict, not a path"),
  ({"clip": "a"}, "'clip' holds a video, which is not read; call it 'video'"),
  ({"videoFile": "a"}, "'videoFile' holds a video"),
  ({"video_id": 7}, "'video_id' holds a video"),
  ({"frames": ["1", "2"]}, "'frames' holds a video"),
  ({"path": "x/a.MP4"}, "'path' holds a video"),
  ({"meta": {"video_url": "u"}}, "'meta.video_url' holds a video"),
  ({"meta": [{"files": ["a.webm"]}]}, "'meta.files' holds a video"),
  ({"image": "a.png"}, "'image' holds a picture"),
  ({"video": "a.mp4", "images": ["a.png"]}, "'images' holds a picture"),
  ({"image_path": "a"}, "'image_path' holds a picture"),
  ({"audio": "a"}, "'audio' holds a sound"),
  ({"source": "a.wav"}, "'source' holds a sound"),
]


@pytest.mark.parametrize("named, reason", LOST)
def test_media_that_would_be_lost_are_refused_by_name(file, named, reason):
  with pytest.raises(ValueError, match=":1: " + reason):
    read(file(TEXT | named))


def test_words_and_numbers_about_media_are_provenance(file):
  about = {"video_caption": "x", "frames": 8, "image_count": 0, "clip_score": 1}
  assert read(file(TEXT | about | {"source": "evol"})).pairs[0].video is None


def chat(*content, answer="So."):
  parts = content[0] if len(content) == 1 else list(content)
  return [
    {"role": "user", "content": parts},
    {"role": "assistant", "content": answer},
  ]


def both(*content):
  return {"chosen": chat(*content), "rejected": chat(*content, answer="No.")}


def part(kind, **fields):
  return {"type": kind, **fields}


def test_a_video_among_the_parts_of_a_question_is_read(file):
  path = file(
    both(part("video", video="a.mp4"), part("text", text="Why?")),
    {"videos": ["b.mp4"]} | both(part("video"), part("text", text="Why?")),
    both([part("text", text="W"), part("text", text="hy?")]),
  )
  found = [(p.video, p.question) for p in read(path).pairs]
  assert found == [("a.mp4", "Why?"), ("b.mp4", "Why?"), (None, "Why?")]


WORDS = part("text", text="Why?")
PARTS = [
  ([part("image", image="a.png"), WORDS], "of type 'image' is not read"),
  ([part("audio"), WORDS], "of type 'audio' is not read"),
  ([WORDS, part("video", video="a.mp4")], "put it before the text"),
  ([part("video"), WORDS], "a part for a video, but the row names none"),
  ([part("video", video="a.mp4", fps=1), WORDS], "'fps' of a video part"),
  (["Why?"], "of type 'str' is not read"),
]


@pytest.mark.parametrize("content, reason", PARTS)
def test_other_parts_are_refused_by_name(file, content, reason):
  with pytest.raises(ValueError, match=":1: .*" + reason):
    read(file(both(content)))


def test_media_beside_a_messages_content_are_refused(file):
  row = both("Why?")
  row["chosen"][0]["images"] = row["rejected"][0]["images"] = ["a.png"]
  with pytest.raises(ValueError, match="'chosen' message 1: 'images' holds a"):
    read(file(row))


@pytest.mark.parametrize(
  "question",
  [
    "<video>\nWhat?",
    "<image>\nWhat?",
    "<video>What?",
    "What?\n<video>",
    "<|vision_start|><|video_pad|><|vision_end|>What?",
    "<Video><VideoHere></Video> What?",
  ],
)
def test_the_mark_of_the_one_video_is_taken_out_and_counted(file, question):
  read_pairs = read(file(ROW | {"question": question}, ROW))
  assert [p.question for p in read_pairs.pairs] == ["What?", "What?"]
  assert read_pairs.marks == 1


MARKS = [
  (ROW, "<image>\n<image>\nWhat?", "holds '<image>' within its text or more"),
  (ROW, "<video>\nWhat of <video>?", "holds '<video>' within its text or"),
  (ROW, "Frame1: <image>\nWhat?", "holds '<image>' within its text or more"),
  (ROW, "<audio>\nWhat?", "holds '<audio>'; sounds are not read"),
  (ROW, "<video>\n", "holds nothing but '<video>'"),
  (TEXT, "<video>\nWhat?", "holds '<video>', but the row has no video"),
]


@pytest.mark.parametrize("row, question, reason", MARKS)
def test_other_marks_of_media_are_refused(file, row, question, reason):
  with pytest.raises(ValueError, match=":1: 'question' " + reason):
    read(file(row | {"question": question}))


def test_marks_in_earlier_turns_are_refused_and_text_about_them_is_kept(file):
  asked = [{"role": "user", "content": "<video>\nHi"}, *chat("Yes?")[1:]]
  row = {"chosen": asked + chat("Why?"), "rejected": asked + chat("Why?")}
  row["rejected"][-1] = {"role": "assistant", "content": "No."}
  with pytest.raises(ValueError, match="an earlier turn holds '<video>'"):
    read(file(row))
  words = "What does the tag <video> do?"
  assert read(file(TEXT | {"question": words})).pairs[0].question == words


FOREIGN = [
  ({"problem": "What?"}, "'problem' is not read; call the question"),
  ({"conversation": [{"from": "human"}]}, "'conversation' is not read"),
  ({"system": "Be brief."}, "'system' is not read; write what comes"),
  (both("Why?") | {"tools": "[f]"}, "'tools' is not read; write what comes"),
  (TEXT | {"history": [["a", "b"]]}, "'history' is not read"),
  (TEXT | {"question": chat("a")}, "'question' is a list, not text"),
]


@pytest.mark.parametrize("row, reason", FOREIGN)
def test_words_under_other_formats_names_are_not_lost(file, row, reason):
  with pytest.raises(ValueError, match=reason):
    read(file({"chosen": "A.", "rejected": "B."} | row), question="Tell.")


def test_an_empty_system_turn_and_an_unknown_role_are_named(file):
  row, odd = both("Why?"), both("Why?")
  for messages in (row["chosen"], row["rejected"]):
    messages.insert(0, {"role": "system", "content": ""})
  for messages in (odd["chosen"], odd["rejected"]):
    messages.insert(0, {"role": "<|im_end|>", "content": "x"})
  with pytest.raises(ValueError) as error:
    read(file(row, odd))
  _, empty, unknown = str(error.value).splitlines()
  assert "'chosen' message 1: the system turn is empty; take it out" in empty
  assert "role '<|im_end|>' is none of system, developer, user" in unknown
