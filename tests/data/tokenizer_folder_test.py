"""Folders without a tokenizer that loads, and tokens without an embedding."""

import numpy as np
import pytest

from synpo_jax.data import text, tokenizer_folder
from tests.support import tokenizers_made as made


@pytest.mark.parametrize(
  "files, reason",
  [
    ({}, "holds no tokenizer that loads \\(none of tokenizer.json"),
    ({"tokenizer.json": "{"}, "tokenizer.json: is not JSON"),
    ({"tokenizer.json": "[]"}, "tokenizer.json: is a JSON list"),
    ({"tokenizer.json": "{}"}, "loads \\(tokenizer.json: "),
    ({"tokenizer.json": '{"model": {"vocab": 3}}'}, "\\(tokenizer.json: "),
    ({"tokenizer.json": "\0" * 9}, "tokenizer.json: is not JSON"),
    ({"vocab.json": "{}", "tokenizer_config.json": "3"}, "is a JSON int"),
    ({"tokenizer.model": "no model"}, "holds no tokenizer that loads"),
  ],
)
def test_what_does_not_load_is_one_line(tmp_path, files, reason):
  for name, content in files.items():
    (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=reason) as error:
    text.load_tokenizer(tmp_path)
  assert len(str(error.value).splitlines()) == 1
  assert str(tmp_path) in str(error.value)


def test_a_damaged_tokenizer_is_one_line_or_still_one(tmp_path):
  """Bytes flipped, and ends cut off: 200 times."""
  made.chatml().save_pretrained(tmp_path)
  path, rng = tmp_path / "tokenizer.json", np.random.default_rng(0)
  whole, refused = path.read_bytes(), 0
  for number in range(200):
    damaged = bytearray(whole)
    place = int(rng.integers(len(whole)))
    if number % 4:
      damaged[place] ^= 1 << int(rng.integers(8))
    else:
      del damaged[place:]
    path.write_bytes(damaged)
    try:
      text.load_tokenizer(tmp_path)
    except ValueError as error:
      told, refused = str(error), refused + 1
      assert str(tmp_path) in told and len(told.splitlines()) == 1
  assert 50 <= refused < 200


def test_what_is_no_fault_of_the_file_goes_on(tmp_path, monkeypatch):
  made.chatml().save_pretrained(tmp_path)

  class Bug:
    def from_file(self):
      raise ZeroDivisionError

  monkeypatch.setattr(tokenizer_folder.tokenizers, "Tokenizer", Bug)
  with pytest.raises(ZeroDivisionError):
    text.load_tokenizer(tmp_path)


def test_a_generation_config_that_is_none_is_one_line(tmp_path):
  tokenizer = made.chatml()
  path = tmp_path / "generation_config.json"
  assert text.eos_ids(tmp_path, tokenizer) == (tokenizer.eos_token_id,)
  for content in ("{", '{"eos_token_id": "x"}', '{"eos_token_id": [1.5]}'):
    path.write_text(content)
    with pytest.raises(ValueError, match="generation_config.json: "):
      text.eos_ids(tmp_path, tokenizer)
  path.write_text('{"eos_token_id": [1, 2]}')
  assert text.eos_ids(tmp_path, tokenizer) == (1, 2)


def test_ids_beyond_the_embeddings_are_refused():
  tokenizer = made.byte_level(
    made.CHATML, added=("<|im_start|>", "<|im_end|>"), eos_token="<eos>"
  )
  tokenizer.name_or_path = "some/folder"
  text.check_vocabulary(tokenizer, "tokenizer", 258)  # <eos> is not used
  with pytest.raises(ValueError, match="some/folder: token '<.im_end.>' has"):
    text.check_vocabulary(tokenizer, "tokenizer", 257)
  with pytest.raises(ValueError, match="'<eos>' has the id 258 .* the 258 emb"):
    text.check_vocabulary(tokenizer, "vicuna", 258)
  with pytest.raises(ValueError, match="are beyond the 255 embeddings"):
    tokenizer_folder.check_vocabulary(tokenizer, {}, 255)
