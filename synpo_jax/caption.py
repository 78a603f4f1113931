"""Entry: videos to captions.

python -m synpo_jax.caption --config=configs/caption.py \
  --config.videos='clips/*.mp4'

Captions are shown as they come and appended to config.output. The same
command goes on where it was stopped, and takes in videos added since. A video
that cannot be read costs one line; the others are captioned, and the exit
code is 1. Ctrl-C ends it in one line, with 130. Several processes
(--distributed) each take every n-th video and write a file of their own, as
captions.0-of-4.jsonl.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from rich.console import Console
from rich.padding import Padding
from rich.text import Text as Words

from synpo_jax.data import originals, prompts, sources, video
from synpo_jax.data.limits import Limits
from synpo_jax.generation import served, serving, shots, writer
from synpo_jax.runtime import (
  buckets,
  ending,
  hosts,
  hub,
  journal,
  mirror,
  one_writer,
)
from synpo_jax.runtime.flags import CONFIG, command, given
from synpo_jax.runtime.read_ahead import read_ahead
from synpo_jax.runtime.settings import digest
from synpo_jax.runtime.terminal import printable
from synpo_jax.weights import fingerprint


def run(c, console: Console) -> list[str]:
  """Captions what c.videos means; returns the faults, one line per video.

  Raises ValueError or OSError, in one line, when nothing can be done.
  """
  how = serving.of_config(c, _ask(c), "captions")
  mark = _mark(c, how)
  wanted = sources.find(c.videos, c.root)
  mine = wanted[jax.process_index() :: jax.process_count()]
  path, faults = _output(buckets.at(c.output)), []
  answers = f"{path.stem}.answers.jsonl"  # of a captioner behind an endpoint
  held = one_writer.held(path.parent, f".{path.name}.lock", path)
  names = (*journal.files(path.name), *journal.files(answers))
  with (
    held,
    mirror.kept(path.parent, names) as folder,
    journal.extend(folder / path.name) as (rows, append),
  ):
    _check(path, rows, mark)
    _check_videos(path, rows, mine)
    new = [source for source in mine if source.id not in rows]
    if new:
      known = len(mine) - len(new)
      by = serving.fingerprint(rows.values())
      opened = _open(c, how, folder / answers, by, faults)
      for row in _captions(c, how, opened, new, faults):
        append(row | {"settings": mark})
        known += 1
        _show(console, row, f"{known}/{len(mine)}")
      if how:
        console.print(Words(f"captioner: {opened.cost()}"))
    console.print(Words(f"{path}: captions of {len(rows)} videos"))
  return faults


def _ask(c) -> shots.Ask:
  return shots.Ask(seed=c.seed, question=c.question, **c.captions)


def _open(c, how, answers: Path, by: str | None, faults: list[str]):
  """The captioner here, or the one that is served.

  answers: the file of those that are paid for. by: the system that wrote the
  captions so far.
  """
  if how is None:
    return writer.open_writer(c.placing.to_dict(), **c.model.to_dict())

  def lost(_, why):
    _fail(why, faults)

  return served.Writer(c.model.endpoint, how, answers, lost, by)


def _fail(why, faults):
  faults.append(str(why))
  print(f"failed: {why}", file=sys.stderr, flush=True)


def _captions(c, how, opened, new, faults: list[str]) -> Iterator[dict]:
  """A row per video that can be read, in order; the others' faults."""
  ask, whole = _ask(c), how is not None and how.send == "video"
  rule, limits = video.FrameRule(**c.frames), Limits(**c.limits)
  facts = {}

  def load(source):
    shot, clip = shots.read(
      source.id,
      source.path,
      rule,
      opened.prepare,
      contrast=ask.contrast,
      limits=limits,
      whole=whole,
    )
    return shot, clip, originals.describe(source.path)

  def readable():
    for source, future in read_ahead(new, load, c.readers):
      try:
        shot, clip, file = future.result()
      except (ValueError, OSError) as error:
        _fail(error, faults)
        continue
      facts[source.id] = {} if whole else {"frames": len(shot.frames)}
      facts[source.id]["duration"] = round(clip.duration, 3)
      facts[source.id][originals.KEY] = file
      if ask.contrast:
        facts[source.id]["contrast"] = shots.has_contrast(shot)
      yield shot

  for name, _, texts in opened.write(readable(), ask):
    yield _row(c, name, texts, facts.pop(name))


def _row(c, name, texts, facts) -> dict:
  row = {"id": name, "video": name, "question": c.question}
  row["caption"] = texts[0].last
  if len(texts) > 1:
    row["captions"] = [text.last for text in texts]
  if c.captions.retrospective:
    row["first"] = [text.first for text in texts]
  tokens = sum(text.tokens for text in texts)
  row |= facts | {"tokens": tokens, "seed": c.seed}
  return row | shots.origin(texts)


def _mark(c, how) -> str:
  """Short hash of all that decides a caption."""
  what = {name: c[name] for name in ("question", "seed")}
  for name in ("model", "frames", "captions"):
    what[name] = c[name].to_dict()
  del what["model"]["endpoint"]
  if how:
    what["model"] = serving.identity(c.model.endpoint, how)
  else:
    held = fingerprint.captioner(c.model.checkpoint, c.model.adapter)
    what["weights"] = held
  what["prompts"] = prompts.PROMPTS_VERSION
  return digest(what, 12)


def _check(path, rows, mark):
  for name, row in rows.items():
    if row.get("settings") != mark:
      raise ValueError(
        f"{path}: the caption of {name} was made with other settings or "
        "weights; "
        "choose another --config.output, or remove that file"
      )


def _check_videos(path, rows, wanted):
  """Raises ValueError for a video that is another one than its caption's."""
  way_out = f"choose another --config.output than {path}"
  for source in wanted:
    if source.id in rows:
      originals.check(source.path, rows[source.id], way_out)


def _output(path: Path) -> Path:
  """This process's own file, where there are several."""
  if jax.process_count() == 1:
    return path
  part = f"{jax.process_index()}-of-{jax.process_count()}"
  return path.with_name(f"{path.stem}.{part}{path.suffix}")


def _show(console, row, count):
  """One video's captions, for people."""
  what = f"{row['frames']} frames" if "frames" in row else "all"
  facts = f"{count}, {what} of {row['duration']:.1f} s"
  if "contrast" in row and not row["contrast"]:
    facts += ", no contrast: fewer frames are the same frames"
  console.print(Words.assemble((printable(row["id"]), "bold"), f"  ({facts})"))
  captions = row["captions"] if "captions" in row else [row["caption"]]
  for number, caption in enumerate(captions, 1):
    lead = f"{number}. " if len(captions) > 1 else ""
    console.print(Padding(Words(lead + printable(caption)), (0, 0, 0, 2)))


def _next(c) -> str:
  """The command that makes preference pairs of the same videos."""
  keys = "checkpoint", "adapter", "kept_ratio", "dtype", "template"
  given = [(f"config.model.{key}", c.model[key] or None) for key in keys]
  smaller = [key for key in ("base", "kv") if c.model[key] != "float"]
  given += [(f"config.model.{key}", c.model[key]) for key in smaller]
  if c.model.endpoint:
    given = [
      ("config.model.endpoint", serving.shown(c.model.endpoint)),
      ("config.serving.model", c.serving.model),
      ("config.serving.send", c.serving.send),
    ]
  return ending.command(
    "make_pairs",
    ("config", "pairs"),
    ("workdir", f"{buckets.at(c.output).with_suffix('')}_pairs"),
    ("config.videos", c.videos),
    ("config.root", c.root),
    *given,
  )


@command(
  "config",
  also=hosts.FLAGS,
  kept="captions so far are in config.output; the same command goes on",
)
def main():
  """Captions the videos, and leaves with 1 if one of them has no caption."""
  hosts.start()
  c = CONFIG.value
  serving.check_given(c, given())
  if not c.model.endpoint:
    c.model.checkpoint = hub.pinned(c.model.checkpoint)
  faults = run(c, Console())
  if hosts.is_first():
    ending.show({}, _next(c))
  if faults:
    what = "1 video has" if len(faults) == 1 else f"{len(faults)} videos have"
    sys.exit(f"error: {what} no caption, as said above")


if __name__ == "__main__":
  main()
