"""Replies paid for once: kept in a file, counted, and never bought again.

The file only grows; a reply lies in it under the SHA-256 of what was asked.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from synpo_jax.runtime import journal_rows


class Usage(NamedTuple):
  """Cost so far: of this run, and replies that earlier ones had paid for."""

  calls: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0
  cached: int = 0

  def note(self) -> str:
    tokens = self.prompt_tokens + self.completion_tokens
    return f"{self.calls} calls, {tokens:,} tokens, {self.cached} from cache"


def together(*usages: Usage) -> Usage:
  """The cost of all of them."""
  return Usage(*map(sum, zip(*usages, strict=True)))


class Replies(NamedTuple):
  """The replies that are there, and what this run spent on others."""

  rows: Mapping  # by key
  append: Callable[[dict], None]
  waiting: dict  # key -> future of the same question under way
  spent: collections.Counter  # fields of Usage

  def usage(self) -> Usage:
    return Usage(**self.spent)


def replies(rows: Mapping, append: Callable[[dict], None]) -> Replies:
  """Those of a journal opened by "key" (runtime.journal.extend), and others."""
  return Replies(rows, append, {}, collections.Counter())


async def once(
  held: Replies, key: str, about: dict, buy: Callable[[], Awaitable[dict]]
) -> dict:
  """From the file, from the same question under way, or from the server.

  about: kept beside a new reply. buy: asks for one; it holds prompt_tokens and
  completion_tokens.
  """
  if key in held.waiting:
    reply = await asyncio.shield(held.waiting[key])
  elif key in held.rows:
    reply = held.rows[key]["reply"]
  else:
    held.waiting[key] = asyncio.ensure_future(_buy(held, key, about, buy))
    try:
      return await held.waiting[key]
    finally:
      del held.waiting[key]
  held.spent["cached"] += 1
  return reply


async def _buy(held, key, about, buy):
  reply = await buy()
  held.append({"key": key, **about, "reply": reply})
  held.spent["calls"] += 1
  for name in ("prompt_tokens", "completion_tokens"):
    held.spent[name] += reply[name]
  return reply


def total(*caches: Path | str) -> dict[str, int]:
  """Calls and tokens of all replies in files, whichever run paid for them."""
  found = collections.Counter(calls=0, prompt_tokens=0, completion_tokens=0)
  for cache in caches:
    for _, row in journal_rows.keyed(cache, "key", ()):
      found["calls"] += 1
      for name in ("prompt_tokens", "completion_tokens"):
        found[name] += row["reply"][name]
  return dict(found)


def cost(usage: Usage, prices: dict[str, float]) -> str:
  """Calls, tokens and, where prices are given, money, in a few words.

  prices: of a million prompt and completion tokens.
  """
  money = usage.prompt_tokens * prices["prompt"]
  money += usage.completion_tokens * prices["completion"]
  note = (
    f"{usage.calls:,} calls, {usage.prompt_tokens:,} + "
    f"{usage.completion_tokens:,} tokens, {usage.cached:,} cached"
  )
  return f"{note}, {money / 1e6:.2f} spent" if any(prices.values()) else note
