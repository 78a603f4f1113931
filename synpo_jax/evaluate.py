"""Entry: scores a captioner on a benchmark.

python -m synpo_jax.evaluate --config=configs/eval_vdc.py --workdir=runs/vdc \
  --config.model.checkpoint=/path/to/AuroraCap --config.model.kept_ratio=0.1

Each benchmark has a config: --config=eval_vdc, --config=eval_vdd,
--config=eval_vatex, --config=eval_shapes, --config=eval_preference,
--config=eval_events, --config=eval_keypoints.

Captions the test videos, or reads captions made elsewhere
(--config.predictions=captions.jsonl), and writes into the workdir
results.json (scores, the full recipe and its hash), items.jsonl (a row per
item) and what makes the same command go on where it was stopped: captions
and the judge's replies.
"""

import json
import pathlib
import shlex

from rich import console, table

from synpo_jax.data.limits import Limits
from synpo_jax.endpoints import paid, secrets, server
from synpo_jax.evaluation import (
  captioner,
  judge_prompts,
  judged,
  preference,
  recipe,
  text_model,
)
from synpo_jax.evaluation import captions as making
from synpo_jax.evaluation.benchmarks import BENCHMARKS
from synpo_jax.generation import serving, shots, writer
from synpo_jax.generation.sampling import Sampling
from synpo_jax.judging import judge, trial
from synpo_jax.runtime import (
  buckets,
  ending,
  hub,
  journal,
  mirror,
  one_writer,
)
from synpo_jax.runtime.flags import (
  CONFIG,
  WORKDIR,
  command,
  given,
  given_again,
)
from synpo_jax.runtime.workdir import is_run

# What decides a judgement; the rest only decides how it is come by.
JUDGE_KEYS = ("temperature", "extra", "asks", "repeats")
# What results.json says of the judge; None of each where none is asked.
BY_JUDGE = ("judge_server", "judge_trial", "judge_cost")
BY_JUDGE += ("judge_cost_of_this_run",)


def run(c, workdir: pathlib.Path, open_writer=writer.open_writer) -> dict:
  """Evaluates as the config says; returns what results.json holds.

  Args:
    c: a config like configs/eval_vdc.py.
    workdir: made if missing; captions and judgements in it are kept.
    open_writer: called with c.placing and c.model when captions are to be
      made; see synpo_jax.generation.writer.

  Raises:
    ValueError, OSError: one line that says what is wrong and where.
  """
  with one_writer.held(workdir), mirror.kept(workdir) as folder:
    return _evaluate(c, folder, open_writer)


def _evaluate(c, workdir, open_writer) -> dict:
  benchmark = _benchmark(c.benchmark)
  if c.limit < 0:
    raise ValueError(f"limit={c.limit}: give a number of videos, 0 for all")
  how = captioner.asked_elsewhere(c)
  prompts = judge_prompts.OURS_ALONE
  if benchmark.judged:
    prompts = judge_prompts.load(c.prompts, c.benchmark)
  wanted = benchmark.items(c, prompts)
  if not wanted:
    raise ValueError(f"{', '.join(benchmark.files(c))}: nothing to score")
  made_with = make_recipe(c, benchmark, prompts)
  mark = recipe.claim(workdir, made_with)
  early = paid.Usage()
  if benchmark.judged and not c.predictions:
    early = judged.try_early(c, prompts, workdir)
  whole = how is not None and how.send == "video"
  rows = _captions(c, workdir, wanted, open_writer, mark, whole)
  items = [item for item in wanted if item.id in rows]
  texts = {item.id: rows[item.id]["caption"] for item in items}
  by_judge = dict.fromkeys(BY_JUDGE)
  if benchmark.judged:
    of = judged.score(c, benchmark, workdir, items, texts, prompts)
    scored, summary = of.rows, of.summary
    by_judge = _by_judge(c, workdir, of, early)
  else:
    scored, summary, _ = benchmark.score(c, items, texts, prompts, None)
  for row in scored:
    row["prompt"] = rows[row["id"]]["prompt"] if row["id"] in rows else None
    row["recipe_hash"] = mark
  results = {
    "benchmark": c.benchmark,
    "scores": summary,
    "items": len(items),
    "left_out": len(wanted) - len(items),  # with only_predicted
    "recipe_hash": mark,
    "recipe": made_with,
    **by_judge,
  }
  if how is not None:
    results["captioner_cost"] = paid.total(workdir / captioner.ANSWERS)
  journal.rewrite(workdir / "items.jsonl", scored)
  _write(workdir / "results.json", results)
  return results


def _by_judge(c, workdir, found, early) -> dict:
  """What results.json says of the judge: which, how it was tried, its cost."""
  address = server.address(c.judge.base_url, judge.JUDGE)
  caches = workdir / judged.CACHE, workdir / trial.CACHE
  usage = paid.together(early, found.usage)
  told = secrets.shown(address), found.tried, paid.total(*caches)
  return dict(zip(BY_JUDGE, (*told, usage._asdict()), strict=True))


def _benchmark(name):
  if name not in BENCHMARKS:
    known = ", ".join(BENCHMARKS)
    raise ValueError(f"benchmark={name!r}: choose one of {known}")
  return BENCHMARKS[name]


def make_recipe(c, benchmark, prompts) -> dict:
  """All that a score of this config depends on, as JSON."""
  made = {
    "benchmark": c.benchmark,
    "seed": c.seed,
    "limit": c.limit,
    "data": c.data.to_dict(),
    "data_content": {p: recipe.content(p) for p in benchmark.files(c)},
    "packages": recipe.versions(),
    "metrics_version": recipe.METRICS_VERSION,
  }
  if c.predictions:
    content = recipe.content(c.predictions)
    made["predictions"] = {"file": str(c.predictions), "content": content}
  else:
    made |= captioner.recipe(c)
    names = ("frames", "captions")
    if c.benchmark == "preference":
      names = ("answers",)
    else:
      made["names_version"] = shots.NAMES_VERSION
    made |= {name: c[name].to_dict() for name in names}
  if benchmark.judged:
    settings = c.judge.to_dict()
    made["judge"] = {key: settings[key] for key in JUDGE_KEYS}
    made["judge"]["model"] = server.model_name(settings["model"], judge.JUDGE)
    made["judge"]["tokens"] = c.judge_tokens.to_dict()
    made["judge"]["prompts"] = prompts.source
    made["judge"]["prompts_version"] = prompts.version
  return made


def _captions(c, workdir, items, open_writer, mark, whole) -> dict[str, dict]:
  """Rows {"prompt", "caption"} by item id; those made here carry the mark."""
  origin = {"recipe_hash": mark}
  if c.predictions:
    read = making.read_predictions
    if c.benchmark == "preference":
      read = preference.read_predictions
    return read(c.predictions, items, only_predicted=c.only_predicted)
  if c.benchmark == "preference":
    return _answers(c, workdir, items, origin)
  files = making.find_videos(items, c.videos, c.root)
  path = workdir / recipe.CAPTIONS
  return making.make(
    items,
    files,
    path,
    captioner.opener(c, workdir, path, open_writer),
    seed=c.seed,
    frames=c.frames.to_dict(),
    whole=whole,
    readers=c.readers,
    limits=Limits(**c.limits),
    origin=origin,
    **c.captions.to_dict(),
  )


def _answers(c, workdir, items, origin) -> dict[str, dict]:
  """Answers of our text model, in outputs.json too."""
  settings = c.answers.to_dict()
  settings["sampling"] = Sampling(**settings["sampling"])
  rows = preference.answer(
    items,
    workdir / recipe.CAPTIONS,
    lambda: text_model.load(c.model.checkpoint, **c.text_model),
    seed=c.seed,
    origin=origin,
    **settings,
  )
  made = [
    {"dataset": c.data.name, "instruction": name, "output": row["caption"]}
    for name, row in rows.items()
  ]
  name = pathlib.Path(c.model.checkpoint).name
  preference.write_outputs(workdir / "outputs.json", made, generator=name)
  return rows


def _write(path, value):
  text = json.dumps(value, indent=2, ensure_ascii=False)
  journal.replace(path, (text + "\n").encode("utf-8", "replace"))


def show(results: dict, out: console.Console) -> None:
  """The scores as tables in the terminal, and who gave them."""
  scores = results["scores"]
  parts = {k: v for k, v in scores.items() if isinstance(v, dict)}
  rest = {k: v for k, v in scores.items() if k not in parts}
  out.print(_table(results["benchmark"], rest))
  for name, part in parts.items():
    out.print(_table(name, part))
  by = f"no judge, {_benchmark(results['benchmark']).measured}"
  if "judge" in results["recipe"]:
    of = results["recipe"]["judge"]
    by = f"judge: {of['model']}, prompts: {of['prompts']}"
  out.print(f"{by}; recipe {results['recipe_hash']}", highlight=False)
  if tried := results.get("judge_trial"):
    out.print(trial.sentence(tried), highlight=False, markup=False)


def _table(title, scores):
  """A row for each score, or for each group of the same scores."""
  groups = {k: v if isinstance(v, dict) else {"": v} for k, v in scores.items()}
  columns = list(
    dict.fromkeys(key for group in groups.values() for key in group)
  )
  shown = table.Table("", *(name.replace("_", " ") for name in columns))
  shown.title = title
  for name, group in groups.items():
    shown.add_row(name, *(_words(group.get(key)) for key in columns))
  return shown


def _words(value) -> str:
  if value is None:
    return "-"
  return f"{value:.4f}" if isinstance(value, float) else str(value)


@command(
  "config",
  "workdir",
  kept="captions and replies so far are in the workdir; the same command goes "
  "on",
)
def main():
  """Evaluates, and shows the scores."""
  workdir, c = buckets.at(WORKDIR.value), CONFIG.value
  if "endpoint" in c.model:
    serving.check_given(c, given())
  if "checkpoint" in c.model and captioner.asked_elsewhere(c) is None:
    c.model.checkpoint = hub.pinned(c.model.checkpoint)
  results = run(c, workdir)
  show(results, console.Console())
  places = {name: workdir / name for name in ("results.json", "items.jsonl")}
  ending.show(places, *_next(CONFIG.value, workdir))


def _next(c, workdir):
  """All videos after a few; then what the captioner's run leaves."""
  if c.limit:
    whole = ("workdir", f"{workdir}-all")
    yield ending.command("evaluate", *given_again("limit"), whole)
  adapter = "" if c.predictions or "adapter" not in c.model else c.model.adapter
  if is_run(adapter):
    out = ("format", "merged"), ("out", f"{adapter}/merged")
    yield ending.command("export", ("workdir", adapter), *out)
  yield shlex.join(["python", "-m", "json.tool", str(workdir / "results.json")])


if __name__ == "__main__":
  main()
