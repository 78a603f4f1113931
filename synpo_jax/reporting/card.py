"""The README.md beside an export: what the model is, from what, how to load it.

Front matter and headings are those of Hugging Face's model cards.
"""

import importlib.metadata
import json
import pathlib

from synpo_jax import losses
from synpo_jax.models.config import CaptionerConfig
from synpo_jax.runtime import buckets, hub, json_file, settings
from synpo_jax.runtime.workdir import newest, run_config
from synpo_jax.training import metrics
from synpo_jax.weights import tensor_names

VERSIONS = ("synpo_jax", "jax", "flax", "optax", "transformers", "peft")
LOADS = {
  "peft": """from peft import PeftModel
from transformers import {auto}

base = {auto}.from_pretrained({source})
model = PeftModel.from_pretrained(base, "{place}")""",
  "merged": """from transformers import {auto}

model = {auto}.from_pretrained("{place}")""",
}
CAPTION = "caption --config=caption --config.model.checkpoint="
OURS = {  # of what reads video, and of language models
  ("peft", True): CAPTION + "{base} --config.model.adapter={place}",
  ("merged", True): CAPTION + "{place}",
  ("merged", False): "lm_eval_model --model-dir={place} --tasks=arc_easy",
}


def write(
  made: pathlib.Path,
  workdir,
  form: str,
  model: CaptionerConfig,
  place: str,
):
  """Writes `made`/README.md about a run's export.

  form: "peft" or "merged". place: where the folder will be found, a path or a
  name on a hub. Of other places the page has the last part alone: it may be
  published.
  """
  sees = model.tower is not None
  config = _without_places(run_config(workdir))
  base = config["model"]["checkpoint"]
  parts = [
    _front(base, form, sees),
    f"# {pathlib.PurePath(place).name}",
    _what(config, base, form, sees),
    _data(workdir),
    _scores(workdir),
    _loading(base, form, model, place),
    _made_with(config, settings.digest(run_config(workdir), 12)),
  ]
  (made / "README.md").write_text("\n\n".join(filter(None, parts)) + "\n")


def _without_places(value):
  """The same with nothing but the last part of each path of this machine."""
  if isinstance(value, dict):
    return {key: _without_places(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return [_without_places(inner) for inner in value]
  if isinstance(value, str) and (value.startswith("/") or "://" in value):
    return pathlib.PurePosixPath(value).name
  return value


def _front(base, form, sees) -> str:
  task = "video-text-to-text" if sees else "text-generation"
  library = "peft" if form == "peft" else "transformers"
  named = base.partition("@")[0] if hub.is_name(base) else ""
  lines = ["---", f"library_name: {library}", f"pipeline_tag: {task}"]
  lines += [f"base_model: {named}"] if named else []
  lines += ["tags:", "- preference-optimization", "- synpo_jax", "---"]
  return "\n".join(lines)


def _what(config, base, form, sees) -> str:
  kind = "video captioner" if sees else "language model"
  form = "A PEFT adapter on" if form == "peft" else "The merged weights of"
  text = f"{form} a {kind}, `{base or 'random weights'}`"
  if "loss" in config:
    loss = config["loss"]
    values = _coefficients(loss["coefficients"])
    text += f", trained on preference pairs with the loss `{loss['name']}`"
    text += f" ({values})" if values else ""
  if config["lora"]["rank"]:
    lora = config["lora"]
    text += f"; adapter of rank {lora['rank']}, alpha {lora['alpha']:g}"
  return f"{text}."


def _coefficients(values: dict) -> str:
  """Coefficients of a loss, or of each of a mixture's, in words."""
  told = (
    f"{name}: {_coefficients(value)}"
    if isinstance(value, dict)
    else f"{name} {value if isinstance(value, str) else f'{value:g}'}"
    for name, value in values.items()
  )
  return ("; " if losses.is_mixture(values) else ", ").join(told)


def _data(workdir) -> str:
  path = _run(workdir) / "data.json"
  if not path.exists():
    return ""
  rows = [
    f"| {name} | {what.partition(' (see ')[0]} | {count} |"
    for name, counts in json_file.read(path).items()
    for what, count in counts.items()
    if count
  ]
  head = ["| rows of | | |", "|---|---|---:|"]
  return "\n".join(["## Data", "", *head, *rows])


def _scores(workdir) -> str:
  """The last rows of metrics.jsonl and eval.jsonl up to the exported update."""
  step, rows = int(newest(workdir).name), []
  for name in ("metrics.jsonl", "eval.jsonl"):
    path = _run(workdir) / name
    found = metrics.read_rows(path) if path.exists() else []
    found = [row for row in found if row["step"] <= step]
    if found:
      last = dict(found[-1])
      at = last.pop("step")
      rows += [f"| {key} | {at} | {_number(v)} |" for key, v in last.items()]
  head = ["| metric | after update | |", "|---|---:|---:|"]
  told = f"The exported state is that after update {step}."
  table = ["", *head, *rows] if rows else []
  return "\n".join(["## Metrics", "", told, *table])


def _number(value) -> str:
  return f"{value:.6g}" if isinstance(value, int | float) else "not finite"


def _run(workdir) -> pathlib.Path:
  """The run's own workdir, also of its best/."""
  workdir = buckets.at(workdir)
  above = workdir.absolute().parent
  is_best = workdir.name == "best" and (above / "eval.jsonl").exists()
  return above if is_best else workdir


def _loading(base, form, model, place) -> str:
  names = dict(auto=_auto_class(model), base=base or "BASE", place=place)
  name, _, revision = names["base"].partition("@")
  names["source"] = f'"{name}"' + f', revision="{revision}"' * bool(revision)
  lines, sees = ["## Loading", ""], model.tower is not None
  if names["auto"]:
    lines += ["```python", LOADS[form].format(**names), "```", ""]
  if (form, sees) in OURS:
    ours = OURS[form, sees].format(**names)
    lines += ["With synpo_jax:", "", "```", f"python -m synpo_jax.{ours}"]
    lines += ["```"]
  return "\n".join(lines).rstrip()


def _auto_class(model) -> str | None:
  """The class of Transformers that loads such a model; None: there is none."""
  if model.tower is None:
    return "AutoModelForCausalLM"
  has_one = model.connector.family not in tensor_names.UNWRAPPED
  return "AutoModelForImageTextToText" if has_one else None


def _made_with(config, recipe: str) -> str:
  versions = [
    f"{name} {importlib.metadata.version(name)}"
    for name in VERSIONS
    if _is_installed(name)
  ]
  text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
  lines = ["## Made with", "", f"{', '.join(versions)}; recipe `{recipe}`:"]
  return "\n".join([*lines, "", "```json", text, "```"])


def _is_installed(name) -> bool:
  try:
    importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
