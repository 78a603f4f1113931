"""Which server is asked: from the settings, else from the environment."""

import os
import re
from typing import NamedTuple

ADDRESS = re.compile(
  r"https?://([!-~]+@)?([^\0-\x20\x7f/:@?#\[\]]+|\[[\da-fA-F:.]+\])"
  r"(:\d{1,5})?(/[!-~]*)?"
)


class Names(NamedTuple):
  """What the settings of a server are called, for what is said of them.

  urls, keys, models: variables of the environment that are looked up, in this
  order, where a setting is empty.
  """

  who: str  # asks, as "judge"; every line begins with it
  address: str  # where the address is set, as "judge.base_url or API_URL"
  model: str
  key: str
  options: str  # settings that a server may refuse
  kept: str  # what a run that stops keeps, as "what is judged"
  urls: tuple[str, ...]
  keys: tuple[str, ...]
  models: tuple[str, ...]


def address(url: str, names: Names) -> str:
  """The server's, from the environment where it is empty; "" is OpenAI's.

  Raises ValueError for what is no address.
  """
  url = (url or _environment(names.urls)).strip().rstrip("/")
  if url and not ADDRESS.fullmatch(url):  # not shown: it may be the key
    raise ValueError(
      f"{names.who}: {names.address} is no address; it should read like "
      "http://localhost:8000/v1"
    )
  return url.removesuffix("/chat/completions")


def model_name(model: str, names: Names) -> str:
  """The model's name, from the environment where it is empty.

  Raises ValueError where there is none.
  """
  model = model or _environment(names.models)
  if not model:
    raise ValueError(f"{names.who}: no model; set {names.model}")
  return model


def secret(key: str, names: Names) -> str:
  """The key, from the environment where it is empty.

  Raises ValueError for one that no header can carry.
  """
  key = (key or _environment(names.keys)).strip()
  if not re.fullmatch("[!-~]*", key):  # the client would show it, and fail
    raise ValueError(
      f"{names.who}: {names.key} holds a space, a line break or no ASCII"
    )
  return key


def check(url: str, model: str, key: str, names: Names) -> None:
  """Raises ValueError for settings with which no server can be asked."""
  model_name(model, names)
  url = address(url, names)
  if not (secret(key, names) or url):
    raise ValueError(
      f"{names.who}: neither address nor key; set {names.address} for a server "
      f"of your own, {names.keys[-1]} for the hosted one"
    )


def _environment(names):
  return next((os.environ[name] for name in names if os.environ.get(name)), "")
