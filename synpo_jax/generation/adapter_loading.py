"""An adapter put on a captioner that is served elsewhere, while it serves."""

import asyncio
import logging
import os
from pathlib import Path

from synpo_jax.endpoints import secrets, server, wire
from synpo_jax.generation.serving import CAPTIONER

LOADED = "already been loaded"  # what vLLM says of a name that it serves
TIMEOUT = 600.0  # seconds; a server reads the adapter while it answers others


def load(endpoint: str, name: str, folder: str | Path) -> None:
  """Has vLLM serve the PEFT adapter of a folder under a name.

  It reads the folder itself, so it must see it under the same path. A name
  that it serves already is left alone: one name is to stand for one content.
  Raises ValueError, one line with address and answer, where it does not.
  """
  url = server.address(endpoint, CAPTIONER)
  key = server.secret("", CAPTIONER)
  held, place = secrets.held(url, key), os.path.abspath(folder)
  why = asyncio.run(_post(url, key, {"lora_name": name, "lora_path": place}))
  if why and LOADED not in why:
    said = secrets.cut(" ".join(why.split()), held)[:200]
    raise ValueError(
      f"{secrets.shown(url)}/load_lora_adapter does not load {place} ({said}); "
      "vLLM wants --enable-lora, a --max-lora-rank as large as lora.rank, "
      "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and to see that folder"
    )


async def _post(url: str, key: str, body: dict) -> str:
  """What the server has against it; "" where it has done it."""
  import openai

  for library in ("httpx", "httpx2", "openai"):  # a line for every request
    logging.getLogger(library).setLevel(logging.WARNING)
  async with openai.AsyncOpenAI(
    base_url=url,
    api_key=key or "none",  # the client insists
    max_retries=2,
    timeout=TIMEOUT,
    default_headers={"Accept-Encoding": "identity"},
    http_client=wire.client(),
  ) as client:
    try:
      await client.post("/load_lora_adapter", cast_to=str, body=body)
    except openai.APIStatusError as error:
      return f"status {error.status_code}: {error.message}"
    except (openai.APIError, wire.Elsewhere, wire.Unread) as error:
      return f"no answer: {error.__cause__ or error}"
  return ""
