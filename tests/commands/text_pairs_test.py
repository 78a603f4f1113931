"""Any text LM trains on preference rows without video."""

import json

import jax
import numpy as np
import pytest

from configs import text_pairs
from synpo_jax import train
from synpo_jax.training import checkpoint, job, metrics
from tests.support import next_commands

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEMPLATE = (
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_model(folder):
  """A tiny random Mistral with a word tokenizer and a chat template."""
  words = "<s> </s> <user> <assistant> yes no it is a red blue ball what ?"
  vocabulary = {word: i for i, word in enumerate(words.split())}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token="no")
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
  )
  fast.add_special_tokens(
    {"additional_special_tokens": ["<user>", "<assistant>"]}
  )
  fast.chat_template = TEMPLATE
  fast.save_pretrained(folder)
  torch.manual_seed(0)
  config = transformers.MistralConfig(
    vocab_size=len(fast),
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
  )
  transformers.MistralForCausalLM(config).save_pretrained(folder)


def message(role, content):
  return {"role": role, "content": content}


def ultrafeedback_row(i):
  asked = message("user", f"what is it ? {'a ball ' * (i % 3)}")
  return {
    "prompt": asked["content"],
    "chosen": [asked, message("assistant", "it is a red ball")],
    "rejected": [asked, message("assistant", "no no no")],
    "score_chosen": 8.0,
    "score_rejected": 3.0,
  }


def test_ultrafeedback_rows_train_a_text_lm(tmp_path, monkeypatch, capsys):
  saved, save = [], checkpoint.save

  def noting(*arguments):
    saved.append(metrics.read_rows(tmp_path / "run/metrics.jsonl")[-1]["step"])
    save(*arguments)

  monkeypatch.setattr(checkpoint, "save", noting)
  model = tmp_path / "model"
  write_model(model)
  pairs = tmp_path / "pairs.jsonl"
  rows = [ultrafeedback_row(i) for i in range(24)]
  pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
  c = text_pairs.get_config("loss=synpo")
  c.model.update(checkpoint=str(model), dtype="float32", remat="none")
  c.lora.update(rank=4, alpha=8.0, dropout=0.0)
  c.data.update(pairs=str(pairs), prefix_buckets=16, response_buckets=(8,))
  c.data.update(batch_size=8, accumulation=1, workers=0)
  c.optim.lr = 3e-2
  c.epochs = 4
  c.every.checkpoint = 5
  with jax.default_matmul_precision("float32"):
    ready = job.prepare(c, tmp_path / "run")
    train.run(ready, c, tmp_path / "run")
  logged = metrics.read_rows(tmp_path / "run" / "metrics.jsonl")
  assert saved == [5, 10, 12]  # with the rows that a restart would not make
  assert len(logged) == 12
  assert logged[-1]["margin"] > logged[0]["margin"] + 0.02
  assert np.isfinite([row["loss"] for row in logged]).all()
  told = capsys.readouterr().out
  assert "updates 1-2" in told and "updates 11-12" in told
  assert (tmp_path / "run" / "report" / "index.html").exists()
  commands = dict(next_commands.read(told))
  assert [*commands] == ["export", "lm_eval_model"]


def test_an_unknown_loss_is_refused():
  with pytest.raises(
    ValueError, match="loss=best: no such loss; nearest: synpo"
  ):
    text_pairs.get_config("loss=best")
