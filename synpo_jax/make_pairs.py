"""Entry: videos to judged preference pairs.

python -m synpo_jax.make_pairs --config=configs/pairs.py --workdir=runs/pairs
python -m synpo_jax.make_pairs --workdir=runs/pairs --sample=5

Stages, each resumable and each alone by --config.stages: segments, clips,
candidates, judge, pairs; before candidates, where it is named, corrupted. The
workdir then holds pairs.jsonl for training,
pairs.html for looking, summary.json, which says what was left out, and
pairs_report.json, which says what the pairs are worth before anything trains.
Several processes (--distributed) share the first three stages.
"""

import functools
import json
from pathlib import Path

import jax
from absl import flags
from rich import console

from synpo_jax.data import corruption, prompts, sources
from synpo_jax.data.limits import Limits
from synpo_jax.endpoints import server
from synpo_jax.generation import serving, shots
from synpo_jax.judging import trial
from synpo_jax.judging.judge import JUDGE, part
from synpo_jax.pairing import (
  assembly,
  beside,
  captioners,
  corrupting,
  criteria,
  known_items,
  ledger,
  looks,
  scores,
  terminal,
)
from synpo_jax.pairing import segments as cutting
from synpo_jax.pairing import stages as captioning
from synpo_jax.runtime import (
  buckets,
  ending,
  hosts,
  hub,
  journal,
  mirror,
  one_writer,
)
from synpo_jax.runtime.flags import (
  CONFIG,
  WORKDIR,
  command,
  config_name,
  given,
  given_again,
)

SAMPLE = flags.DEFINE_integer(
  "sample", None, "Show so many of the pairs in the terminal.", lower_bound=1
)
# What decides a judgement; the rest only decides how it is come by.
JUDGE_KEYS = ("temperature", "extra", "asks", "repeats")


def open_captioner(placing, **model):
  """The writer's open_writer; judging alone does without its imports."""
  from synpo_jax.generation import writer

  return writer.open_writer(placing, **model)


def run(
  c, workdir: Path, open_writer=open_captioner, share=ledger.ALONE
) -> dict:
  """Runs the stages of the config; returns and writes the summary.

  Args:
    c: a config like configs/pairs.py.
    workdir: made if missing; rows in it are kept and extended.
    open_writer: called with c.placing and c.model when captions are to be
      written; returns the writer of captioning.Work.
    share: which part of the captioning is this process's. Several write files
      of their own side by side; the judge's stage and pairs then take one.

  Raises:
    ValueError, OSError: one line that says what is wrong and where.
  """
  stages = _stages(c.stages, share)
  if "judge" in stages:
    _check_judge(c.judge)
  elsewhere = captioners.asked_elsewhere(c, stages)
  corrupting.check(c, stages, corrupting.STAGE in elsewhere)
  judged = "judge" in stages and c.judge.kind == "openai"
  summary, faults = {}, {}
  with (
    one_writer.held(workdir, f".lock-{share.index}"),
    mirror.kept(workdir) as workdir,
  ):
    corrupting.check_wanted(c, stages, workdir)
    if {"segments", *captioners.WRITTEN} & set(stages):
      captioning.check_videos(workdir, buckets.at(c.root), share)
    if "segments" in stages:
      _cut(c, workdir, faults, share)
    if judged and {*captioners.WRITTEN} & {*stages}:
      asked = c.judge.openai.to_dict()
      trial.hold_early(known_items.items(), workdir, **asked)
    for stage in captioners.WRITTEN:
      if stage in stages:
        todo = elsewhere.get(stage), share, faults, open_writer
        _caption(c, workdir, stage, *todo, judged)
    if "judge" in stages:
      _judge(c, workdir)
    if "pairs" in stages:
      summary = _pair(c, workdir)
    summary |= assembly.counts(workdir, faults)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    file = "summary.json" if share.count == 1 else f"summary.{share.index}.json"
    journal.replace(workdir / file, f"{text}\n".encode())
  return summary


def _stages(wanted: str, share) -> list[str]:
  stages = [name.strip() for name in wanted.split(",")]
  for name in stages:
    if name not in ledger.FILES | ledger.MORE:
      known = ",".join(ledger.FILES | ledger.MORE)
      raise ValueError(f"stages: {name!r} is none of {known}")
  if share.count > 1 and {"judge", "pairs"} & set(stages):
    raise ValueError(
      f"{share.count} processes: give them --config.stages=segments,clips,"
      "candidates, and then run --config.stages=judge,pairs as one"
    )
  return stages


def _cut(c, workdir, faults, share):
  found = sources.find(c.videos, c.root)
  rule = dict(seconds=cutting.SECONDS, fewest=cutting.FEWEST, most=cutting.MOST)
  mark = ledger.register(workdir, "segments", rule, share)
  captioning.cut(workdir, found, mark, faults, share, Limits(**c.limits))
  if len(faults) == len(found):
    raise ValueError(
      f"no video can be read; the first: {[*faults.values()][0]}"
    )


def _caption(c, workdir, stage, how, share, faults, open_writer, judged):
  """The captions that a stage lacks; how: of captioners.asked_elsewhere."""
  asked = captioners.settings(c, stage)
  settings = dict(model=_captioner(c, how), seed=c.seed, **asked)
  kinds = tuple(c.corrupted.kinds)
  if stage == corrupting.STAGE:
    settings |= dict(kinds=list(kinds), corruption=corruption.VERSION)
  settings["prompts"] = prompts.PROMPTS_VERSION
  settings["names"] = shots.NAMES_VERSION
  mark = ledger.register(workdir, stage, settings, share)
  done = ledger.written(workdir, stage)
  left = ledger.rows(workdir, "segments").keys() - done.keys()
  if not any(ledger.is_mine(id_, share) for id_ in left):
    return
  frames = asked.pop("frames")
  ask = shots.Ask(seed=c.seed, **asked)
  given = (workdir, stage, how, share, faults, open_writer)
  work = captioners.open_work(c, *given)
  if stage == "clips":
    captioning.caption_segments(work, mark, frames, ask)
    return
  if stage == corrupting.STAGE:
    corrupting.caption(work, mark, frames, ask, kinds)
    return
  judge = functools.partial(_judge, c, workdir) if judged else None
  with beside.judging(judge) as tell:
    captioning.caption_videos(work, mark, frames, ask, tell)


def _captioner(c, how) -> dict:
  """Who writes captions, as settings and rows keep it."""
  if how is not None:
    return serving.identity(c.model.endpoint, how)
  from synpo_jax.weights import fingerprint

  model = captioners.here(c)
  held = fingerprint.captioner(model["checkpoint"], model["adapter"])
  return model | {"weights": held}


def _check_judge(judge):
  """Raises ValueError before the captions are written, not after."""
  if judge.kind not in ("openai", "truth"):
    raise ValueError(f"judge.kind={judge.kind!r}: choose openai or truth")
  if judge.kind == "openai":
    asked = judge.openai
    server.check(asked.base_url, asked.model, asked.key, JUDGE)
  elif not buckets.at(judge.truth.scenes).is_file():
    raise FileNotFoundError(f"judge.truth.scenes={judge.truth.scenes}: no file")


def _judge(c, workdir, arriving=()):
  kind = c.judge.kind
  known = ledger.made_with(workdir, *captioners.STAGES)
  before = [name for name in captioners.WRITTEN if name in known]
  made = {name: known[name]["hash"] for name in before}
  if kind == "truth":
    judge = dict(kind=kind, model="truth", version=scores.TRUTH_VERSION)
    mark = ledger.register(workdir, "judge", judge | made)
    scores.by_truth(workdir, _origin(judge, mark), **c.judge.truth)
  else:
    settings = c.judge.openai.to_dict()
    (repeats, _), asked = part(settings)
    model = server.model_name(settings["model"], JUDGE)
    judge = dict(kind=kind, model=model, version=criteria.VERSION)
    kept = {key: settings[key] for key in JUDGE_KEYS}
    mark = ledger.register(workdir, "judge", judge | kept | made)
    trial.hold(known_items.items(), workdir, **settings)
    scores.by_model(
      workdir,
      _origin(judge, mark),
      c.prices.to_dict(),
      arriving,
      cache=workdir / ledger.CACHE,
      repeats=repeats,
      **asked | {"model": model},
    )


def _origin(judge, mark):
  return {"judge": judge | {"config": mark}}


def _pair(c, workdir):
  known = ledger.made_with(workdir, "candidates", "judge")
  shared = dict(
    model=known["candidates"]["settings"]["model"],
    config={name: row["hash"] for name, row in known.items()},
    prompts=known["candidates"]["settings"]["prompts"],
  )
  summary = assembly.write(workdir, shared, **c.pairs)
  judge = known["judge"]["settings"]
  return looks.write(c, workdir, summary, shared["model"], judge)


# What training is told of captioners that have recipes of their own.
TRAINED = {
  "tiny": [("config", "vdc"), ("config.world.clips", 0)],
  "smol": [("config", "vdc:model=smol"), ("config.data.min_score_gap", 0)],
}


def _next(c, workdir: Path) -> str:
  """The stages that are left, or training on the pairs."""
  if not ledger.path(workdir, "pairs").exists():
    rest = ("config.stages", "judge,pairs"), ("workdir", workdir)
    return ending.command("make_pairs", *given_again("stages"), *rest)
  recipe = config_name().partition(":")[2]
  told = TRAINED.get(recipe, [("config", "vdc:model=auroracap_7b")])
  return ending.command(
    "train",
    *told,
    ("config.model.checkpoint", c.model.checkpoint or None),
    ("config.data.template", c.model.template),
    ("config.data.pairs", ledger.path(workdir, "pairs")),
    ("config.data.videos", c.root),
    ("config.heldout.pairs", ""),
    ("workdir", workdir / "run"),
  )


@command(
  "workdir",
  also=("config", *hosts.FLAGS),
  kept="rows and replies so far are in the workdir; the same command goes on",
)
def main():
  """Makes the pairs that --config asks for, shows those of --sample."""
  place, out = buckets.at(WORKDIR.value), console.Console()
  if CONFIG.value is not None:
    hosts.start()
    c = CONFIG.value
    share = ledger.Share(jax.process_index(), jax.process_count())
    captioners.asked_elsewhere(c, _stages(c.stages, share))
    here = captioners.loads_checkpoint(c)
    serving.check_given(c, given(), here=here, parts=True)
    if captioners.loads_checkpoint(c):
      c.model.checkpoint = hub.pinned(c.model.checkpoint)
    summary = run(c, place, share=share)
    terminal.show_summary(out, summary, place)
    if hosts.is_first():
      ending.show({"rows and replies": place}, _next(c, place))
  elif SAMPLE.value is None:
    raise ValueError("give --config to make pairs, --sample to look at them")
  if SAMPLE.value is not None:
    with mirror.kept(place) as workdir:
      terminal.show_sample(out, workdir, SAMPLE.value)


if __name__ == "__main__":
  main()
