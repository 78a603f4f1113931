"""Faults put into the real commands: what survives, and what does not.

python -m benchmarks.torture
python -m benchmarks.torture --only=kill,flip-metrics --minutes=3 --seed=7

Kills, stops, flips bits, cuts files, fills disks and feeds bad inputs, at
random by the seed, and writes results/torture.json and the table in
docs/reliability.md. The same command goes on where it was stopped.
"""

import concurrent.futures
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import shutil
import sys
import time
import traceback

from absl import app, flags, logging

from benchmarks import sections
from benchmarks.torture import page
from benchmarks.torture.bench import Bench
from benchmarks.torture.interruptions import can_mount, release
from benchmarks.torture.kinds import Kind, kinds, plan
from benchmarks.torture.outcomes import Outcome
from benchmarks.torture.processes import ROOT, end_all, let_hear
from synpo_jax.runtime import names, one_writer, progress, stopping

SEED = flags.DEFINE_integer("seed", 0, "Of moments, bits and files.")
MINUTES = flags.DEFINE_float("minutes", 30.0, "No try begins after these.")
ONLY = flags.DEFINE_list("only", [], "Kinds, or how their names begin.")
TRIES = flags.DEFINE_integer("tries", None, "At most so many of each kind.", 1)
JOBS = flags.DEFINE_integer("jobs", 2, "Tries at a time.", lower_bound=1)
WORKDIR = flags.DEFINE_string("workdir", "runs/torture", "Folder to work in.")
JSON = flags.DEFINE_string("json", "results/torture.json", "Every try.")
PAGE = flags.DEFINE_string("page", "docs/reliability.md", "Where the table is.")
KEPT = ("id", "kind", "survived", "lost", "how", "seconds")  # of a row
PACKAGES = ("jax", "flax", "orbax-checkpoint")  # that figures may hang on


def main(argv):
  """Tries what was not tried yet, and writes table and JSON."""
  if len(argv) > 1:
    sys.exit(f"error: unexpected arguments {' '.join(argv[1:])}")
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  logging.set_verbosity(logging.ERROR)  # orbax tells of every step
  workdir = pathlib.Path(WORKDIR.value)
  try:
    with let_hear(), stopping.raising(), one_writer.held(workdir):
      rows = torture(Bench(workdir, mark(SEED.value)), SEED.value)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  except stopping.Stopped as stopped:
    kept = "tries so far are kept; the same command goes on"
    print(f"stopped by {stopped.name}: {kept}", file=sys.stderr, flush=True)
    end_all()
    release(workdir)
    os._exit(stopped.code)  # whatever the threads do
  found = result(rows)
  pathlib.Path(JSON.value).write_text(json.dumps(found, indent=2) + "\n")
  sections.put(pathlib.Path(PAGE.value), page.NAME, page.text(found))
  print(page.text(found))
  print(
    f"seed {SEED.value}; {PAGE.value} has the table, {JSON.value} every try"
  )


def torture(bench: Bench, seed: int) -> list[dict]:
  """Makes the tries that are wanted, until the time is over; all rows."""
  print(f"seed {seed}", file=sys.stderr)
  deadline, chosen = time.monotonic() + 60 * MINUTES.value, choose(ONLY.value)
  release(bench.workdir)  # what one that was killed has left
  with bench.rows("tries") as (rows, append):
    bench.prepare({name for kind in chosen.values() for name in kind.commands})
    planned = plan(chosen, TRIES.value)
    new = [one for one in planned if name_of(*one) not in rows]
    known = len(rows)
    pool = concurrent.futures.ThreadPoolExecutor(JOBS.value)
    with progress.bar("tries", known + len(new), done=known) as advance:
      for row in at_work(pool, bench, seed, new, deadline):
        append(row)
        advance(note="" if row["survived"] else f"{row['id']}: {row['how']}")
    return list(rows.values())


def choose(wanted: list[str]) -> dict[str, Kind]:
  """The kinds whose names begin so; all for none. Root's only for root.

  Raises ValueError for a name that is none, and where none is left.
  """
  known = kinds()
  for name in wanted:
    if not any(kind.startswith(name) for kind in known):
      names.refuse_unknown("only", name, known)
  chosen = {
    name: kind
    for name, kind in known.items()
    if not wanted or name.startswith(tuple(wanted))
    if not kind.is_root or can_mount()
  }
  if not chosen:
    raise ValueError(f"--only={','.join(wanted)} needs root, to mount a disk")
  return chosen


def name_of(name: str, number: int) -> str:
  """The id of a try."""
  return f"{name}-{number}"


def at_work(pool, bench, seed, new, deadline):
  """Yields rows of tries as they end, few of them begun ahead."""
  left, running = iter(new), set()
  while True:
    while len(running) < JOBS.value and time.monotonic() < deadline:
      if (one := next(left, None)) is None:
        break
      running.add(pool.submit(attempt, bench, seed, *one))
    if not running:
      return
    ended, running = concurrent.futures.wait(
      running, return_when=concurrent.futures.FIRST_COMPLETED
    )
    yield from (future.result() for future in ended)


def attempt(bench: Bench, seed: int, name: str, number: int) -> dict:
  """One try, in a folder of its own, which stays if it does not survive."""
  id_, begun = name_of(name, number), time.monotonic()
  folder = bench.workdir / "tries" / id_
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  rng = random.Random(f"{seed} {id_}")
  try:
    found = kinds()[name].attempts[number](bench, folder, rng)
    row = found._asdict()
  except Exception:  # a fault of ours must not hide the other tries
    said = traceback.format_exc()
    row = Outcome(False, "the try itself failed", said)._asdict()
  for key in ("how", "said"):
    row[key] = row[key].replace(f"{folder}/", "")
    row[key] = row[key].replace(f"{bench.workdir}/", "")
  if row["survived"]:
    shutil.rmtree(folder)
  seconds = round(time.monotonic() - begun, 2)
  return {"id": id_, "kind": name, **row, "seconds": seconds}


def mark(seed: int) -> str:
  """Names the seed and the program that is tried."""
  whole = hashlib.sha256(str(seed).encode())
  for folder in ("synpo_jax", "configs", "benchmarks/torture"):
    for path in sorted((ROOT / folder).rglob("*.py")):
      whole.update(path.read_bytes())
  return whole.hexdigest()[:12]


def result(rows: list[dict]) -> dict:
  """What the JSON holds: where it was tried, and every try."""
  used = ", ".join(f"{x} {importlib.metadata.version(x)}" for x in PACKAGES)
  return {
    "seed": SEED.value,
    "date": datetime.date.today().isoformat(),
    "machine": f"{os.cpu_count()} cores ({platform.machine()})",
    "jobs": JOBS.value,
    "versions": f"Python {platform.python_version()}, {used}",
    "tries": [{key: row[key] for key in KEPT} for row in rows],
  }


if __name__ == "__main__":
  app.run(main)
