"""Entry: names what would stop a run, before anything is compiled.

python -m synpo_jax.preflight --config=configs/vdc.py --workdir=runs/demo

Takes the arguments of `synpo_jax.train`, on every host. Looks at the loss, the
checkpoint, the tokenizer, the first rows of the pairs and their videos, cores
for the readers, the disk and what the run will write on it, the mesh, and
whether all hosts are alike. With --worth=200 it also reads all pairs, has the
model rank 200 of them, and says what they are worth: pairs_report.json and
pairs_report.html in the workdir.
"""

import importlib.metadata
import json
import pathlib
import platform
import shlex
import sys
import uuid

import jax
from absl import flags

from synpo_jax.models import sharding
from synpo_jax.pairing import worth
from synpo_jax.planning import first_rows, inputs, pairs_worth
from synpo_jax.runtime import alike, buckets, ending, hosts, hub, journal
from synpo_jax.runtime.flags import (
  CONFIG,
  WORKDIR,
  changed,
  command,
  config_name,
)
from synpo_jax.training import checkpoint

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
SAID = 500  # characters of what a host misses
WORTH = flags.DEFINE_integer(
  "worth",
  None,
  "Say what all pairs are worth, and rank so many of them with the model.",
  lower_bound=0,
)


@command("config", "workdir", also=hosts.FLAGS)
def main():
  """Prints what is wrong, a line each, and leaves with 1; or says ready."""
  hosts.start()
  c, workdir = CONFIG.value, WORKDIR.value
  c.model.checkpoint = hub.pinned(c.model.checkpoint)
  found = list(inputs.look(c, changed(), config_name(), workdir))
  wrong = [f"{what}: {told}" for what, told, ok in found if not ok]
  said = "; ".join(wrong).replace("\n", " ")[:SAID]
  tables = alike.gather(describe(c, workdir) | {"inputs": said or "ok"})
  faults = wrong + compare(tables) + mesh_faults(c)
  if hosts.is_first():
    for finding in found:
      if finding.ok:
        print(f"{finding.what}: ok, {finding.told}")
    faults += show_rows(c, buckets.at(workdir), found)
    if WORTH.value is not None:
      faults += show_worth(c, buckets.at(workdir), WORTH.value)
    for fault in faults:
      print(f"error: {fault}", file=sys.stderr)
    if not faults:
      print(f"ready: {len(tables)} processes, {jax.device_count()} devices")
      same = [
        x for x in sys.argv[1:] if not x.startswith(("--worth", "-worth"))
      ]
      ending.show({}, f"{ending.command('train')} {shlex.join(same)}")
  sys.exit(1 if faults else 0)


def show_rows(
  c, workdir: pathlib.Path, found: list[inputs.Finding]
) -> list[str]:
  """Says what the first rows are to the model, and writes a page of them.

  Returns what is wrong with them: one that shares no row where it should.
  Nothing is shown where they, their videos or what reads them were found to be
  wrong, or are to be made by the run.
  """
  fine = {finding.what for finding in found if finding.ok}
  needed = {"loss", "checkpoint", "tokenizer", "pairs", "videos"}
  if not needed <= fine or inputs.is_made(c, c.data.pairs):
    return []
  try:
    shown = first_rows.look(c)
    path = workdir / "first_rows.html"
    journal.replace(path, first_rows.page(shown).encode("utf-8", "replace"))
  except (ValueError, OSError) as error:
    print(f"first rows: not shown, {error}")
    return []
  for row in shown:
    print(first_rows.describe(row))
  print(f"first rows: {path}")
  if not c.data.packing:
    return []
  try:
    print(f"packing: {first_rows.share(shown, c.data.packing)}")
  except ValueError as error:
    return [f"packing: {error}"]
  return []


def show_worth(c, workdir: pathlib.Path, most: int) -> list[str]:
  """Says and writes what the pairs are worth; or returns why it cannot."""
  try:
    report = pairs_worth.look(c, most)
    worth.write(workdir, report)
    worth.write_page(workdir / worth.PAGE, report)
  except (ValueError, OSError) as error:
    return [f"worth: {error}"]
  for line in worth.sentences(report):
    print(f"pairs: {line}")
  print(f"pairs: {workdir / worth.PAGE}")
  return []


def describe(c, workdir) -> dict:
  """What this process has: versions, devices, and whether it can write."""
  return {
    "host": f"{platform.node()} (process {jax.process_index()})",
    "python": platform.python_version(),
    **{name: importlib.metadata.version(name) for name in PACKAGES},
    "device": jax.local_devices()[0].device_kind,
    "devices": str(jax.local_device_count()),
    "config": hashable(c),
    "workdir": runnable(workdir),
    "cache": writable(c.data.cache) if buckets.is_url(c.data.cache) else "yes",
  }


def hashable(c) -> str:
  """The config as one short name, equal where configs are."""
  return uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(c.to_dict())).hex


def runnable(workdir) -> str:
  """ "yes", or why no run can be written there."""
  try:
    checkpoint.check_place(buckets.at(workdir) / "checkpoints")
  except ValueError as error:
    return f"no: {error}"
  return writable(workdir)


def writable(workdir) -> str:
  """ "yes", or why a file cannot be written there."""
  path = buckets.at(workdir)
  probe = path / f".preflight-{jax.process_index()}"
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe.write_text("x")
    read = probe.read_text()
    probe.unlink()
  except (OSError, ValueError) as error:  # ValueError: no library for it
    return f"no: {error}"
  return (
    "yes" if read == "x" else "no: what is read there is not what was written"
  )


def compare(tables: list[dict]) -> list[str]:
  """What differs between hosts that should be alike, in words."""
  faults = []
  first = tables[0]
  for table in tables:
    for place in ("workdir", "cache"):
      if table[place] != "yes":
        faults.append(f"{table['host']}: {place} not writable, {table[place]}")
    for key, value in table.items():
      if key in ("host", "workdir", "cache") or value == first[key]:
        continue
      faults.append(
        f"{table['host']}: {key} is {value}, {first[key]} on {first['host']}"
      )
  return faults


def mesh_faults(c) -> list[str]:
  """Whether the devices make the mesh, and the mesh splits the batch."""
  try:
    sharding.check_batch(sharding.make_mesh(**c.mesh), c.data.batch_size)
  except ValueError as error:
    return [str(error)]
  return []


if __name__ == "__main__":
  main()
