"""Which server a judge is on: from the settings, else from the environment.

Looked up, in this order: API_URL, OPENAI_BASE_URL; API_KEY, OPENAI_API_KEY;
API_MODEL, OPENAI_MODEL.
"""

import os
import re

URLS = ("API_URL", "OPENAI_BASE_URL")
KEYS = ("API_KEY", "OPENAI_API_KEY")
MODELS = ("API_MODEL", "OPENAI_MODEL")
ADDRESS = re.compile(
  r"https?://([!-~]+@)?([^\0-\x20\x7f/:@?#\[\]]+|\[[\da-fA-F:.]+\])"
  r"(:\d{1,5})?(/[!-~]*)?"
)
NEITHER = (
  "judge: neither address nor key; set judge.base_url or API_URL for a server "
  "of your own, OPENAI_API_KEY for the hosted one"
)


def address(base_url: str) -> str:
  """The server's, from the environment where it is empty; "" is OpenAI's."""
  url = (base_url or _environment(URLS)).strip().rstrip("/")
  if url and not ADDRESS.fullmatch(url):  # not shown: it may be the key
    raise ValueError(
      "judge: judge.base_url or API_URL is no address; it should read like "
      "http://localhost:8000/v1"
    )
  return url.removesuffix("/chat/completions")


def model_name(model: str) -> str:
  """The model's name, from the environment where it is empty."""
  model = model or _environment(MODELS)
  if not model:
    raise ValueError("judge: no model; set judge.model or API_MODEL")
  return model


def secret(key: str) -> str:
  """The key, from the environment where it is empty."""
  key = (key or _environment(KEYS)).strip()
  if not re.fullmatch("[!-~]*", key):  # the client would show it, and fail
    raise ValueError(
      "judge: judge.key or API_KEY holds a space, a line break or no ASCII"
    )
  return key


def _environment(names):
  return next((os.environ[name] for name in names if os.environ.get(name)), "")
