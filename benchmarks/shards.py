"""What it costs to decode many short clips into shards, here and by Beam.

python -m benchmarks.shards --clips=100,1000,10000

Wants the `beam` extra. Clips are of the synthetic world, a hundred of them and
copies; each way starts `synpo_jax.decode` on an empty cache. Both ways' files
are compared, and the table goes into benchmarks/README.md.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks import sections
from synpo_jax.world import folder as world

CLIPS = flags.DEFINE_list("clips", ["100", "1000", "10000"], "Clips; two runs.")
README = flags.DEFINE_string(
  "readme", str(sections.README), "Markdown with the table; empty for none."
)
WORKERS = 2
BEAM = (
  "--beam_pipeline_options=runner=DirectRunner,"
  f"direct_running_mode=multi_processing,direct_num_workers={WORKERS}"
)
WAYS = {
  f"{WORKERS} decoding processes": (f"--config.data.workers={WORKERS}",),
  f"Beam, {WORKERS} workers": ("--config.data.workers=0", BEAM),
}
PACKAGES = ("apache-beam", "tensorflow-datasets", "array-record", "av")


def copies(made: pathlib.Path, count: int, to: pathlib.Path) -> None:
  """A folder of `count` clips, and their rows."""
  (to / "clips").mkdir(parents=True)
  clips = sorted((made / "clips").iterdir())
  first = json.loads((made / "pairs.jsonl").read_text("utf-8").split("\n")[0])
  with open(to / "pairs.jsonl", "w") as rows:
    for number in range(count):
      name = f"clips/{number:05d}.mp4"
      shutil.copy(clips[number % len(clips)], to / name)
      row = first | {"id": f"row-{number}", "video": name}
      rows.write(json.dumps(row) + "\n")


def decode(clips: pathlib.Path, cache: pathlib.Path, given) -> dict:
  """Seconds on the clock and of the processors, all processes together."""
  data = dict(pairs=clips / "pairs.jsonl", videos=clips, cache=cache)
  keys = (f"--config.data.{key}={value}" for key, value in data.items())
  start, before = time.monotonic(), _processor()
  subprocess.run(
    [
      *(sys.executable, "-m", "synpo_jax.decode", "--config=vdc", *keys),
      *("--config.world.clips=0", "--config.heldout.pairs=", *given),
    ],
    check=True,
    capture_output=True,
  )
  return {
    "seconds": time.monotonic() - start,
    "processor": _processor() - before,
  }


def _processor() -> float:
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def content(cache: pathlib.Path) -> dict[str, bytes]:
  """Every file of a cache but its lock."""
  files = (path for path in cache.rglob("*") if path.is_file())
  return {
    str(path.relative_to(cache)): path.read_bytes()
    for path in files
    if path.name != "lock"
  }


def run(folder: pathlib.Path, counts: list[int]) -> list[list[str]]:
  """Rows of the table."""
  world.write_world(folder / "world", clips=100, seed=5, heldout=0)
  table = [["clips, way", "seconds", "CPU s", "CPU ms a clip", "MB"]]
  for count in counts:
    clips, made = folder / f"{count}", None
    copies(folder / "world", count, clips)
    for number, (way, given) in enumerate(WAYS.items()):
      cache = folder / f"cache-{count}-{number}"
      took = decode(clips, cache, given)
      files = content(cache)
      assert made is None or files == made, f"{way}: other files"
      made, each = files, 1000 * took["processor"] / count
      size = sum(map(len, files.values())) / 1e6
      row = [f"{count:,}, {way}", f"{took['seconds']:.0f}"]
      row += [f"{took['processor']:.1f}", f"{each:.1f}", f"{size:.1f}"]
      table.append(row)
      print(*row, sep="  ", flush=True)
  return table


def section(table: list[list[str]]) -> str:
  """The part of benchmarks/README.md."""
  versions = (f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
  load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
  machine = f"{os.cpu_count()} cores ({platform.machine()})"
  return (
    f"{machine}, Python {platform.python_version()}; {'; '.join(versions)}; "
    f"load average at the end {load}.\n\n{sections.table(table)}"
  )


def main(argv):
  del argv
  with tempfile.TemporaryDirectory() as folder:
    table = run(pathlib.Path(folder), [int(count) for count in CLIPS.value])
  if README.value:
    sections.put(pathlib.Path(README.value), "shards", section(table))


if __name__ == "__main__":
  app.run(main)
