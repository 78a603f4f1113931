"""Templates of others: within limits, nothing lost, the end that they write."""

import time

import pytest

from synpo_jax.data import chat_templates, text
from tests.support import tokenizers_made as made


def gemma(**changed):
  """<end_of_turn> is special, and no name is mapped to it."""
  special = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
  named = dict(bos_token="<bos>", eos_token="<eos>")
  return made.byte_level(made.GEMMA, special, **named | changed)


def chatml(template=made.CHATML, added=("<|im_start|>", "<|im_end|>")):
  """ChatML's tokens added as text, not as special tokens."""
  return made.byte_level(template, added=added, eos_token="<|endoftext|>")


def llama3():
  special = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
  named = dict(bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
  return made.byte_level(made.LLAMA3, special, **named)


ENDS = [
  (gemma, "<end_of_turn>", "writes '<end_of_turn>' after an answer"),
  (chatml, "<|im_end|>", "writes '<|im_end|>' after an answer"),
  (llama3, "<|eot_id|>", "writes '<|eot_id|>' after an answer"),
  (lambda: chatml(made.PARTS), "<|im_end|>", "'<|im_end|>' after"),
  (lambda: chatml(made.VICUNA), "<|endoftext|>", "writes nothing after an"),
  (lambda: chatml(added=()), "<|endoftext|>", "'<|im_end|>', no added token"),
]


@pytest.mark.parametrize("make, end, why", ENDS)
def test_the_end_is_the_token_that_the_template_writes(make, end, why):
  tokenizer = make()
  found = text.ending(tokenizer, "tokenizer")
  assert tokenizer.convert_ids_to_tokens(found.id) == end
  assert why in found.why
  assert text.end_id(tokenizer, "tokenizer") == found.id


def test_a_mark_that_opens_an_answer_does_not_end_it():
  always = made.CHATML.replace("<|im_end|>\n", "").replace(
    "{% if add_generation_prompt %}", "{% if true %}"
  )
  tokenizer = chatml(always)
  found = text.ending(tokenizer, "tokenizer")
  assert found.id == tokenizer.eos_token_id and "opens a turn" in found.why


def test_without_a_template_and_eos_there_is_no_end():
  tokenizer = made.byte_level(None)
  with pytest.raises(ValueError, match="knows no end-of-text token, and temp"):
    text.ending(tokenizer, "vicuna")


@pytest.mark.parametrize("blocks", [[], [2, 1]])
def test_a_template_that_reads_parts_keeps_the_question(blocks):
  tokenizer = chatml(made.PARTS)
  asked = dict(blocks=blocks, history=[("system", "Be brief.")])
  ids = text.prompt_ids(tokenizer, "tokenizer", "Why so?", **asked)
  shown = [i for i in ids if i != text.IMAGE_TOKEN]
  assert len(ids) - len(shown) == sum(blocks)
  visual = "\n\n" if blocks else ""
  assert tokenizer.decode(shown) == (
    "<|im_start|>system Be brief.<|im_end|>"
    f"<|im_start|>user {visual}Why so?<|im_end|><|im_start|>assistant\n"
  )


LOSSES = [
  ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "drops or changes"),
  ("{{ messages[-1]['content'] | upper | truncate(3) }}", "drops or changes"),
  (made.CHATML.replace("messages %}", "messages[-1:] %}"), "an earlier turn"),
]


@pytest.mark.parametrize("template, reason", LOSSES)
@pytest.mark.parametrize("blocks", [[], [2]])
def test_a_template_that_loses_text_is_refused(template, reason, blocks):
  history = [("user", "first of all"), ("assistant", "fine")]
  with pytest.raises(
    ValueError, match=f"{reason}.*set data.template="
  ) as error:
    text.prompt_ids(
      chatml(template), "tokenizer", "Why?", blocks=blocks, history=history
    )
  assert len(str(error.value).splitlines()) == 1


ENDLESS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize(
  "template, reason",
  [
    (ENDLESS, "it takes more than 3 seconds"),
    ("{{ 10 ** (10 ** 9) }}", "it takes more than 3 seconds"),
    (
      "{% for i in range(9999) %}{{ 'abc' * 99 }}{% endfor %}",
      "it writes more",
    ),
    ("{{ 'a' * 10 ** 11 }}", "MemoryError"),
    ("{{ messages.nothing.at_all }}", "UndefinedError: .*nothing"),
    ("{% if %}", "TemplateSyntaxError"),
    ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    ("{{ raise_exception('No such\nthing') }}", "TemplateError: No such"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"),
  ],
)
@pytest.mark.slow
def test_a_template_fails_in_one_line_and_in_time(
  template, reason, monkeypatch
):
  monkeypatch.setattr(chat_templates, "SECONDS", 3.0)
  tokenizer, start = chatml(template), time.monotonic()
  with pytest.raises(ValueError, match=reason + ".*data.template=") as error:
    text.prompt_ids(tokenizer, "tokenizer", "Hi", blocks=[])
  assert len(str(error.value).splitlines()) == 1
  assert (
    time.monotonic() - start < 200
  )  # with starts of processes, on any machine
  # The next template finds a renderer again.
  assert text.prompt_ids(chatml(), "tokenizer", "Hi", blocks=[])


def test_turns_that_a_template_refuses_are_said():
  for history, reason in (
    ([("system", "Be brief.")], "System role not supported"),
    ([("user", "a")], "roles must alternate"),
  ):
    with pytest.raises(ValueError, match=reason):
      text.prompt_ids(gemma(), "tokenizer", "Hi", blocks=[], history=history)


@pytest.mark.parametrize("make", [gemma, chatml, llama3])
def test_renderings_are_those_of_transformers(make):
  tokenizer = make()
  turns = [("user", " <a> & 'b' \n"), ("assistant", "c"), ("user", "d")]
  expected = tokenizer.apply_chat_template(
    [{"role": role, "content": words} for role, words in turns],
    tokenize=False,
    add_generation_prompt=True,
  )
  assert (
    chat_templates.render(tokenizer, turns, answer=True, parts=False)
    == expected
  )
  ids = text.prompt_ids(
    tokenizer, "tokenizer", "d", blocks=[], history=turns[:-1]
  )
  assert ids == tokenizer.encode(expected, add_special_tokens=False)
