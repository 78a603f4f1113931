"""Chat formats: questions and captions to token ids; no video, no arrays.

A prompt is a list of pieces of text with the visual embeddings between them.
Each piece is tokenised on its own, as the official release does, and each
embedding is stood for by IMAGE_TOKEN.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from synpo_jax.data import added_tokens, chat_templates, tokenizer_folder
from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.data.chat_templates import BEGIN, END, Tokenizer
from synpo_jax.data.tokenizer_folder import eos_ids, load_tokenizer
from synpo_jax.data.turns import Message

__all__ = ["eos_ids", "load_tokenizer"]

MARK = "\ufffc"  # stands for one visual block while a prompt is put together


class Written(NamedTuple):
  """A chat format spelled out: BOS, head, blocks with gaps, tail, answer."""

  head: str
  gap: str
  tail: str
  text_only: str


class Chat(NamedTuple):
  """The tokenizer's own chat template; how a block stands in the question.

  {seconds} before a block is the time of its frames.
  """

  before: str
  gap: str
  after: str


TEMPLATES = {
  "aurora": Written(
    head="USER: ",
    gap=" ",
    tail="\n{question}\n ASSISTANT:",
    text_only="USER: {question}\n ASSISTANT:",
  ),
  "vicuna": Written(
    head="USER: ",
    gap="\n",
    tail="\n{question} ASSISTANT:",
    text_only="USER: {question} ASSISTANT:",
  ),
  "tokenizer": Chat(before="", gap="\n", after="\n"),
  "qwen_vl": Chat(before="<|vision_start|>", gap="", after="<|vision_end|>"),
  "qwen3_vl": Chat(
    before="<{seconds} seconds><|vision_start|>",
    gap="<|vision_end|><{seconds} seconds><|vision_start|>",
    after="<|vision_end|>",
  ),
}


def prompt_ids(
  tokenizer: Tokenizer,
  template: str,
  question: str,
  *,
  blocks: Sequence[int | list[int]],
  history: Sequence[Message] = (),
  times: Sequence[float] = (),
) -> list[int]:
  """Token ids of a prompt, up to where the caption starts.

  Args:
    template: a key of TEMPLATES.
    blocks: visual embeddings of each block (an image, or a whole video; see
      CaptionerConfig.blocks), or their placeholders; empty for text-only rows.
    history: earlier turns, for templates of the tokenizer's own.
    times: seconds to each frame, so many for each block, where the template
      tells them (`tells_time`).

  Raises:
    ValueError: the template cannot express what is asked.
  """
  texts = [question, *(text for _, text in history)]
  if any(MARK in text for text in texts):
    raise ValueError("a question holds U+FFFC, which marks visual blocks")
  form = _form(template)
  guarded = any(added_tokens.spelled(tokenizer, text) for text in texts)
  if isinstance(form, Written):
    if history:
      raise ValueError(f"template {template!r} has no earlier turns")
    asked = f"{BEGIN}{question}{END}" if guarded else question
    pieces = _written(form, asked, len(blocks))
    ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
  else:
    turns = [*history, ("user", question)]
    visual = _visual(form, len(blocks), times)
    pieces, ids = _rendered(tokenizer, visual, turns, len(blocks), guarded), []
  for piece, block in zip(pieces, [*blocks, 0], strict=True):
    if guarded:
      ids += added_tokens.encode(tokenizer, piece)
    else:
      ids += tokenizer.encode(piece, add_special_tokens=False)
    ids += block if isinstance(block, list) else [IMAGE_TOKEN] * block
  return ids


def _form(template: str) -> Written | Chat:
  if template not in TEMPLATES:
    known = ", ".join(TEMPLATES)
    raise ValueError(f"template={template!r}: choose one of {known}")
  return TEMPLATES[template]


def _written(form: Written, question: str, blocks: int) -> list[str]:
  if not blocks:
    return [form.text_only.replace("{question}", question)]
  tail = form.tail.replace("{question}", question)
  return [form.head, *[form.gap] * (blocks - 1), tail]


def tells_time(template: str) -> bool:
  """Whether a template writes the time of each block."""
  return "{seconds}" in getattr(_form(template), "before", "")


def check_time(template: str, stamped: bool) -> None:
  """Raises ValueError for one that leaves out what a stamped model reads."""
  if stamped and not tells_time(template):
    raise ValueError(
      f"template={template!r} does not tell the time of each pair of frames, "
      "which this model reads; set template to qwen3_vl"
    )


def _visual(form: Chat, blocks: int, times: Sequence[float]) -> str:
  """The blocks as they stand in the question, MARK for each."""
  if not blocks:
    return ""
  visual = form.before + form.gap.join([MARK] * blocks) + form.after
  if "{seconds}" not in visual:
    return visual
  step, rest = divmod(len(times), blocks)
  if rest or not step:
    raise ValueError(f"{len(times)} times were given for {blocks} blocks")
  for start in range(0, len(times), step):
    middle = (times[start] + times[start + step - 1]) / 2
    visual = visual.replace("{seconds}", f"{middle:.1f}", 1)
  return visual


def _rendered(tokenizer, visual: str, turns, blocks, guarded) -> list[str]:
  """Pieces of the tokenizer's chat template around the visual blocks."""
  try:
    text = _render(tokenizer, turns, visual, guarded)
  except chat_templates.Failed as error:
    raise _refused(tokenizer, error) from error
  pieces = text.split(MARK)
  if len(pieces) != blocks + 1:
    raise _refused(tokenizer, "it changes the question")
  return pieces


def _render(tokenizer, turns, visual: str, guarded: bool) -> str:
  """The rendering; with BEGIN and END around the texts if they are guarded."""
  how = dict(answer=True, parts=_takes_parts(tokenizer))
  framed = chat_templates.frame(tokenizer, turns, before=visual, **how)
  role, question = turns[-1]
  whole = [*turns[:-1], (role, visual + question)]
  text = chat_templates.render(tokenizer, whole, **how)
  if not guarded:
    return text
  if _unframed(framed) != text:  # a template that trims what it is given
    turns = [(role, words.strip()) for role, words in turns]
    framed = chat_templates.frame(tokenizer, turns, before=visual, **how)
  if _unframed(framed) != text:
    raise chat_templates.Failed("it changes a text that spells a token")
  return framed


def _unframed(text: str) -> str:
  return text.replace(BEGIN, "").replace(END, "")


def _takes_parts(tokenizer) -> bool:
  if not tokenizer.chat_template:
    raise ValueError(
      f"{tokenizer.name_or_path}: the tokenizer has no chat template; set "
      f"template to one of {_without()}, that need none"
    )
  return chat_templates.takes_parts(tokenizer)


def _refused(tokenizer, reason) -> ValueError:
  return ValueError(
    f"{tokenizer.name_or_path}: its chat template cannot be used here: "
    f"{reason}; change the row, or set data.template= to one of {_without()}"
  )


def _without() -> str:
  """The templates that need none of the tokenizer's."""
  return ", ".join(k for k, v in TEMPLATES.items() if isinstance(v, Written))


class Ending(NamedTuple):
  """The token that ends a caption, and how it is known."""

  id: int
  why: str


def ending(tokenizer: Tokenizer, template: str) -> Ending:
  """The token that ends a caption: supervised in training, stops decoding.

  For templates of the tokenizer's own, the added token which these put after
  an answer (`<|im_end|>`, `<|eot_id|>`, …), special or not; else the
  tokenizer's EOS.

  Raises:
    ValueError: the template cannot be used, or there is no such token.
  """
  why = f"template {template} has no token after an answer"
  if isinstance(_form(template), Chat):
    try:
      found, why = _written_end(tokenizer)
    except chat_templates.Failed as error:
      raise _refused(tokenizer, error) from error
    if found is not None:
      return Ending(found, why)
  if tokenizer.eos_token_id is None:
    raise ValueError(
      f"{tokenizer.name_or_path}: knows no end-of-text token, and {why}"
    )
  return Ending(tokenizer.eos_token_id, f"{why}, so EOS")


def _written_end(tokenizer) -> tuple[int | None, str]:
  """The token that a chat template writes after an answer, if it does."""
  parts = _takes_parts(tokenizer)
  turns = [("user", "a"), ("assistant", "b")]
  told = chat_templates.frame(tokenizer, turns, answer=False, parts=parts)
  after = told.rpartition(END)[2].strip()
  marks = added_tokens.controls(tokenizer)
  ids = tokenizer.encode(after, add_special_tokens=False) if after else []
  if not ids:
    return None, "its chat template writes nothing after an answer"
  first = marks.get(ids[0])
  if first is None or not after.startswith(first):
    return None, f"its chat template writes {after[:20]!r}, no added token"
  opens = re.match(rf"{re.escape(first)}\w|<\|?(assistant|user|model)", after)
  if opens and ids[0] != tokenizer.eos_token_id:
    return None, f"its chat template writes {first!r}, which opens a turn"
  return ids[0], f"its chat template writes {first!r} after an answer"


def end_id(tokenizer: Tokenizer, template: str) -> int:
  """The token of `ending`."""
  return ending(tokenizer, template).id


def response_ids(
  tokenizer: Tokenizer, captions: Sequence[str], end: int
) -> list[list[int]]:
  """Ids of each caption without control tokens, and the supervised `end`.

  Text that spells an added token stays text.
  """
  ids = _caption_ids(tokenizer, captions) if captions else []
  return [[*caption, end] for caption in ids]


def _caption_ids(tokenizer, captions: Sequence[str]) -> list[list[int]]:
  """Ids of each caption; those that spell a control token read with care."""
  encoded = tokenizer(
    list(captions), add_special_tokens=False, split_special_tokens=True
  )
  return [
    added_tokens.encode(tokenizer, f"{BEGIN}{words}{END}")
    if added_tokens.made(tokenizer, ids, words)
    else ids
    for ids, words in zip(encoded["input_ids"], captions, strict=True)
  ]


def check_vocabulary(tokenizer: Tokenizer, template: str, vocab: int) -> None:
  """Raises ValueError for ids of texts or template beyond the embeddings.

  vocab: rows of the model's embedding table.
  """
  prompt = prompt_ids(tokenizer, template, "a", blocks=[1], times=[0.0])
  marks = added_tokens.controls(tokenizer)
  written = [*prompt, end_id(tokenizer, template)]
  used = {number: marks[number] for number in written if number in marks}
  tokenizer_folder.check_vocabulary(tokenizer, used, vocab)
