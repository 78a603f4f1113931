"""A served captioner for tests: what it says follows from what it is asked."""

import hashlib
import json

import numpy as np

from synpo_jax.generation.serving import Serving
from synpo_jax.generation.shots import Ask, Shot

WORDS = "a red ball rolls left then a blue box turns and the dog waits".split()


def answer(*texts, fingerprint="fp-1", reason="stop", **fields):
  """A response with these choices."""
  choices = [
    {
      "index": index,
      "finish_reason": reason,
      "message": {"role": "assistant", "content": text},
    }
    for index, text in enumerate(texts)
  ]
  usage = {"prompt_tokens": 100, "completion_tokens": 7 * len(texts)}
  body = {"choices": choices, "usage": usage} | fields
  if fingerprint:
    body["system_fingerprint"] = fingerprint
  return 200, {}, json.dumps(body)


def words(body, choice=0):
  """What an honest server says: words by all that the request holds."""
  digest = hashlib.sha256(f"{json.dumps(body)} {choice}".encode()).digest()
  return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:9]) + "."


def honest(n, body):
  """Answers as asked."""
  return answer(*(words(body, i) for i in range(body.get("n", 1))))


def is_captioning(body) -> bool:
  """Whether a request shows something, as a judge's does not."""
  return isinstance(body["messages"][-1]["content"], list)


def question(body) -> str:
  """The words of a request."""
  return body["messages"][-1]["content"][-1]["text"]


def how(**changes) -> Serving:
  """Settings as a test wants them."""
  settings = dict(
    model="served",
    send="images",
    side=32,
    most_bytes=1 << 20,
    takes="top_k,seed,n",
    one_fingerprint=True,
    asks=3,
    concurrency=4,
    timeout=30.0,
    tries=3,
    first_wait=0.01,
    longest_wait=1.0,
    stop_after=50,
    limit_name="max_tokens",
    extra={},
    prices={"prompt": 0.0, "completion": 0.0},
  )
  return Serving(**settings | changes)


def ask(**changes) -> Ask:
  """A question for one caption."""
  settings = dict(
    seed=3,
    question="What is there?",
    candidates=1,
    max_new_tokens=40,
    temperature=0.9,
    top_k=32,
    top_p=0.95,
    retrospective=False,
    caution=False,
    contrast_weight=0.0,
    contrast_cutoff=None,
  )
  return Ask(**settings | changes)


def shot(name, frames=2, **fields) -> Shot:
  """Some grey frames."""
  shade = int(hashlib.sha256(name.encode()).hexdigest()[:2], 16)
  return Shot(name, np.full((frames, 24, 48, 3), shade, np.uint8), **fields)


def with_adapters(loaded: dict, others):
  """A server of `served`, and of adapters that it is asked to load, as vLLM.

  loaded: name -> folder, filled here. others: answers the other requests.
  """

  def behave(n, body):
    if "lora_name" in body:
      name = body["lora_name"]
      if name in loaded:
        told = f"The lora adapter '{name}' has already been loaded."
        return 400, {}, json.dumps({"error": {"message": told}})
      loaded[name] = body["lora_path"]
      told = f"Success: LoRA adapter '{name}' added successfully."
      return 200, {"Content-Type": "text/plain"}, told
    if is_captioning(body) and body["model"] not in {"served", *loaded}:
      return 404, {}, json.dumps({"error": {"message": "no such model"}})
    return others(n, body)

  return behave
