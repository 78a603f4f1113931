"""Who writes the captions of a stage: a checkpoint here, or a served model."""

from collections.abc import Callable
from pathlib import Path

from synpo_jax.data.limits import Limits
from synpo_jax.generation import served, serving, shots
from synpo_jax.generation.serving import Serving
from synpo_jax.pairing import corrupting, ledger
from synpo_jax.pairing.stages import Work
from synpo_jax.runtime import buckets

STAGES = ("clips", "candidates")
WRITTEN = ("clips", corrupting.STAGE, "candidates")  # in this order


def asked_elsewhere(c, stages: list[str]) -> dict[str, Serving]:
  """How model.endpoint is asked, by each stage of these that it writes.

  Raises ValueError, in one line, for what it cannot be asked.
  """
  if not c.model.endpoint:
    return {}
  chosen = _chosen(c)
  for name in chosen:
    if name not in STAGES:
      raise ValueError(f"served: {name!r} is none of {', '.join(STAGES)}")
  how = Serving(**c.serving.to_dict())
  if not loads_checkpoint(c):
    serving.check_unused(c.model.to_dict())
  if "candidates" in chosen:
    chosen.append(corrupting.STAGE)  # by the same captioner
  found = [name for name in chosen if name in stages]
  for name in found:
    section = settings(c, name)
    section.pop("frames")
    ask = shots.Ask(seed=c.seed, **section)
    serving.check(c.model.endpoint, how, ask, name)
  return dict.fromkeys(found, how)


def settings(c, stage: str) -> dict:
  """What the captions of a stage are asked with: a section of the config."""
  if stage == corrupting.STAGE:
    return corrupting.settings(c)
  return c[stage].to_dict()


def loads_checkpoint(c) -> bool:
  """Whether the checkpoint writes the captions of any stage."""
  return not c.model.endpoint or not set(STAGES) <= set(_chosen(c))


def _chosen(c) -> list[str]:
  return [name.strip() for name in c.served.split(",")]


def open_work(
  c,
  workdir: Path,
  stage: str,
  how: Serving | None,
  share: ledger.Share,
  faults: dict[str, str],
  open_writer: Callable,
) -> Work:
  """What a stage works with; its captioner is loaded, or connected to.

  how: of asked_elsewhere. open_writer: called with c.placing and c.model for a
  captioner here.
  """
  if how is None:
    writer = open_writer(placing(c, stage), **here(c))
  else:
    own = ledger.answers(workdir, share)
    writer = served.Writer(
      c.model.endpoint,
      how,
      own,
      faults.__setitem__,
      serving.fingerprint(ledger.written(workdir, stage).values()),
      tuple(path for path in ledger.all_answers(workdir) if path != own),
    )
  return Work(
    workdir,
    buckets.at(c.root),
    writer,
    c.readers,
    Limits(**c.limits),
    share,
    faults,
    whole=how is not None and how.send == "video",
    note=lambda tokens: f"{tokens:,} tokens" if how is None else writer.cost(),
  )


def placing(c, stage: str) -> dict:
  """The `placing` section for a stage: of clips, c.parts grow at once."""
  section = c.placing.to_dict()
  return section | ({"batch_size": c.parts} if stage == "clips" else {})


def here(c) -> dict:
  """The `model` section as far as a checkpoint's captions depend on it."""
  model = c.model.to_dict()
  del model["endpoint"]
  return model


def named(model: dict) -> str:
  """A captioner in a few words."""
  if "endpoint" in model:
    return f"{model['model']} at {model['endpoint']}"
  names = [model[key] for key in ("checkpoint", "adapter") if model[key]]
  return " with ".join(names)
