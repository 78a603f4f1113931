"""Chat formats: ids of prompts and captions, piece by piece."""

import pytest

from synpo_jax.data import text
from tests.support import tokenizers_made

IMAGE = text.IMAGE_TOKEN


@pytest.fixture(scope="module")
def llama():
  return tokenizers_made.llama()


@pytest.fixture(scope="module")
def chatml():
  return tokenizers_made.chatml()


def test_the_official_format_has_the_official_ids(llama):
  ids = text.prompt_ids(llama, "aurora", "Hi", blocks=[2, 2, 2])
  first, gap = [1, 3148, 1001, 29901, 29871], [259]
  visual = [IMAGE, IMAGE]
  head = first + visual + gap + visual + gap + visual
  assert ids[: len(head)] == head
  assert ids[len(head) : len(head) + 2] == [29871, 13]
  assert ids[-6:] == [13, 319, 1799, 9047, 13566, 29901]
  question = llama.convert_tokens_to_ids(["H", "i"])
  assert ids[len(head) + 2 : -6] == question


@pytest.mark.parametrize("frames, per_frame", [(1, 1), (8, 109), (16, 109)])
def test_the_official_prompt_length(llama, frames, per_frame):
  # 36 + n (K + 1) for a last piece of 32 tokens: 4 + 32 + n (K + 1).
  question = "Q" * (32 - 8)
  ids = text.prompt_ids(llama, "aurora", question, blocks=[per_frame] * frames)
  assert len(ids) == 36 + frames * (per_frame + 1)
  assert ids.count(IMAGE) == frames * per_frame


def test_text_alone_in_the_official_format(llama):
  ids = text.prompt_ids(llama, "aurora", "Hi", blocks=[])
  assert llama.decode(ids) == "<s> USER: Hi\n ASSISTANT:"


def test_a_placeholder_spelled_in_a_question_is_text(llama):
  ids = text.prompt_ids(llama, "aurora", "an <image>?", blocks=[3])
  assert ids.count(IMAGE) == 3
  assert "an <image>?" in llama.decode([i for i in ids if i != IMAGE])
  spelled = text.prompt_ids(llama, "aurora", "</s>", blocks=[3])
  assert 2 not in spelled
  with pytest.raises(ValueError, match="U\\+FFFC"):
    text.prompt_ids(llama, "aurora", text.MARK, blocks=[3])


def test_captions_have_no_bos_and_end_once(llama):
  end = text.end_id(llama, "aurora")
  assert end == 2
  short, spelled = text.response_ids(llama, ["ASSISTANT:", "a </s> b"], end)
  assert short == [319, 1799, 9047, 13566, 29901, 2]
  assert spelled.count(2) == 1 and llama.decode(spelled[:-1]) == " a </s> b"
  # Parsing specials again afterwards is not disturbed.
  assert llama.encode("</s>", add_special_tokens=False)[-1] == 2


def test_the_tokenizers_own_template(chatml):
  ids = text.prompt_ids(chatml, "tokenizer", "Hi", blocks=[2, 1])
  start, end = chatml.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
  encode = chatml.encode
  assert ids == (
    [start, *encode("user\n"), IMAGE, IMAGE, *encode("\n"), IMAGE]
    + [*encode("\nHi"), end, *encode("\n"), start, *encode("assistant\n")]
  )


def test_qwen3_tells_the_time_of_each_pair_of_frames(chatml):
  times = [0.0, 0.5, 1.0, 1.5, 61.0, 61.0]
  ids = text.prompt_ids(chatml, "qwen3_vl", "Hi", blocks=[2] * 3, times=times)
  marks = ["<|vision_start|>", "<|vision_end|>"]
  begin, end = chatml.convert_tokens_to_ids(marks)
  expected = []
  for seconds in ("0.2", "1.2", "61.0"):  # 0.25 and 1.25, as Python rounds
    expected += chatml.encode(f"<{seconds} seconds>")
    expected += [begin, IMAGE, IMAGE, end]
  at = ids.index(expected[0])
  assert ids[at : at + len(expected)] == expected
  assert chatml.decode(ids[at + len(expected) :]).startswith("Hi")
  with pytest.raises(ValueError, match="0 times were given for 3 blocks"):
    text.prompt_ids(chatml, "qwen3_vl", "Hi", blocks=[2] * 3)
  text.check_time("qwen3_vl", stamped=True)
  with pytest.raises(ValueError, match="'qwen_vl' does not tell the time"):
    text.check_time("qwen_vl", stamped=True)
  told = map(text.tells_time, ("qwen3_vl", "qwen_vl", "aurora"))
  assert list(told) == [True, False, False]


def test_qwens_marks_stand_around_the_video(chatml):
  ids = text.prompt_ids(chatml, "qwen_vl", "Hi", blocks=[3])
  begin, end = chatml.convert_tokens_to_ids(
    ["<|vision_start|>", "<|vision_end|>"]
  )
  at = ids.index(begin)
  assert ids[at : at + 5] == [begin, IMAGE, IMAGE, IMAGE, end]


def test_earlier_turns_are_rendered_in_order(chatml):
  history = [("system", "Be brief."), ("user", "a"), ("assistant", "b")]
  ids = text.prompt_ids(chatml, "tokenizer", "c", blocks=[], history=history)
  turns = [*history, ("user", "c")]
  written = "".join(f"<|im_start|>{r}\n{t}<|im_end|>\n" for r, t in turns)
  assert chatml.decode(ids) == written + "<|im_start|>assistant\n"


def test_the_end_is_what_the_template_puts_after_an_answer(chatml):
  end = text.end_id(chatml, "tokenizer")
  assert chatml.convert_ids_to_tokens(end) == "<|im_end|>"
  # A tokenizer rebuilt from GGUF called the opening mark its EOS.
  odd = tokenizers_made.chatml(eos="<|im_start|>")
  assert (
    odd.convert_ids_to_tokens(text.end_id(odd, "tokenizer")) == "<|im_end|>"
  )


def test_prompts_do_not_depend_on_the_day(chatml):
  dated = tokenizers_made.chatml()
  dated.chat_template = (
    "{% if not date_string is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }}" + tokenizers_made.CHATML
  )
  ids = text.prompt_ids(dated, "tokenizer", "Hi", blocks=[])
  assert dated.decode(ids).startswith("26 Jul 2024<|im_start|>")


def test_what_a_format_cannot_express_is_refused(llama):
  with pytest.raises(ValueError, match="no chat template; set template to"):
    text.prompt_ids(llama, "tokenizer", "Hi", blocks=[])
  with pytest.raises(ValueError, match="'aurora' has no earlier turns"):
    text.prompt_ids(llama, "aurora", "Hi", blocks=[], history=[("user", "a")])
  with pytest.raises(ValueError, match="template='nope'"):
    text.prompt_ids(llama, "nope", "Hi", blocks=[])


def test_tokenizers_load_from_a_folder_and_only_there(llama, tmp_path):
  llama.save_pretrained(tmp_path)
  loaded = text.load_tokenizer(tmp_path)
  for template in ("aurora", "vicuna"):
    ids = text.prompt_ids(loaded, template, "Hi", blocks=[1])
    assert ids == text.prompt_ids(llama, template, "Hi", blocks=[1])
  with pytest.raises(ValueError, match="gone: holds no tokenizer"):
    text.load_tokenizer(tmp_path / "gone")
  about = '{"tokenizer_class": "LlamaTokenizer"}'
  (tmp_path / "tokenizer.json").unlink()
  (tmp_path / "tokenizer_config.json").write_text(about)
  with pytest.raises(ValueError, match="holds no tokenizer that loads"):
    text.load_tokenizer(tmp_path)
