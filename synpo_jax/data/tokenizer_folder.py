"""What a checkpoint folder says of its tokenizer."""

import json
from pathlib import Path

import tokenizers

from synpo_jax.data import added_tokens
from synpo_jax.data.chat_templates import Tokenizer
from synpo_jax.runtime import buckets, shipped
from synpo_jax.runtime.terminal import first_line

# Any of these makes a tokenizer.
FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
FILES += ("spiece.model", "tekken.json")
WORDS = (".json", ".jinja", ".model", ".txt", ".tiktoken")  # all small
# What libraries raise on files of another form than they think.
MET = (OSError, ValueError, AttributeError, LookupError, TypeError)
MET += (RecursionError, ImportError, RuntimeError, AssertionError)


def load_tokenizer(folder: str | Path) -> Tokenizer:
  """The tokenizer of a checkpoint folder; nothing is downloaded.

  Raises ValueError, in one line, where there is none that can be read.
  """
  from transformers import AutoTokenizer  # late: see Tokenizer

  place = shipped.find(folder)
  with buckets.copied(place, _is_word) as local:
    _check_files(local, folder)
    try:
      found = AutoTokenizer.from_pretrained(
        str(local), local_files_only=True, trust_remote_code=False
      )
    except MET as error:
      raise _none(folder, first_line(error)) from error
  found.name_or_path = str(place)
  return found


def _is_word(path: Path) -> bool:
  return path.suffix in WORDS


def _check_files(place: Path, folder: str | Path) -> None:
  """Raises ValueError unless the folder holds a tokenizer's files."""
  if not place.is_dir():
    what = "it is a file" if place.exists() else "no such folder"
    raise _none(folder, what)
  found = [name for name in FILES if (place / name).is_file()]
  if not found:
    raise _none(folder, f"none of {', '.join(FILES)} lies there")
  for path in (place / "tokenizer_config.json", place / "tokenizer.json"):
    if path.is_file():
      _object(path)
  if "tokenizer.json" in found:
    _check_fast(place / "tokenizer.json", folder)


def _object(path: Path) -> dict:
  """The JSON object of a file, or one line."""
  try:
    found = json.loads(path.read_text("utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path}: is not JSON ({first_line(error)})") from error
  if not isinstance(found, dict):
    raise ValueError(f"{path}: is a JSON {type(found).__name__}, not an object")
  return found


def _check_fast(path: Path, folder: str | Path) -> None:
  try:
    tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:
    if type(error) is not Exception:  # the library raises just this class
      raise
    raise _none(folder, f"{path.name}: {first_line(error)}") from error


def _none(folder: str | Path, why: str) -> ValueError:
  return ValueError(
    f"{folder}: holds no tokenizer that loads ({why}); bring the files of its "
    "tokenizer there, or name their folder as model.tokenizer"
  )


def eos_ids(folder: Path, tokenizer) -> tuple[int, ...]:
  """The tokens that end a generation: generation_config.json's, else one."""
  path = shipped.find(folder) / "generation_config.json"
  ids = _object(path).get("eos_token_id") if path.exists() else None
  if ids is None:
    ids = tokenizer.eos_token_id
  ids = ids if isinstance(ids, list) else [ids]
  if not all(type(i) in (int, type(None)) for i in ids):
    raise ValueError(f"{path}: eos_token_id {ids} is no list of numbers")
  return tuple(ids)


def check_vocabulary(
  tokenizer: Tokenizer, used: dict[int, str], vocab: int
) -> None:
  """Raises ValueError for ids of texts or formats beyond the embeddings.

  Args:
    used: control tokens, by id, that a format writes. Others may lie beyond
      the table (a padding token often does): no text makes them.
    vocab: rows of the embedding table.
  """
  controls = added_tokens.controls(tokenizer)
  plain = {
    number: token
    for token, number in tokenizer.get_vocab().items()
    if number not in controls
  }
  beyond = {n: t for n, t in (plain | used).items() if n >= vocab}
  if beyond:
    number = max(beyond)
    raise ValueError(
      f"{tokenizer.name_or_path}: token {beyond[number]!r} has the id {number} "
      f"and {len(beyond)} of its ids are beyond the {vocab} embeddings of the "
      "model; the tokenizer is another model's, name the right one as "
      "model.tokenizer"
    )
