"""Chat formats: questions and captions to token ids; no video, no arrays.

A prompt is a list of pieces of text with the visual embeddings between them.
Each piece is tokenised on its own, as the official release does, and each
embedding is stood for by IMAGE_TOKEN.
"""

import json
import pathlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from synpo_jax.data.batches import IMAGE_TOKEN
from synpo_jax.data.pairs import Message
from synpo_jax.runtime import shipped
from synpo_jax.runtime.terminal import first_line

MARK = "\ufffc"  # stands for one visual block while a prompt is put together
CLOCK = "26 Jul 2024"  # for chat templates that would write today's date


class Written(NamedTuple):
  """A chat format spelled out: BOS, head, blocks with gaps, tail, answer."""

  head: str
  gap: str
  tail: str
  text_only: str


class Chat(NamedTuple):
  """The tokenizer's own chat template; how a block stands in the question."""

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
}


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
  """The tokenizer of a checkpoint folder; nothing is downloaded."""
  try:
    return AutoTokenizer.from_pretrained(
      str(shipped.find(folder)), local_files_only=True
    )
  except (OSError, ValueError, AttributeError) as error:  # the last: no files
    raise ValueError(
      f"{folder}: holds no tokenizer that loads ({first_line(error)})"
    ) from error


def prompt_ids(
  tokenizer: PreTrainedTokenizerBase,
  template: str,
  question: str,
  *,
  blocks: Sequence[int],
  history: Sequence[Message] = (),
) -> list[int]:
  """Token ids of a prompt, up to where the caption starts.

  Args:
    template: a key of TEMPLATES.
    blocks: visual embeddings of each block (an image, or a whole video; see
      CaptionerConfig.blocks); empty for text-only rows.
    history: earlier turns, for templates of the tokenizer's own.

  Raises:
    ValueError: the template cannot express what is asked.
  """
  if MARK in question or any(MARK in text for _, text in history):
    raise ValueError("a question holds U+FFFC, which marks visual blocks")
  form = _form(template)
  plain = isinstance(form, Written)
  if plain:
    if history:
      raise ValueError(f"template {template!r} has no earlier turns")
    pieces = _written(form, question, len(blocks))
    ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
  else:
    pieces, ids = _rendered(tokenizer, form, question, len(blocks), history), []
  for piece, block in zip(pieces, [*blocks, 0], strict=True):
    ids += tokenizer.encode(
      piece, add_special_tokens=False, split_special_tokens=plain
    )
    ids += [IMAGE_TOKEN] * block
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


def _rendered(tokenizer, form: Chat, question, blocks, history) -> list[str]:
  """Pieces of the tokenizer's chat template around the visual blocks."""
  visual = form.before + form.gap.join([MARK] * blocks) + form.after
  content = (visual if blocks else "") + question
  turns = [*history, ("user", content)]
  pieces = _render(tokenizer, turns, answer=True).split(MARK)
  if len(pieces) != blocks + 1:
    raise ValueError(
      f"{tokenizer.name_or_path}: its chat template changes the question"
    )
  return pieces


def _render(tokenizer, turns: Sequence[Message], answer: bool) -> str:
  if not tokenizer.chat_template:
    raise ValueError(
      f"{tokenizer.name_or_path}: the tokenizer has no chat template; set "
      f"template to one of {', '.join(TEMPLATES)} that needs none"
    )
  return tokenizer.apply_chat_template(
    [{"role": role, "content": content} for role, content in turns],
    tokenize=False,
    add_generation_prompt=answer,
    date_string=CLOCK,
  )


def end_id(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
  """The token that ends a caption: supervised in training, stops decoding.

  For templates of the tokenizer's own, the token which these put after an
  answer (`<|im_end|>`, `<|eot_id|>`, …); else the tokenizer's EOS.
  """
  end = tokenizer.eos_token_id
  if isinstance(_form(template), Chat):
    turns = [("user", "a"), ("assistant", MARK)]
    after = _render(tokenizer, turns, answer=False).split(MARK)[-1]
    ids = tokenizer.encode(after, add_special_tokens=False)
    end = ids[0] if ids and ids[0] in tokenizer.all_special_ids else end
  if end is None:
    raise ValueError(f"{tokenizer.name_or_path}: knows no end-of-text token")
  return end


def response_ids(
  tokenizer: PreTrainedTokenizerBase, captions: Sequence[str], end: int
) -> list[list[int]]:
  """Ids of each caption without special tokens, and the supervised `end`.

  Text that spells a special token stays text.
  """
  encoded = tokenizer(
    list(captions), add_special_tokens=False, split_special_tokens=True
  )
  return [[*ids, end] for ids in encoded["input_ids"]]


def eos_ids(folder: pathlib.Path, tokenizer) -> tuple[int, ...]:
  """The tokens that end a generation: generation_config.json's, else one."""
  path = shipped.find(folder) / "generation_config.json"
  settings = json.loads(path.read_text()) if path.exists() else {}
  ids = settings["eos_token_id"] if "eos_token_id" in settings else None
  if ids is None:
    ids = tokenizer.eos_token_id
  return tuple(ids) if isinstance(ids, list) else (ids,)
