"""What a judge is asked, and where the words come from.

Ours are in judge_words.py. The official ones of a benchmark are read, without
running anything, from an installed lmms-eval, or from a JSON file {"version":
…, "answer": [messages], …, "captions": {category: [prompts]}}. Which were used,
and their version, stands beside every score.
"""

import ast
import hashlib
import importlib.util
import json
import pathlib
import re
from typing import NamedTuple

from synpo_jax.data import prompts as ours
from synpo_jax.evaluation.judge_words import FIELDS, OURS, VERSION
from synpo_jax.runtime import buckets


class Prompts(NamedTuple):
  """Message templates by task, caption prompts by category, provenance."""

  source: str
  version: str
  messages: dict[str, tuple[dict, ...]]
  captions: dict[str, tuple[str, ...]]


# Folders of lmms-eval, by the benchmarks that it has prompts of.
PUBLISHED = {"vdc": "vdc", "vdd": "video_detail_description"}
# The messages that each benchmark asks with.
NEEDS = {
  "vdc": ("answer", "compare"),
  "vdd": ("detail",),
  "preference": ("prefer",),
  "events": ("events", "relate"),
  "keypoints": ("relate",),
}
OURS_ALONE = Prompts("ours", VERSION, OURS, ours.VDC)


def load(choice: str, task: str) -> Prompts:
  """The prompts of a benchmark.

  Args:
    choice: "ours", "lmms_eval" (the installed package's), "auto" (the
      package's where it is installed, else ours), or the path of a file.
    task: a benchmark, as of NEEDS; the package has PUBLISHED.

  Raises:
    ValueError: the package or the file lacks what the task needs.
  """
  if choice == "auto":
    known = task in PUBLISHED and importlib.util.find_spec("lmms_eval")
    choice = "lmms_eval" if known else "ours"
  if choice == "ours":
    return OURS_ALONE
  if choice == "lmms_eval":
    return from_lmms_eval(_package_folder(), task)
  return from_file(choice, task)


def fill(prompts: Prompts, name: str, **fields: str) -> tuple[dict, ...]:
  """The messages with their {fields} replaced, each once and in one pass."""
  names = "|".join(fields)

  def put(match):
    return fields[match.group(1)]

  return tuple(
    {**message, "content": re.sub(f"{{({names})}}", put, message["content"])}
    for message in prompts.messages[name]
  )


def from_file(path: str | pathlib.Path, task: str) -> Prompts:
  """Prompts of a user's JSON file; see the top of this module."""
  path = buckets.at(path)
  text = path.read_text(encoding="utf-8")
  try:
    parts = json.loads(text)
  except ValueError as error:
    raise ValueError(f"{path}: not JSON ({error})") from None
  if not isinstance(parts, dict):
    raise ValueError(f"{path}: not an object of messages by task")
  for name in (name for name in FIELDS if name in parts):
    if not _is_chat(parts[name]):
      raise ValueError(
        f"{path}: {name!r} is not a list of objects with texts role and content"
      )
  messages = {name: tuple(parts[name]) for name in FIELDS if name in parts}
  _complete(path, messages, task)
  captions = parts["captions"] if "captions" in parts else {}
  if not isinstance(captions, dict) or not all(
    _are_texts(pool) for pool in captions.values()
  ):
    raise ValueError(f"{path}: 'captions' is not lists of prompts by category")
  name = parts["version"] if "version" in parts else "file"
  version = f"{name}-{_hash(text)}"
  return Prompts(str(path), version, messages, captions or ours.VDC)


def _is_chat(value) -> bool:
  """Whether it is a list of messages, as chat endpoints take them."""
  return isinstance(value, list) and all(
    isinstance(message, dict)
    and {"role", "content"} == message.keys()
    and _are_texts(list(message.values()))
    for message in value
  )


def _are_texts(value) -> bool:
  some = isinstance(value, list) and bool(value)
  return some and all(isinstance(text, str) for text in value)


def from_lmms_eval(folder: str | pathlib.Path, task: str) -> Prompts:
  """The prompts in lmms-eval's task files, read from their syntax trees."""
  if task not in PUBLISHED:
    raise ValueError(f"lmms-eval has no prompts of {task}; set prompts='ours'")
  path = pathlib.Path(folder) / "tasks" / PUBLISHED[task] / "utils.py"
  if not path.exists():
    raise ValueError(f"lmms-eval has no {path}; set prompts='ours'")
  text = path.read_text(encoding="utf-8")
  messages, captions = {}, {}
  for node in ast.parse(text).body:
    if isinstance(node, ast.FunctionDef):
      messages |= _chat(node)
    elif pool := _pool(node):
      captions |= pool
  _complete(path, messages, task)
  version = f"lmms-eval-{_hash(text)}"
  return Prompts("lmms_eval", version, messages, captions or ours.VDC)


def _package_folder():
  spec = importlib.util.find_spec("lmms_eval")
  if spec is None:
    raise ValueError(
      "prompts='lmms_eval', but that package is not installed; install it, "
      "name a file, or set prompts='ours'"
    )
  return spec.submodule_search_locations[0]


def _hash(text):
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _complete(path, messages, task):
  for name in NEEDS[task]:
    if name not in messages:
      raise ValueError(f"{path}: no {name!r} messages, which {task} needs")
    text = " ".join(message["content"] for message in messages[name])
    for field in FIELDS[name]:
      if f"{{{field}}}" not in text:
        raise ValueError(f"{path}: {name!r} does not use {{{field}}}")


def _pool(node):
  """{category: prompts} of an assignment like CAMERA_CAPTION_PROMPTS = […]."""
  if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
    return {}
  name = getattr(node.targets[0], "id", "")
  if not name.endswith("_CAPTION_PROMPTS"):
    return {}
  category = name.removesuffix("_CAPTION_PROMPTS").lower()
  return {category: tuple(ast.literal_eval(node.value))}


def _chat(function):
  """{task: messages} of a function that assigns a literal `messages` list."""
  for node in ast.walk(function):
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
      continue
    if getattr(node.targets[0], "id", "") != "messages":
      continue
    used = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
    if "caption" in used:
      return {"answer": _messages(node.value, {})}
    if "pred_answer" in used:
      renamed = {"answer": "gold", "pred_answer": "answer"}
      return {"compare": _messages(node.value, renamed)}
    if "pred" in used:
      renamed = {"answer": "gold", "pred": "caption"}
      return {"detail": _messages(node.value, renamed)}
  return {}


def _messages(literal, renamed):
  rows = []
  for entry in literal.elts:
    keys = [ast.literal_eval(key) for key in entry.keys]
    parts = dict(zip(keys, entry.values, strict=True))
    content = _template(parts["content"], renamed)
    rows.append({"role": ast.literal_eval(parts["role"]), "content": content})
  return tuple(rows)


def _template(node, renamed):
  """A string or f-string as text with {names} where values go."""
  if isinstance(node, ast.Constant):
    return node.value
  if isinstance(node, ast.JoinedStr):
    return "".join(_template(part, renamed) for part in node.values)
  if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
    name = node.value.id
    return f"{{{renamed.get(name, name)}}}"
  raise ValueError(f"lmms-eval: a prompt at line {node.lineno} is not literal")
