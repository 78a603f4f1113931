"""Exports loaded by Transformers and PEFT: every family, and what goes wrong.

The names of an adapter's tensors are held against the modules of Transformers'
classes and against the prefixes that vLLM maps: `hf_to_vllm_mapper` of its
wrappers puts `model.language_model.` at `language_model.model.`, where it looks
for layers (vllm/model_executor/models, looked up in 2026).
"""

import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from synpo_jax import export
from synpo_jax.models import captioner as captioning
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights import (
  adapters,
  peft,
  reload_worker,
  reloading,
  tensor_names,
)
from synpo_jax.weights.config_reading import captioner_config
from synpo_jax.weights.learned import Learned
from tests.support import families, peers
from tests.support.exported_runs import (
  ADAPTER,
  TEXT,
  random_,
  random_lora,
  write_run,
)
from tests.support.paths import ROOT
from tests.support.read_folder import read_folder

pytestmark = pytest.mark.slow

WRAPPED = {  # family -> its tiny model
  "llava": "llava",
  "llava_next_video": "next_video",
  "llava_onevision": "onevision",
  "qwen2_vl": "qwen2",
  "qwen2_5_vl": "qwen_whole_windows",
  "qwen3_vl": "qwen3_tied",
}
# Where their adapters are; elsewhere on the decoder alone.
WIDE = {
  "auroracap": ("projector", "tower"),
  "llava": ("decoder", "projector", "tower"),
  "qwen2_5_vl": ("decoder", "tower"),
  "qwen3_vl": ("projector", "tower"),
}
FAMILIES = ("llama", "auroracap", "llava_video", *WRAPPED)
ADAPTER_FILE = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def here(monkeypatch):
  """The worker in this process, which has imported PyTorch already."""

  def ask(said, held):
    return reloading.Logits(**reload_worker.logits(said, held))

  monkeypatch.setattr(reloading, "ask", ask)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
  """family -> (base, workdir), made once."""
  made = {}

  def run(family, wide=False):
    name = f"{family}-wide" if wide else family
    if name not in made:
      folder = tmp_path_factory.mktemp(name)
      write_base(family, folder / "base")
      lora = ADAPTER
      if wide:
        lora = dataclasses.replace(lora, where=WIDE[family], tower_layers=1)
      module = captioning.make(read_folder(folder / "base")[0], lora)
      trained = {"lora": random_lora(module)}
      write_run(folder / "run", folder / "base", trained, lora)
      made[name] = folder / "base", folder / "run"
    return made[name]

  return run


def write_base(family, folder):
  if family == "llama":
    sizes = transformers.LlamaConfig(**TEXT)
    random_(transformers.LlamaForCausalLM(sizes)).save_pretrained(folder)
  elif family not in WRAPPED:
    families.write(family, folder)
  else:
    peers.published(WRAPPED[family], folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_used_by_transformers_and_vllm(run_of, family, tmp_path):
  base, run = run_of(family)
  out = tmp_path / "out"
  export.export(run, "peft", out)
  assert "change by" in export.check(run, "peft", out)
  tensors = load_file(out / ADAPTER_FILE)
  modules = {name.rpartition(".lora_")[0] for name in tensors}
  modules = {name.removeprefix("base_model.model.") for name in modules}
  start = (
    "model.language_model.layers." if family in WRAPPED else "model.layers."
  )
  assert all(name.startswith(start) for name in modules)
  place = "language_model.model.layers." if family in WRAPPED else start
  mapped = {vllm_name(name) for name in modules}
  assert all(name.startswith(place) for name in mapped)
  # Named for a language model by itself: it would load and change nothing.
  other = {k.replace("language_model.", "no."): v for k, v in tensors.items()}
  if family in WRAPPED:
    save_file(other, out / ADAPTER_FILE)
    with pytest.raises(
      ValueError, match="no place for base_model.model.model.no"
    ):
      export.check(run, "peft", out)


TOWERS = {
  "llava": "vision_tower.vision_model.encoder.layers.1.mlp.fc2",
  "qwen2_5_vl": "visual.blocks.3.mlp.gate_proj",
  "qwen3_vl": "visual.blocks.3.mlp.linear_fc1",
}


@pytest.mark.parametrize("family", TOWERS)
def test_adapters_on_what_sees_are_used_by_transformers(
  run_of, family, tmp_path
):
  """And read again by us, to the last bit."""
  _, run = run_of(family, wide=True)
  out = tmp_path / "out"
  export.export(run, "peft", out)
  assert "change by" in export.check(run, "peft", out)
  assert f"base_model.model.model.{TOWERS[family]}.lora_A.weight" in load_file(
    out / ADAPTER_FILE
  )
  config = captioner_config(run_of(family)[0])
  ours, again = adapters.read_run(run), adapters.read(out, config)
  jax.tree.map(np.testing.assert_array_equal, ours.lora, again.lora)
  assert again.config.where == ours.config.where == WIDE[family]


def test_an_adapter_without_a_place_in_transformers_is_merged(run_of, tmp_path):
  _, run = run_of("auroracap", wide=True)
  with pytest.raises(ValueError, match="on the projector and the tower; .*erg"):
    export.export(run, "peft", tmp_path / "peft")
  export.export(run, "merged", tmp_path / "merged")
  assert "change by" in export.check(run, "merged", tmp_path / "merged")


@pytest.mark.parametrize("family", tensor_names.UNWRAPPED)
def test_no_adapter_leaves_for_a_class_that_is_not_there(family, tmp_path):
  config = captioner_config(families.ARCHITECTURES[family])
  assert config.connector.family == family
  seeing = Learned({"decoder": {}, "tower": {}}, ADAPTER, {})
  with pytest.raises(ValueError, match="on the tower; .* use --format=merged"):
    peft.write(tmp_path, seeing, config, base="")
  assert not list(tmp_path.iterdir())


def vllm_name(module):
  start = "model.language_model."
  if module.startswith(start):
    return "language_model.model." + module.removeprefix(start)
  return module


@pytest.mark.parametrize("family", ["auroracap", "qwen2_5_vl", "qwen3_vl"])
def test_merged_weights_are_used_by_transformers(run_of, family, tmp_path):
  base, run = run_of(family, wide=family == "qwen3_vl")
  out = tmp_path / "out"
  export.export(run, "merged", out)
  assert "change by" in export.check(run, "merged", out)
  for file in out.glob("*.safetensors"):
    shutil.copy(base / file.name, file)  # as if nothing had been merged
  with pytest.raises(ValueError, match="without effect in Transformers"):
    export.check(run, "merged", out)


def changed(folder, tensors=lambda x: x, **options):
  path = folder / "adapter_config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | options))
  arrays = load_file(folder / ADAPTER_FILE)
  save_file(
    {name: tensors(x).astype(x.dtype) for name, x in arrays.items()},
    folder / ADAPTER_FILE,
  )


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(lora_alpha=7.0), "out: differs in Transformers: logits up to"),
    (dict(tensors=lambda x: x * 0), "out: is without effect in Transformers"),
    (dict(tensors=lambda x: x * 1.01), "out: differs in Transformers"),
    (dict(target_modules=["q_proj"]), "PEFT has no place for .* and 35 more"),
  ],
)
def test_an_adapter_that_is_another_is_refused(
  run_of, change, message, tmp_path
):
  _, run = run_of("llama")
  out = tmp_path / "out"
  export.export(run, "peft", out)
  changed(out, **change)
  with pytest.raises(ValueError, match=message):
    export.check(run, "peft", out)


def test_a_run_that_learned_nothing_is_told(run_of, tmp_path):
  base, run = run_of("llama")
  module = Captioner(read_folder(base)[0], ADAPTER)
  still = {
    "lora": {
      "decoder": jax.tree.map(np.zeros_like, random_lora(module)["decoder"])
    }
  }
  write_run(tmp_path / "run", base, still)
  export.export(tmp_path / "run", "peft", tmp_path / "out")
  with pytest.raises(ValueError, match="without effect here .* train for lon"):
    export.check(tmp_path / "run", "peft", tmp_path / "out")


def test_an_adapter_names_its_base_as_peft_takes_it(run_of, tmp_path):
  base, run = run_of("llama")
  config = captioner_config(base)
  for given in (
    ("me/base@abc", "me/base", "abc"),
    (str(base), str(base), None),
  ):
    peft.write(tmp_path, adapters.read_run(run), config, base=given[0])
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (said["base_model_name_or_path"], said["revision"]) == given[1:]


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
  real = importlib.metadata.version

  def version(name):
    if name == "peft":
      raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  with pytest.raises(ValueError, match=r"peft is not installed: .*\[check\]"):
    reloading.require()


def test_the_command_checks_in_a_process_with_torch(run_of, tmp_path):
  _, run = run_of("llava_onevision")
  command = [sys.executable, "-m", "synpo_jax.export", f"--workdir={run}"]
  command += ["--format=peft", f"--out={tmp_path / 'out'}", "--check"]
  env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
    command, cwd=ROOT, env=env, capture_output=True, text=True
  )
  assert "checked with Transformers: logits" in done.stdout, done.stderr
