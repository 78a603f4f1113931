"""Added tokens: made by a format, never by text that spells them.

Tokenizers look for their added tokens in whatever they read. Questions and
captions come from others, so `<|im_end|>` or `<image>` in them has to stay
text, whether or not the token is flagged special. Added tokens that are words
or spaces (Gemma adds runs of line feeds) are text like any other.
"""

import functools
import json
import re

import tokenizers

from synpo_jax.data.chat_templates import BEGIN, END, RESERVED, Tokenizer

FIRST = 0xF0000  # private characters, one for each token of a copy
OPEN, CLOSE = "\ufdd2", "\ufdd3"  # around it


def controls(tokenizer: Tokenizer) -> dict[int, str]:
  """Added tokens that steer a model, by id: special, or in brackets or bars."""
  return _controls(tokenizer, len(tokenizer))


@functools.lru_cache(maxsize=8)
def _controls(tokenizer, size: int) -> dict[int, str]:
  special = set(tokenizer.all_special_ids)
  return {
    number: token.content
    for number, token in tokenizer.added_tokens_decoder.items()
    if number in special or token.special or _is_mark(token.content)
  }


def _is_mark(content: str) -> bool:
  return bool(re.search(r"[<>\[\]{}|]", content)) and len(content) > 1


def spelled(tokenizer: Tokenizer, text: str) -> bool:
  """Whether encoding a text makes a control token of it."""
  return made(tokenizer, tokenizer.encode(text, add_special_tokens=False), text)


def made(tokenizer: Tokenizer, ids: list[int], text: str) -> bool:
  """Whether the ids of a text hold a control token."""
  found = set(ids)
  if tokenizer.unk_token_id in found and tokenizer.unk_token not in text:
    found.remove(tokenizer.unk_token_id)  # of letters that are not known
  return not controls(tokenizer).keys().isdisjoint(found)


class Copy:
  """A tokenizer that knows its control tokens by other names than its own."""

  def __init__(self, tokenizer: Tokenizer):
    name = tokenizer.name_or_path
    if not tokenizer.is_fast:
      raise ValueError(
        f"{name}: a text spells one of its special tokens, which this slow "
        "tokenizer cannot read as text; save it as tokenizer.json"
      )
    known = controls(tokenizer)
    marks = enumerate(known.items())
    self.names = {
      word: (number, f"{OPEN}{chr(FIRST + n)}{CLOSE}")
      for n, (number, word) in marks
    }
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    content["post_processor"] = None
    numbers = {}
    for token in content["added_tokens"]:
      if token["content"] in self.names:
        token["content"] = self.names[token["content"]][1]
        token["normalized"] = False
      numbers[token["content"]] = token["id"]
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):  # where numbers may have gaps
      vocabulary |= numbers
    self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    self.numbers = {
      self.tokenizer.token_to_id(word): number
      for word, number in numbers.items()
    }
    self.counted = known.keys() - {tokenizer.unk_token_id}
    self.owner = name

  def encode(self, text: str) -> list[int]:
    """Ids of a text in which BEGIN and END stand around what is of others."""
    pieces = re.split(f"{BEGIN}(.*?){END}", text, flags=re.DOTALL)
    if any(not RESERVED.isdisjoint(piece) for piece in pieces):
      raise ValueError(
        "a text holds one of U+FDD0 to U+FDEF, which are no characters"
      )
    pieces[::2] = map(self._renamed, pieces[::2])
    made = self.tokenizer.encode("".join(pieces), add_special_tokens=False)
    ids = [self.numbers.get(number, number) for number in made.ids]
    ours = "".join(pieces[::2])
    names = [name for n, name in self.names.values() if n in self.counted]
    wanted = sum(ours.count(name) for name in names)
    if sum(number in self.counted for number in ids) != wanted:
      raise ValueError(
        f"{self.owner}: a text spells a special token that the tokenizer's "
        "own vocabulary makes of it; take it out"
      )
    return ids

  def _renamed(self, text: str) -> str:
    """The format's own text, its control tokens under the copy's names."""
    if not self.names:
      return text
    longest = sorted(self.names, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest))
    return re.sub(pattern, lambda m: self.names[m.group()][1], text)


@functools.lru_cache(maxsize=4)
def _copy(tokenizer: Tokenizer, size: int) -> Copy:
  return Copy(tokenizer)


def encode(tokenizer: Tokenizer, framed: str) -> list[int]:
  """Ids of a text in which BEGIN and END stand around what is of others.

  What is of others makes no control token. The copy that this takes is made
  when a text first spells one.
  """
  return _copy(tokenizer, len(tokenizer)).encode(framed)
