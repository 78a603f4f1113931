"""Entry: what a run learned, for other programs to load.

python -m synpo_jax.export --workdir=runs/dpo --format=peft --out=adapter
python -m synpo_jax.export --workdir=runs/dpo --format=merged --out=merged
python -m synpo_jax.export --workdir=runs/dpo/best --format=peft --out=best \
  --push=owner/name
python -m synpo_jax.export --workdir=runs/dpo --format=peft --out=adapter \
  --check

`peft` writes a folder that PEFT loads on top of the checkpoint. `merged`
writes the checkpoint again with the learned changes added: file by file,
tensor by tensor, everything else as it was, so no more than one tensor is in
memory at a time. What was learned on an int8 base is added to the checkpoint's
own weights, which that base was rounded from. Either folder is there whole or
not at all, and takes the place of an earlier export of its form only. Beside
it is a README.md, the model's card. --push uploads the folder as a model of the
hub, with huggingface_hub's own login or HF_TOKEN. --check loads the folder
again with Transformers and PEFT (`pip install 'synpo_jax[check]'`) and ends
with an error where it is without effect there, or gives other logits than the
run.
"""

import json
import pathlib
import tempfile

import jax
import ml_collections
from absl import flags

from synpo_jax.models import sharding as meshes
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.reporting import after, card
from synpo_jax.runtime import buckets, ending, hub, shipped
from synpo_jax.runtime.flags import OUT, WORKDIR, command
from synpo_jax.runtime.workdir import is_run, run_config
from synpo_jax.weights import (
  adapters,
  exported,
  fingerprint,
  folders,
  loading,
  merging,
  peft,
  reloading,
  safetensors_files,
)
from synpo_jax.weights.config_reading import captioner_config

FORMATS = ("peft", "merged")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "What is written.")
CHECKPOINT = flags.DEFINE_string(
  "checkpoint", "", "Folder the run started from, where it has moved."
)

PUSH = flags.DEFINE_string(
  "push", "", "owner/name of the hub's model that the folder is uploaded to."
)
CHECK = flags.DEFINE_boolean(
  "check", False, "Load the export with Transformers and PEFT, and compare."
)


def export(workdir, form: str, out, checkpoint="", push="") -> str:
  """Writes `out` whole; returns one line that says what is in it.

  out: a new folder, or an earlier export of this form, which is replaced.
  checkpoint: overrides the folder that the run's config names. push: the name
  under which the card says that the folder is found.

  Raises FileNotFoundError or ValueError, one line: no checkpoint in the
  workdir, other weights than the run started from, weights that a PEFT folder
  cannot hold, or an `out` that holds something else.
  """
  if not is_run(workdir):
    raise FileNotFoundError(
      f"{workdir}: no run there (config.json and checkpoints/)"
    )
  out = buckets.at(out)
  section, seed = run_config(workdir)["model"], run_config(workdir)["seed"]
  if checkpoint:
    section |= dict(checkpoint=checkpoint)
  _check_place(out, section["checkpoint"])
  exported.check(out, form)
  fingerprint.check_base(workdir, section["checkpoint"])
  learned = adapters.read_run(workdir)
  with exported.replacing(out, form) as made:
    if form == "peft":
      said = _write_peft(made, learned, section)
    else:
      said = _write_merged(made, learned, section, seed)
    sizes = section["checkpoint"] or section["arch"]
    card.write(made, workdir, form, captioner_config(sizes), push or str(out))
  return f"{out}: {said}"


def check(workdir, form: str, out, checkpoint="") -> str:
  """Compares an export with its run, as `reloading.check`; returns a line."""
  section, seed = run_config(workdir)["model"], run_config(workdir)["seed"]
  if checkpoint:
    section |= dict(checkpoint=checkpoint)
  if buckets.is_url(section["checkpoint"]):
    raise ValueError(
      f"{section['checkpoint']}: --check reads the checkpoint from this "
      "machine; name a copy of it here with --checkpoint"
    )
  with tempfile.TemporaryDirectory(prefix="synpo-") as temp:
    base = _torch_folder(section, seed, pathlib.Path(temp, "base"))
    return reloading.check(out, form, base, workdir, section)


def _check_place(out: pathlib.Path, checkpoint: str) -> None:
  """Raises ValueError for the folder that the run started at, or one in it."""
  if not checkpoint:
    return
  base = shipped.find(checkpoint).resolve()
  if base in (out.resolve(), *out.resolve().parents):
    raise ValueError(
      f"--out={out} is in the checkpoint that the run started at; choose "
      "another folder"
    )


def _write_peft(made: pathlib.Path, learned, section: dict) -> str:
  config = captioner_config(section["checkpoint"] or section["arch"])
  peft.write(made, learned, config, base=section["checkpoint"])
  return f"a PEFT adapter of rank {learned.config.rank}"


def _write_merged(made: pathlib.Path, learned, section: dict, seed: int) -> str:
  with tempfile.TemporaryDirectory(dir=made.parent, prefix="base-") as temp:
    base = _torch_folder(section, seed, pathlib.Path(temp, "base"))
    changed = merging.write(base, made, captioner_config(base), learned)
  _note_kept_ratio(made, section["kept_ratio"])
  return f"the checkpoint with {changed} tensors changed"


def _note_kept_ratio(out: pathlib.Path, ratio: float | None) -> None:
  """The ratio of token merging that the run used, where `load` looks for it."""
  path = out / "visual_encoder" / "config.json"
  if ratio is not None and path.exists():
    said = json.loads(path.read_text()) | {"kept_ratio": ratio}
    path.write_text(json.dumps(said, indent=2) + "\n")


def _torch_folder(section: dict, seed: int, made: pathlib.Path) -> pathlib.Path:
  """The run's checkpoint as safetensors under torch's names: as it is, or,
  where it was random or a Flax port's, written to `made` first."""
  base = section["checkpoint"]
  if base and safetensors_files.find(shipped.find(base)):
    return shipped.find(base)
  config, params = _load(section, seed)
  folders.save(made, config, params)
  words = section["tokenizer"] or base
  if words:
    merging.copy_words(shipped.find(words), made)
  return made


def _load(section, seed) -> tuple[CaptionerConfig, dict]:
  """The weights that a run started with, all on one host device."""
  sizes = {k: v for k, v in section.items() if k != "tokenizer"}
  sizes["attention"] = "xla"  # nothing is computed here
  sizes["base"] = "float"  # what an int8 base was rounded from
  host = jax.local_devices(backend="cpu")[:1]
  mesh = meshes.make_mesh(data=1, fsdp=1, model=1, devices=host)
  model = loading.make_model(**sizes, adapter={"rank": 0}, mesh=mesh)
  variables = loading.load_variables(model, section["checkpoint"], mesh, seed)
  return model.config, variables["params"]


@command("workdir", "format", "out")
def main():
  """Exports, and says what was written."""
  form, out = FORMAT.value, OUT.value
  if (PUSH.value or CHECK.value) and buckets.is_url(out):
    raise ValueError(
      f"--push and --check read a folder of this machine, and --out={out} is "
      "none; export to one"
    )
  if CHECK.value:
    reloading.require()
  print(export(WORKDIR.value, form, out, CHECKPOINT.value, PUSH.value))
  if CHECK.value:
    print(check(WORKDIR.value, form, out, CHECKPOINT.value))
  if PUSH.value:
    print(f"pushed: {hub.push(out, PUSH.value)}")
  ending.show({form: out}, _next(WORKDIR.value, form, out, CHECKPOINT.value))


def _next(workdir, form: str, out: str, checkpoint: str) -> str:
  """The command that uses what was written."""
  c = ml_collections.ConfigDict(run_config(workdir))
  c.model.checkpoint = checkpoint or c.model.checkpoint
  sizes = c.model.checkpoint or c.model.arch.to_dict()
  if captioner_config(sizes).tower is not None:
    place = (out,) if form == "peft" else ("", out)
    return after.captions(c, *place)
  if form == "merged":
    told = ("model-dir", out), ("tasks", "arc_easy,hellaswag")
    return ending.command("lm_eval_model", *told)
  whole = ("format", "merged"), ("out", f"{out}-merged")
  return ending.command("export", ("workdir", workdir), *whole)


if __name__ == "__main__":
  main()
