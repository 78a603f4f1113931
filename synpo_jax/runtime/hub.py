"""Models on a hub by name, owner/name@revision: fetched, found, and pushed.

The hub and who asks it are huggingface_hub's own affair: HF_ENDPOINT, HF_HOME,
HF_HUB_OFFLINE, and a token of HF_TOKEN or its login, which nothing here reads.
"""

import functools
import glob
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from synpo_jax.runtime.terminal import in_short

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?")
ROWS = re.compile(
  r"hf://(?:datasets/)?(?P<set>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w.-]+))?"
  r"/(?P<path>.+)"
)
# Weights, settings and words; no program, whoever offers one.
PATTERNS = ["*.json", "*.jinja", "*.msgpack", "*.safetensors", "*.model"]
PATTERNS += ["*.tiktoken", "merges.txt", "vocab.txt"]


def is_name(place: str) -> bool:
  """Whether this is no folder here and may be a model's name on a hub."""
  return bool(NAME.fullmatch(place)) and not Path(place).exists()


def pinned(name: str, then: str = "") -> str:
  """owner/name@commit of a model, which is in the cache when this returns.

  name: with a revision, or the newest. then: as it was pinned before, which
  stays where `name` has no revision. Other places come back as they are.
  Raises OSError, in one line, for what the hub does not hand out.
  """
  if not is_name(name):
    return name
  model, _, revision = name.partition("@")
  if not revision and then.partition("@")[0] == model:
    revision = then.partition("@")[2]
  try:
    folder = huggingface_hub.snapshot_download(
      model, revision=revision or None, allow_patterns=PATTERNS
    )
  except (OSError, ValueError) as error:
    raise OSError(
      f"model.checkpoint={name}: no folder here, and the hub does not hand out "
      f"such a model ({_why(error)})"
    ) from error
  return f"{model}@{Path(folder).name}"


def cached(name: str) -> Path | None:
  """The folder of a pinned model in the cache; None where it is not there."""
  if not is_name(name) or "@" not in name:
    return None
  model, _, revision = name.partition("@")
  try:
    return Path(
      huggingface_hub.snapshot_download(
        model, revision=revision, local_files_only=True
      )
    )
  except (OSError, ValueError):
    return None


@functools.cache
def rows(name: str) -> str:
  """The path, or glob, of files of a data set in the cache, fetched if need be.

  name: hf://owner/name[@revision]/path, hf://datasets/owner/… as well; the path
  may be a glob. Raises ValueError or OSError, in one line.
  """
  match = ROWS.fullmatch(name)
  if not match:
    raise ValueError(
      f"{name}: name a data set and files in it, as "
      "hf://owner/name/data/train-*.parquet"
    )
  try:
    folder = huggingface_hub.snapshot_download(
      match["set"],
      repo_type="dataset",
      revision=match["revision"],
      allow_patterns=[match["path"], f"{match['path']}/*"],
    )
  except (OSError, ValueError) as error:
    raise OSError(
      f"{name}: not in the hub's cache, and the hub does not hand it out "
      f"({_why(error)})"
    ) from error
  return f"{glob.escape(folder)}/{match['path']}"


def push(folder: str | Path, name: str) -> str:
  """Uploads a folder as one commit; returns its address.

  A repository that is not there is made, private. Raises OSError, in one line.
  """
  api = huggingface_hub.HfApi()
  try:
    api.create_repo(name, private=True, exist_ok=True)
    done = api.upload_folder(
      repo_id=name, folder_path=folder, commit_message="Export of synpo_jax"
    )
  except (OSError, ValueError, LookupError) as error:  # of odd answers, too
    raise OSError(
      f"--push={name}: not uploaded ({_why(error)}); {folder} is whole, the "
      "same command tries again"
    ) from error
  return done.commit_url


def _why(error: Exception) -> str:
  """What a hub, or the way to it, answered, in short and without a token."""
  if isinstance(error, HfHubHTTPError) and error.response is not None:
    code, told = error.response.status_code, error.server_message
    if code == 401:
      return "401: log in with `hf auth login`, or set HF_TOKEN"
    told = " ".join((told or error.response.reason or "").split())
    return f"{code}: {told[:200]}"
  return in_short(error)
