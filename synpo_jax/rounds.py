"""Entry: rounds of preference training, each on captions of the last one.

python -m synpo_jax.rounds --config=configs/rounds.py --workdir=runs/rounds

A round samples with the captioner as it is, has candidates judged, pairs and
trains (make_pairs, train), merges the adapter or keeps it (export), and scores
the captioner on held-out items (evaluate), as it scored it before the first.
Each is a folder, rounds/0001 and so on: pairs/, data.jsonl (what it trained
on), train/, merged/ or adapter/, evaluate/. The workdir's rounds.html shows
them side by side. The same command goes on where it was stopped, without
asking a judge twice or repeating an update that was saved; with a larger
--config.rounds it adds rounds.
"""

import pathlib
import shlex
from typing import NamedTuple

from rich import console

from synpo_jax import evaluate, export, make_pairs, train
from synpo_jax.generation import adapter_loading, writer
from synpo_jax.pairing import older
from synpo_jax.planning import micro_batch
from synpo_jax.reporting import rounds, rounds_page
from synpo_jax.reporting.rounds_page import FILE as PAGE
from synpo_jax.runtime import (
  buckets,
  ending,
  hosts,
  hub,
  journal,
  json_file,
  one_writer,
  settings,
)
from synpo_jax.runtime.flags import CONFIG, WORKDIR, command, given_again
from synpo_jax.training import job
from synpo_jax.training import rounds as recipe
from synpo_jax.training.rounds import Policy
from synpo_jax.weights import fingerprint

FOLDERS = {"merge": "merged", "keep": "adapter"}  # of what is exported
STAGES = "stages.jsonl"  # of a round: those that are done
# Keys that may change when rounds are gone on with. The stages have rules of
# their own for their configs, which a round that is done does not read again.
FREE = ("rounds", "samples", "load_adapters", "pairs", "train", "evaluate")


class Round(NamedTuple):
  """A round at work: its number, from 0 on, and its folder."""

  number: int
  place: pathlib.Path

  def once(self, stage: str, work) -> bool:
    """Does a stage unless it was done; False where it stopped in between."""
    path = self.place / STAGES
    if stage in journal.read(path, "stage"):
      return True
    hosts.say(f"round {self.number}: {stage}")
    if work() is False:
      return False
    with journal.extend(path, "stage") as (_, append):
      append({"stage": stage})
    return True


def run(
  c, workdir, open_writer=writer.open_writer
) -> list[rounds.Round] | None:
  """All rounds of a config, and its page; None where a signal asked to stop.

  Args:
    c: a config like configs/rounds.py.
    workdir: made if missing; what is done in it stays.
    open_writer: called with a config's placing and model where captions are
      to be written here.

  Raises:
    ValueError, OSError: one line that says what is wrong and where.
  """
  recipe.check(c)
  workdir, found = buckets.local(workdir, "--workdir"), []
  with one_writer.held(workdir):
    policy = Policy(_begin(c, workdir))
    for number in range(c.rounds + 1):
      at = Round(number, rounds.folder(workdir, number))
      if number:
        policy = _learn(c, at, policy, open_writer)
      if policy is None:
        return None
      at.once("evaluate", lambda p=policy, at=at: _score(c, at, p, open_writer))
      found.append(rounds.read(at.place, number))
      rounds_page.write(workdir, found, c.samples)
  return found


def _begin(c, workdir) -> str:
  """Writes the settings down, or compares; returns the checkpoint, pinned."""
  path = workdir / "config.json"
  kept = json_file.read(path, settings.PUT_BACK) if path.exists() else {}
  start = hub.pinned(c.checkpoint, kept.get("checkpoint", ""))
  known = {key: c[key] for key in c if key not in FREE}
  known |= {"checkpoint": start, "content": fingerprint.captioner(start, "")}
  if differing := settings.claim(path, known):
    key, then, now = differing[0]
    raise ValueError(
      f"{workdir} holds rounds with another config: {key} ({then!r} there, "
      f"{now!r} now); choose another --workdir or the same config"
    )
  if c.train.world.clips:
    job.make_world(**c.train.world)
  return start


def _learn(c, at: Round, policy: Policy, open_writer) -> Policy | None:
  """A round up to the captioner that it ends with; None where it stopped."""
  place, pairs = at.place, rounds.PAIRS

  def sample():
    _serve(c, policy)
    made = recipe.pair_config(c, at.number, policy)
    make_pairs.run(made, place / pairs, open_writer)

  def mix():
    before = range(1, at.number)
    folders = [place.parent / f"{n:04}" / pairs for n in before]
    way = c.older, c.older_share, c.train.seed + at.number
    older.write(place / rounds.DATA, place / pairs, folders, *way)

  at.once("pairs", sample)
  at.once("data", mix)
  if not at.once("train", lambda: _train(c, at, policy)):
    return None
  return _policy_after(c, at, policy)


def _policy_after(c, at: Round, policy: Policy) -> Policy:
  """The captioner that a round ends with, exported where that is wanted."""
  learned, out = _learned(c, at), at.place / FOLDERS[c.adapter]
  if c.adapter == "merge":
    at.once("export", lambda: print(export.export(learned, "merged", out)))
    return Policy(str(out))
  if not recipe.is_served(c):
    return Policy(policy.checkpoint, str(learned))
  at.once("export", lambda: print(export.export(learned, "peft", out)))
  served = f"synpo-{at.number:04}-{fingerprint.captioner('', str(out))}"
  return Policy(policy.checkpoint, str(learned), str(out), served)


def _train(c, at: Round, policy: Policy) -> bool:
  """Trains a round's captioner; False where a signal asked to stop."""
  t = recipe.train_config(c, at.number, policy, at.place / rounds.DATA)
  workdir = at.place / rounds.TRAIN
  with one_writer.held(workdir):
    micro_batch.settle(t)
    return train.run(job.prepare(t, workdir), t, workdir)


def _learned(c, at: Round) -> pathlib.Path:
  """The run that a round goes on with: the best, where that is kept."""
  whole = at.place / rounds.TRAIN
  return whole / "best" if c.train.keep.best else whole


def _serve(c, policy: Policy) -> None:
  """Has every endpoint that is asked serve the captioner as it is."""
  asked = (c.pairs.model.endpoint, c.evaluate.model.endpoint)
  for endpoint in dict.fromkeys(filter(None, asked)):
    if policy.served:
      adapter_loading.load(endpoint, policy.served, policy.exported)


def _score(c, at: Round, policy: Policy, open_writer) -> None:
  _serve(c, policy)
  made = recipe.evaluate_config(c, policy)
  evaluate.run(made, at.place / rounds.EVALUATE, open_writer)


@command(
  "config",
  "workdir",
  errors=train.MET,
  kept="what was judged, trained and scored is kept; the same command goes on",
)
def main():
  """Runs the rounds, and shows them side by side."""
  c, workdir = CONFIG.value, WORKDIR.value
  found = run(c, workdir)
  if found is None:
    print("the same command goes on with this round")
    return
  out = console.Console()
  out.print(rounds.table(found))
  out.print(rounds.sentence(found), highlight=False)
  place = pathlib.Path(workdir)
  ending.show({"rounds": place / PAGE}, *_next(place, found[-1].number))


def _next(workdir: pathlib.Path, last: int):
  """The page; the rounds' curves; one more round."""
  yield shlex.join(["python", "-m", "webbrowser", str(workdir / PAGE)])
  numbers = range(1, last + 1)
  runs = [rounds.folder(workdir, n) / rounds.TRAIN for n in numbers]
  given = [("workdir", run) for run in runs] + [("out", workdir / "report")]
  yield ending.command("report", *given)
  more = ("config.rounds", last + 1), ("workdir", workdir)
  yield ending.command("rounds", *given_again("rounds"), *more)


if __name__ == "__main__":
  main()
