"""Cutting a key or a password out of whatever is shown or written."""

import base64
import re
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
ANYWHERE = 8  # letters of a secret that is cut inside of words too
SHORTEST = 4  # a shorter one is none, and would cut holes into what is said


def shown(url: str) -> str:
  """An address without user, password, query and fragment."""
  bare = re.sub(r"(?<=//)[^/?#]*@", "", url)
  return re.split(r"[?#]", bare)[0]


def held(url: str, key: str) -> tuple[str, ...]:
  """The key, and what an address holds that nobody else should see."""
  parts = urlsplit(url)
  found = {key, *re.findall(r"=([^&]+)", parts.query)}
  user, _, host = parts.netloc.rpartition("@")
  if host and user:
    name, _, password = user.partition(":")
    plain = f"{unquote(name)}:{unquote(password)}"
    found |= {user, plain, password or name, unquote(password or name)}
    found.add(base64.b64encode(plain.encode()).decode())
  return tuple(sorted(found - {""}, key=len, reverse=True))


def cut(text: str, secrets: tuple[str, ...]) -> str:
  """The text with *** for each secret."""
  for secret in secrets:
    if len(secret) >= ANYWHERE:
      text = text.replace(secret, HIDDEN)
    elif len(secret) >= SHORTEST:
      text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
  return text
