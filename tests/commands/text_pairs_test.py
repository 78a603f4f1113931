"""Any text LM trains on preference rows without video: here, one of a hub."""

import contextlib
import io
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import text_pairs
from synpo_jax import export, train
from synpo_jax.training import checkpoint, metrics
from tests.support import hub_server, next_commands

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


def command(patch, entry, **given) -> str:
  """What a command prints, its flags being read."""
  for name, value in given.items():
    patch.setattr(entry, name, SimpleNamespace(value=value))
  with contextlib.redirect_stdout(io.StringIO()) as told:
    entry.main.__wrapped__()
  return told.getvalue()


def settings(folder):
  """24 pairs for a model that only the hub has."""
  pairs = folder / "pairs.jsonl"
  rows = [ultrafeedback_row(i) for i in range(24)]
  pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
  c = text_pairs.get_config("loss=synpo")
  c.model.update(checkpoint="me/model", dtype="float32", remat="none")
  c.lora.update(rank=4, alpha=8.0, dropout=0.0)
  c.data.update(pairs=str(pairs), prefix_buckets=16, response_buckets=(8,))
  c.data.update(batch_size=8, accumulation=1, workers=0)
  c.optim.lr = 3e-2
  c.epochs = 4
  c.every.checkpoint = 5
  return c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run by the command, its hub, and the updates that were saved."""
  folder, saved, save = tmp_path_factory.mktemp("run"), [], checkpoint.save

  def noting(*arguments):
    saved.append(metrics.read_rows(folder / "run/metrics.jsonl")[-1]["step"])
    save(*arguments)

  write_model(folder / "model")
  with (
    pytest.MonkeyPatch.context() as patch,
    hub_server.serving(patch, folder / "cache") as hub,
    jax.default_matmul_precision("float32"),
  ):
    files = (folder / "model").iterdir()
    hub.files = {path.name: path.read_bytes() for path in files}
    patch.setattr(checkpoint, "save", noting)
    patch.setattr(train.hosts, "start", lambda: None)
    patch.setattr(train, "changed", dict)
    patch.setattr(train, "config_name", lambda: "text_pairs")
    given = dict(CONFIG=settings(folder), WORKDIR=str(folder / "run"))
    told = command(patch, train, **given)
    yield SimpleNamespace(folder=folder, hub=hub, saved=saved, told=told)


def test_updates_that_all_fail_end_in_one_line(run, monkeypatch):
  c = settings(run.folder)
  c.optim.lr, c.stop_after_skips = float("nan"), 3
  workdir = run.folder / "failing"
  with pytest.raises(SystemExit) as ended:
    command(monkeypatch, train, CONFIG=c, WORKDIR=str(workdir))
  said = ended.value.code
  assert said.startswith("error: 3 updates in a row had no finite loss")
  assert "\n" not in said
  logged = metrics.read_rows(workdir / "metrics.jsonl")
  assert [row["skipped_in_a_row"] for row in logged] == [0, 1, 2, 3]


def test_ultrafeedback_rows_train_a_text_lm(run):
  logged = metrics.read_rows(run.folder / "run" / "metrics.jsonl")
  assert run.saved == [5, 10, 12]  # with rows that a restart would not make
  assert len(logged) == 12
  assert logged[-1]["margin"] > logged[0]["margin"] + 0.02
  assert np.isfinite([row["loss"] for row in logged]).all()
  assert "updates 1-2" in run.told and "updates 11-12" in run.told
  assert (run.folder / "run" / "report" / "index.html").exists()
  commands = dict(next_commands.read(run.told))
  assert [*commands] == ["export", "lm_eval_model"]
  kept = json.loads((run.folder / "run" / "config.json").read_text())
  pinned = f"me/model@{hub_server.COMMIT}"
  assert kept["model"]["checkpoint"] == pinned


def test_its_adapter_is_pushed_to_the_hub(run, monkeypatch):
  """The base is read from the cache: the hub hands it out no more."""
  run.hub.failing["/me/model"] = run.hub.failing["/api/models/me/model"] = 500
  out = run.folder / "adapter"
  given = dict(WORKDIR=str(run.folder / "run"), FORMAT="peft", OUT=str(out))
  more = dict(CHECKPOINT="", CHECK=False, PUSH="me/adapter")
  told = command(monkeypatch, export, **given, **more)
  assert f"pushed: {run.hub.url}/me/adapter/commit/" in told
  assert run.hub.made == ["me/adapter"] and run.hub.private
  pushed = {path.name: path.read_bytes() for path in out.iterdir()}
  assert run.hub.pushed == pushed
  assert {"README.md", "adapter_model.safetensors"} < pushed.keys()
  base = json.loads(pushed["adapter_config.json"])
  assert base["base_model_name_or_path"] == "me/model"
  assert base["revision"] == hub_server.COMMIT
  assert run.hub.tokens >= {"Bearer hf_very_secret"}
  assert "secret" not in told and b"secret" not in b"".join(pushed.values())


def test_an_unknown_loss_is_refused():
  with pytest.raises(
    ValueError, match="loss=best: no such loss; nearest: synpo"
  ):
    text_pairs.get_config("loss=best")
