"""A captioner that is served elsewhere: its settings, and what it cannot do."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from synpo_jax.endpoints import secrets, server
from synpo_jax.generation import sampling
from synpo_jax.generation.sampling import Sampling
from synpo_jax.generation.shots import Ask

VERSION = "2026-12-a"  # changes when requests are put together otherwise
SENDS = ("images", "frames", "video")
TAKES = ("top_k", "seed", "n")
# Fields of a request that the other settings decide.
OURS = {"model", "messages", "temperature", "top_p", "stream", *TAKES}

CAPTIONER = server.Names(
  who="captioner",
  address="model.endpoint",
  model="serving.model (the name that model.endpoint serves)",
  key="CAPTIONER_API_KEY",
  options="serving.takes, serving.send, serving.limit_name and serving.extra",
  kept="what is captioned",
  urls=(),
  keys=("CAPTIONER_API_KEY",),
  models=(),
)


@dataclasses.dataclass(frozen=True)
class Serving:
  """A config's `serving` section: what model.endpoint serves, how it is asked.

  model: its name there, or that of an adapter. send: frames as images or as one
  video, or the file. side: pixels of a frame's longer side, at most.
  most_bytes: of what one request shows. takes: names of TAKES, with commas,
  that the API has. one_fingerprint: whether all captions must be of one system.
  asks: of one question, until there is an answer. prices: of a million tokens.
  The others are those of endpoints.calling.connect, and of concurrency.
  """

  model: str
  send: str
  side: int
  most_bytes: int
  takes: str
  one_fingerprint: bool
  asks: int
  concurrency: int
  timeout: float | int
  tries: int
  first_wait: float | int
  longest_wait: float | int
  stop_after: int
  limit_name: str
  extra: dict
  prices: dict

  def __post_init__(self):
    if self.send not in SENDS:
      raise ValueError(
        f"serving.send={self.send!r}: choose one of {', '.join(SENDS)}"
      )
    for name in sorted(self.fields):
      if name not in TAKES:
        raise ValueError(
          f"serving.takes: {name!r} is none of {', '.join(TAKES)}"
        )
    for name in sorted(OURS.union([self.limit_name]) & self.extra.keys()):
      raise ValueError(
        f"serving.extra: {name} has a setting of its own; leave it out here"
      )
    for name in ("side", "most_bytes", "asks", "concurrency", "tries"):
      if getattr(self, name) < 1:
        raise ValueError(f"serving.{name}: give a number of 1 or more")

  @property
  def fields(self) -> set[str]:
    """The names in `takes`."""
    return {name.strip() for name in self.takes.split(",")} - {""}

  def treatment(self) -> dict[str, Any]:
    """What endpoints.calling.connect wants to know beside address and model."""
    names = ("timeout", "tries", "first_wait", "longest_wait", "stop_after")
    return {n: getattr(self, n) for n in (*names, "limit_name", "extra")}

  def options(self, ask: Ask, seed: int, count: int) -> dict[str, Any]:
    """Fields of a request for up to `count` answers.

    The most probable answer is asked for one by one: engines refuse several.
    """
    found = {"temperature": ask.temperature, "top_p": ask.top_p}
    if "seed" in self.fields:
      found["seed"] = seed
    if ask.temperature > 0:
      if "top_k" in self.fields:
        found["top_k"] = ask.top_k or -1  # as engines spell all tokens
      if "n" in self.fields and count > 1:
        found["n"] = count
    return found


def of_config(c, ask: Ask, section: str) -> Serving | None:
  """How model.endpoint is asked, where a config sets one.

  section: of the config, that `ask` is made of. Raises ValueError, in one line,
  for what a served model cannot be asked.
  """
  if not c.model.endpoint:
    return None
  how = Serving(**c.serving.to_dict())
  check_unused(c.model.to_dict())
  check(c.model.endpoint, how, ask, section)
  return how


def check(endpoint: str, how: Serving, ask: Ask, section: str) -> None:
  """Raises ValueError, in one line, for what a served model cannot be asked.

  section: of the config, that `ask` is made of.
  """
  server.check(endpoint, how.model, "", CAPTIONER)
  for name in ("contrast_weight", "contrast_cutoff"):
    if getattr(ask, name):
      raise ValueError(
        f"{section}.{name}={getattr(ask, name)}: contrastive decoding needs "
        "logits, and model.endpoint gives words alone; set contrast_weight=0 "
        "and contrast_cutoff=None, or leave model.endpoint empty"
      )
  sampling.check(Sampling(ask.temperature, ask.top_k or 1, ask.top_p))
  if ask.temperature > 0 and ask.top_k and "top_k" not in how.fields:
    raise ValueError(
      f"{section}.top_k={ask.top_k}: serving.takes says that the API of "
      "model.endpoint has no top_k; set it to 0, for all tokens"
    )
  for name in ("candidates", "max_new_tokens"):
    if getattr(ask, name) < 1:
      raise ValueError(f"{section}.{name}={getattr(ask, name)}: 1 or more")


# Keys of a `model` section that a server takes no notice of: how configs have
# them, and what to do instead of setting them.
UNUSED = {
  "checkpoint": (("", "synpo_jax/assets/tiny"), "serve it there"),
  "adapter": (("",), "serve it there, and name it as serving.model"),
  "kept_ratio": ((None,), "leave it None"),
  "dtype": (("bfloat16", "float32"), "start the server with it"),
  "base": (("float",), "start the server with such weights"),
  "kv": (("float",), "start the server with such a cache"),
  "template": (("aurora",), "the server has the model's own chat format"),
  "pixels.resize": (("auto",), "serving.side bounds the frames that are sent"),
  "pixels.resample": (("bicubic",), "serving.side bounds the frames"),
  "pixels.tokens": ((1152,), "serving.side bounds the frames"),
}


def check_unused(model: dict) -> None:
  """Raises ValueError for settings that a served model takes no notice of.

  model: a config's `model` section, all of whose captions are served.
  """
  flat = {f"pixels.{key}": value for key, value in model["pixels"].items()}
  flat |= model
  for name, (plain, way) in UNUSED.items():
    if name in flat and flat[name] not in plain:
      raise _unused(f"model.{name}", flat[name], way)


def check_given(
  c, given: Mapping[str, Any], *, here: bool = False, parts: bool = False
) -> None:
  """Raises ValueError for what a command line gives and nobody reads.

  given: keys of the config `c` -> their values. here: whether a checkpoint
  writes captions as well. parts: whether parts of videos are captioned.
  """
  if not c.model.endpoint:
    unread, way = ["serving.", "served"], "without model.endpoint; set that"
  else:
    unread, way = [], "with model.endpoint; leave it out"
    if not here:
      unread += ["placing.", *(f"model.{name}" for name in UNUSED)]
    if c.serving.send == "video" and not parts:
      unread += ["frames.", "serving.side"]
  for key, value in given.items():
    if key.startswith(tuple(unread)):
      raise ValueError(f"{key}={value}: of no use {way}")


def _unused(key: str, value, way: str) -> ValueError:
  return ValueError(f"{key}={value}: of no use with model.endpoint; {way}")


def fingerprint(rows: Iterable[dict]) -> str | None:
  """Of the system that wrote the last of some rows; None where none did.

  "" where it told none.
  """
  by = [row["served"] for row in rows if "served" in row]
  return (by[-1]["system_fingerprint"] or "") if by else None


def identity(endpoint: str, how: Serving) -> dict[str, Any]:
  """What decides a served model's captions, as rows and settings keep it."""
  kept = ("model", "send", "side", "takes", "extra")
  named = {name: getattr(how, name) for name in kept}
  return {"endpoint": shown(endpoint), **named, "version": VERSION}


def shown(endpoint: str) -> str:
  """Its address as it may be written down."""
  return secrets.shown(server.address(endpoint, CAPTIONER))
