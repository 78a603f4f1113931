"""Rounds of training: which settings fit, and those of each round's stages."""

import pathlib
from typing import NamedTuple

from synpo_jax.pairing import captioners, older

# Keys that a round sets, by what is to be set in their place.
OURS = {
  "pairs.model.checkpoint": "checkpoint",
  "pairs.model.adapter": "checkpoint",
  "train.model.checkpoint": "checkpoint",
  "train.begin.adapter": "checkpoint",
  "evaluate.model.checkpoint": "checkpoint",
  "evaluate.model.adapter": "checkpoint",
  "train.data.pairs": "pairs.videos",
}
# Settings that have to be alike where the captioner learns, and where it
# speaks: keys of train -> of pairs.model and evaluate.model.
ALIKE = {
  "data.template": "template",
  "model.kept_ratio": "kept_ratio",
  "pixels.resize": "pixels.resize",
  "pixels.resample": "pixels.resample",
  "pixels.tokens": "pixels.tokens",
}
CHOICES = {
  "adapter": ("merge", "keep"),
  "reference": ("refresh", "first"),
  "load_adapters": ("", "vllm"),
}
STAGES = {"segments", "clips", "candidates", "judge", "pairs"}


class Policy(NamedTuple):
  """The captioner that a round begins with, or ends with.

  checkpoint: its folder. adapter: the run that learned what lies on it, or "".
  exported: that adapter as PEFT's folder, where a server loads it, and served:
  its name there; "" for what the config names.
  """

  checkpoint: str
  adapter: str = ""
  exported: str = ""
  served: str = ""


def check(c) -> None:
  """Raises ValueError, in one line, for settings that do not go together."""
  if c.rounds < 1:
    raise ValueError(f"rounds={c.rounds}: give a number of 1 or more")
  for key, known in CHOICES.items():
    if c[key] not in known:
      names = ", ".join(filter(None, known))
      raise ValueError(f"{key}={c[key]!r}: choose {names}")
  older.check(c.older, c.older_share)
  _check_keys(c)
  _check_alike(c)
  if c.reference == "first" and c.adapter == "merge":
    raise ValueError(
      "reference=first with adapter=merge: merged weights are all that is left "
      "of the first captioner; set adapter=keep, or reference=refresh"
    )
  if not c.train.lora.rank and c.adapter == "keep":
    raise ValueError("adapter=keep: train.lora.rank=0 has none; set a rank")
  _check_served(c)


def _check_keys(c) -> None:
  if not c.checkpoint:
    raise ValueError("checkpoint: name the captioner that rounds begin with")
  for key, way in OURS.items():
    section, _, rest = key.partition(".")
    value = _get(c[section], rest)
    if value:
      raise ValueError(
        f"{key}={value}: each round sets it; leave it empty, and set {way}"
      )
  stages = {name.strip() for name in c.pairs.stages.split(",")}
  if not stages >= STAGES:
    raise ValueError(
      f"pairs.stages={c.pairs.stages}: a round wants all of them"
    )


def _get(section, path: str):
  """A key of a config by its dotted path; None where there is no such key."""
  for part in path.split("."):
    if part not in section:
      return None
    section = section[part]
  return section


def _check_alike(c) -> None:
  for name, section in (("pairs", c.pairs), ("evaluate", c.evaluate)):
    if "adapter" not in section.model:
      raise ValueError(
        f"{name}.benchmark={section.benchmark}: it scores no captioner; take "
        "another config"
      )
    if section.model.endpoint:
      continue
    for ours, theirs in ALIKE.items():
      learns, speaks = _get(c.train, ours), _get(section.model, theirs)
      if learns != speaks:
        raise ValueError(
          f"{name}.model.{theirs}={speaks}, but train.{ours}={learns}: the "
          "captioner has to speak as it learned; set both alike"
        )


def is_served(c) -> bool:
  """Whether an endpoint writes captions of a round."""
  return bool(c.pairs.model.endpoint or c.evaluate.model.endpoint)


def _check_served(c) -> None:
  if not is_served(c):
    if c.load_adapters:
      raise ValueError(
        f"load_adapters={c.load_adapters}: no endpoint writes captions; set "
        "pairs.model.endpoint, or leave it empty"
      )
    return
  if not c.load_adapters:
    raise ValueError(
      "pairs.model.endpoint, evaluate.model.endpoint: the server would go on "
      "with the first captioner; load_adapters=vllm has it load each round's "
      "adapter, or leave the endpoint empty, and captions are written here"
    )
  if c.adapter != "keep" or c.train.trainable != "lora/.*":
    raise ValueError(
      f"load_adapters={c.load_adapters} with adapter={c.adapter} and "
      f"train.trainable={c.train.trainable}: a server keeps its weights and "
      "takes adapters alone; set adapter=keep and train.trainable='lora/.*'"
    )


def pair_config(c, number: int, policy: Policy):
  """The config of make_pairs for a round; other seeds draw other captions."""
  p = c.pairs.copy_and_resolve_references()
  p.seed += number
  if captioners.loads_checkpoint(p):
    _put(p.model, policy)
  if p.model.endpoint and policy.served:
    p.serving.model = policy.served
  return p


def evaluate_config(c, policy: Policy):
  """The config of evaluate for what a round ends with."""
  e = c.evaluate.copy_and_resolve_references()
  if not e.model.endpoint:
    _put(e.model, policy)
  elif policy.served:
    e.serving.model = policy.served
  return e


def _put(model, policy: Policy) -> None:
  model.update(checkpoint=policy.checkpoint, adapter=policy.adapter)


def train_config(c, number: int, policy: Policy, pairs: pathlib.Path):
  """The config of train for a round that learns from a file of pairs."""
  t = c.train.copy_and_resolve_references()
  t.seed += number
  t.model.checkpoint = policy.checkpoint
  t.data.pairs, t.data.videos = str(pairs), c.pairs.root
  if policy.adapter:
    refresh = c.reference == "refresh"
    reference = "adapter" if refresh else "checkpoint"
    t.begin.update(adapter=policy.adapter, reference=reference)
  return t
