"""A text model's adapter and merged checkpoint, reloaded by others.

The oracles are torch, transformers and peft, which read the written folders
by themselves; ours runs with the adapter beside the weights.
"""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from synpo_jax import export
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import adapters, fingerprint, learned
from tests.support import hub_server
from tests.support.exported_runs import (
  ADAPTER,
  NEW,
  PROMPT,
  TEXT,
  our_logits,
  our_tokens,
  random_,
  random_lora,
  write_run,
)
from tests.support.read_folder import read_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
  """(workdir, base folder, our module, its variables)."""
  folder = tmp_path_factory.mktemp("text")
  base = folder / "base"
  model = random_(
    transformers.LlamaForCausalLM(
      transformers.LlamaConfig(**TEXT, rope_theta=500.0)
    )
  )
  model.save_pretrained(base, max_shard_size="20KB")
  config, params = read_folder(base)
  module = Captioner(config, ADAPTER)
  variables = {"params": params, "lora": random_lora(module)}
  run = write_run(folder / "run", base, {"lora": variables["lora"]})
  return run, base, module, variables


def check_text_model(model, module, variables):
  """Same logits and the same greedy tokens, from torch's own generate."""
  tokens = torch.tensor(PROMPT, dtype=torch.long)
  with torch.no_grad():
    expected = model(input_ids=tokens).logits.numpy()
    made = model.generate(
      input_ids=tokens, max_new_tokens=NEW, do_sample=False, pad_token_id=2
    )
  ours = our_logits(module, variables, PROMPT)
  assert np.abs(expected).max() > 0.5
  np.testing.assert_allclose(ours, expected, atol=1e-4)
  greedy = made[0, PROMPT.shape[1] :].tolist()
  greedy += [2] * (NEW - len(greedy))
  assert our_tokens(module, variables, PROMPT) == greedy


def test_peft_reads_the_adapter(text_run, tmp_path):
  run, base, module, variables = text_run
  out = tmp_path / "adapter"
  assert "rank 4" in export.export(run, "peft", out)
  model = transformers.LlamaForCausalLM.from_pretrained(base)
  adapted = peft.PeftModel.from_pretrained(model, out)
  check_text_model(adapted, module, variables)
  said = adapted.peft_config["default"]
  assert (said.r, said.lora_alpha, said.lora_dropout) == (4, 6.0, 0.05)
  merged = adapted.merge_and_unload()
  check_text_model(merged, module, variables)


def test_our_reading_of_the_adapter_is_its_writing(text_run, tmp_path):
  run, _, module, variables = text_run
  export.export(run, "peft", tmp_path)
  read = adapters.read(tmp_path, module.config)
  assert (read.config.rank, read.config.alpha) == (4, 6.0)
  jax.tree.map(np.testing.assert_array_equal, read.lora, variables["lora"])


def test_pefts_own_adapter_reads_as_ours(text_run, tmp_path):
  """The other way round: made, trained and saved by peft."""
  _, base, module, _ = text_run
  model = transformers.LlamaForCausalLM.from_pretrained(base)
  theirs = peft.get_peft_model(
    model,
    peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"]),
  )
  for name, value in random_(theirs.base_model.model).named_parameters():
    assert value.requires_grad == ("lora_" in name)
  theirs.save_pretrained(tmp_path)
  frozen = theirs.base_model.model
  table = {
    name.replace(".base_layer", ""): value.detach().numpy()
    for name, value in frozen.named_parameters()
    if "lora_" not in name
  }
  save_file(table, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text((base / "config.json").read_text())
  _, params = read_folder(tmp_path)
  read = adapters.read(tmp_path, module.config)
  assert read.config.rank == 3 and set(read.lora["decoder"]["layers"]) == {
    "attn",
    "mlp",
  }
  places = jax.tree.map(lambda leaf: leaf.sharding, params)
  merged = {"params": learned.apply(params, read, places)}
  plain = Captioner(module.config)
  with torch.no_grad():
    expected = theirs(torch.tensor(PROMPT, dtype=torch.long)).logits.numpy()
  ours = our_logits(plain, merged, PROMPT)
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_merged_checkpoint(text_run, tmp_path, monkeypatch):
  """Written, and pushed with its card by the command."""
  run, base, module, variables = text_run
  out = tmp_path / "merged"
  with hub_server.serving(monkeypatch, tmp_path / "cache") as hub:
    done = subprocess.run(
      [sys.executable, "-m", "synpo_jax.export", f"--workdir={run}"]
      + ["--format=merged", f"--out={out}", "--push=me/merged"],
      capture_output=True,
      text=True,
      env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"},
    )
  assert done.returncode == 0, done.stderr
  assert f"pushed: {hub.url}/me/merged/commit/" in done.stdout
  assert hub.pushed == {p.name: p.read_bytes() for p in out.iterdir()}
  assert "hf_very_secret" not in done.stdout + done.stderr
  assert "Bearer hf_very_secret" in hub.tokens
  card = (out / "README.md").read_text()
  assert "loss `simpo` (beta 2, gamma 0.5); adapter of rank 4, alpha 6" in card
  assert 'from_pretrained("me/merged")' in card and f"`{base.name}`" in card
  assert str(base.parent) not in card
  assert "21 tensors changed" in done.stdout  # seven in each of three layers
  model = transformers.AutoModelForCausalLM.from_pretrained(out)
  check_text_model(model, module, variables)
  made, files = ({p.name for p in x.iterdir()} for x in (out, base))
  assert made == files | {"export.json", "README.md"}
  for file in base.glob("*.safetensors"):
    old, new = load_file(file), load_file(out / file.name)
    for name in old:
      same = np.array_equal(old[name], new[name])
      assert same == ("_proj" not in name)


def test_a_merged_checkpoint_keeps_its_dtype(text_run, tmp_path):
  run, base, _, _ = text_run
  half = transformers.LlamaForCausalLM.from_pretrained(
    base, dtype=torch.bfloat16
  )
  half.save_pretrained(tmp_path / "half")
  export.export(run, "merged", tmp_path / "out", str(tmp_path / "half"))
  whole = tmp_path / "whole"
  export.export(run, "merged", whole)
  exact, model = (
    transformers.AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    for path in (whole, tmp_path / "out")
  )
  assert model.dtype == torch.bfloat16
  for (name, a), b in zip(
    exact.named_parameters(), model.parameters(), strict=True
  ):
    gap = (a - b.float()).abs().max()
    assert gap <= 0.02 * a.abs().max(), name  # two roundings


def test_a_checkpoint_of_another_width_is_said(text_run, tmp_path):
  sizes, narrow = TEXT | dict(hidden_size=16), str(tmp_path / "narrow")
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
  model.save_pretrained(narrow)
  with pytest.raises(ValueError, match="q_proj.*is .*the run trained"):
    export.export(text_run[0], "merged", tmp_path / "out", narrow)


def test_an_export_is_never_a_mix(text_run, tmp_path):
  """Nor one form in the other's folder, nor half of one."""
  run, base, _, _ = text_run
  out = tmp_path / "out"
  export.export(run, "merged", out)
  old = {path: path.read_bytes() for path in out.iterdir()}
  with pytest.raises(ValueError, match="holds an export as merged, .* as peft"):
    export.export(run, "peft", out)
  one = tmp_path / "one"  # the same weights in one file
  transformers.LlamaForCausalLM.from_pretrained(base).save_pretrained(one)
  export.export(run, "merged", out, str(one))
  names = {path.name for path in out.glob("*.safetensors*")}
  assert names == {"model.safetensors"} and len(old) > 3
  assert {path.name for path in tmp_path.iterdir()} == {"one", "out"}


def test_an_export_wants_the_weights_that_the_run_started_from(
  text_run, tmp_path
):
  run, base, _, _ = text_run
  kept = {"captioner_digest": fingerprint.captioner(str(base), "")}
  (run / "identity.json").write_text(json.dumps(kept))
  try:
    moved, other = shutil.copytree(base, tmp_path / "moved"), tmp_path / "other"
    export.export(run, "peft", tmp_path / "out", str(moved))
    file = next(moved.glob("*.safetensors"))
    table = load_file(file)
    table[next(iter(table))] *= 3
    save_file(table, file, {"format": "pt"})
    for form in ("peft", "merged"):
      with pytest.raises(
        ValueError, match="not the files that .* started from"
      ):
        export.export(run, form, other, str(moved))
    assert not other.exists()
  finally:
    (run / "identity.json").unlink()
