"""Captions to be scored: made here, or read from a file made elsewhere."""

import collections
import json
import pathlib
from collections.abc import Callable

from synpo_jax.data import originals, sources, video
from synpo_jax.data.limits import Limits
from synpo_jax.evaluation import vdc
from synpo_jax.evaluation.items import Item, choose_prompt, refuse_missing
from synpo_jax.generation import shots
from synpo_jax.runtime import buckets, journal, progress
from synpo_jax.runtime.jsonl import lines
from synpo_jax.runtime.read_ahead import read_ahead
from synpo_jax.runtime.terminal import together


def read_predictions(
  path: str | pathlib.Path, items: list[Item], *, only_predicted: bool
) -> dict[str, dict]:
  """{item id: {"prompt", "caption"}} of a JSONL file of captions.

  A row names its video ("video", "video_name" or "id") as the benchmark does
  or by its file, may name a category (without one it serves all of them) and
  holds the text in "caption", "prediction" or "pred". Raises ValueError with
  all faulty lines, and, unless `only_predicted`, when a caption that the
  benchmark wants is not there.
  """
  known = {item.category for item in items}
  if known != {""}:  # a file may serve more categories than are scored
    known |= {"", *vdc.CATEGORIES}
  predictions = _read_rows(buckets.at(path), known)
  files = collections.defaultdict(list)
  for (name, category), row in predictions.items():
    files[_stem(name), category].append(row)
  captions = {}
  for item in items:
    for category in (item.category, ""):
      key, rows = (item.video, category), files[_stem(item.video), category]
      if key not in predictions and len(rows) > 1:
        raise ValueError(f"{path}: {len(rows)} files are called {item.video}")
      if key in predictions or rows:
        captions[item.id] = predictions[key] if key in predictions else rows[0]
        break
  refuse_missing(path, items, captions, only_predicted=only_predicted)
  return captions


def _stem(name: str) -> str:
  """A video file's name without folder and suffix; other names as they are."""
  path = pathlib.PurePosixPath(name)
  return path.stem if path.suffix.lower() in video.SUFFIXES else name


def _read_rows(path, known) -> dict[tuple[str, str], dict]:
  """Predictions by (video, category); categories are checked if there are."""
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: predictions names the captions")
  predictions, faults = {}, []
  for number, line in lines(path):
    try:
      key, row = _prediction(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
      faults.append(f"{path} line {number}: needs a video and a caption")
      continue
    if key in predictions:
      faults.append(f"{path} line {number}: {key} is there twice")
    if known != {""} and key[1] not in known:
      choice = ", ".join(sorted(known - {""}))
      faults.append(
        f"{path} line {number}: category {key[1]!r} is none of {choice}"
      )
    predictions[key] = row
  if faults:
    raise ValueError(together(path, faults))
  return predictions


def _prediction(row):
  video_id = _first(row, ("video", "video_name", "id"))
  caption = _first(row, ("caption", "prediction", "pred"))
  category = row.get("category") or ""
  if not all(isinstance(text, str) for text in (video_id, caption, category)):
    raise TypeError
  prompt = row["prompt"] if "prompt" in row else row.get("question")
  return (video_id, category), {"prompt": prompt, "caption": caption}


def _first(row, names):
  for name in names:
    if name in row:
      return row[name]
  raise KeyError(names)


def find_videos(
  items: list[Item], wanted: str, root: str
) -> dict[str, pathlib.Path]:
  """{video: file} by file name without suffix, or by path from the root.

  Raises ValueError for a name that two files share, FileNotFoundError for
  videos that no file has.
  """
  files, twice = {}, {}
  for source in sources.find(wanted, root):
    files[source.id] = source.path
    stem = source.path.stem
    if stem in files:
      twice[stem] = (files[stem], source.path)
    files[stem] = source.path
  videos = dict.fromkeys(item.video for item in items)
  for name in videos:
    if name in twice:
      first, second = twice[name]
      raise ValueError(f"video {name}: both {first} and {second} have its name")
  missing = [name for name in videos if name not in files]
  if missing:
    raise FileNotFoundError(
      f"{len(missing)} of {len(videos)} videos are not in {wanted!r} below "
      f"{root!r}, as {missing[0]}; --config.limit takes fewer"
    )
  return {name: files[name] for name in videos}


def make(
  items: list[Item],
  files: dict[str, pathlib.Path],
  path: pathlib.Path,
  open_writer: Callable,
  *,
  seed: int,
  frames: dict,
  readers: int,
  limits: Limits,
  origin: dict,
  whole: bool = False,
  **asked,
) -> dict[str, dict]:
  """Captions of all items; those that `path` holds already are kept.

  Args:
    path: JSONL that grows by a row per caption, safe to kill.
    open_writer: () -> a generation.captioning.Writer; called only when
      something is left to do.
    frames: the fields of a video.FrameRule.
    readers: videos that are decoded ahead.
    limits: what reading a video may cost.
    origin: what every row that is made here says of how it was.
    whole: whether the writer is to show the files, not frames of them.
    asked: the fields of a shots.Ask but seed and question.

  Raises ValueError for a video that is another one than its caption's, and for
  one that a served captioner leaves without.
  """
  with journal.extend(path) as (rows, append):
    _check_videos(items, files, rows)
    new = [item for item in items if item.id not in rows]
    done = len(items) - len(new)
    if new:
      writer, seen = open_writer(), {}
      how = dict(contrast=asked["contrast_weight"] > 0, limits=limits)
      how["whole"] = whole
      rule = video.FrameRule(**frames)
      read = _make_read(files, rule, writer.prepare, seen, how)
      with progress.bar("captions", len(items), done=done) as advance:
        for prompt, group in _by_prompt(new, seed).items():
          loading = read_ahead(group, read, readers)
          wanted = (future.result() for _, future in loading)
          ask = shots.Ask(seed=seed, question=prompt, **asked)
          for item_id, _, (text,) in writer.write(wanted, ask):
            row = {"id": item_id, "prompt": prompt, "caption": text.last}
            row |= {"first_pass": text.first, "tokens": text.tokens}
            row |= shots.origin([text])
            append(row | seen.pop(item_id) | origin)
            advance()
    _check_all(items, rows, path)
    return {item.id: rows[item.id] for item in items}


def _check_videos(items, files, rows):
  """Raises ValueError for a video that is another one than its caption's."""
  for item in items:
    if item.id in rows:
      way_out = "choose another --workdir"
      originals.check(files[item.video], rows[item.id], way_out)


def _check_all(items, rows, path):
  """Raises ValueError for items that were left without a caption."""
  left = [item.id for item in items if item.id not in rows]
  if left:
    raise ValueError(
      f"{path}: {len(left)} of {len(items)} captions are not there, as "
      f"{left[0]}; run again"
    )


def _make_read(files, rule, prepare, seen: dict, how: dict):
  """A function that reads an item, and notes in `seen` what its video is."""

  def read(item):
    path = files[item.video]
    shot, _ = shots.read(item.id, path, rule, prepare, **how)
    seen[item.id] = {originals.KEY: originals.describe(path)}
    return shot

  return read


def _by_prompt(items, seed) -> dict[str, list[Item]]:
  groups = {}
  for item in items:
    groups.setdefault(choose_prompt(item, seed), []).append(item)
  return groups
