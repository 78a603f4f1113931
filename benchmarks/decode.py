"""How fast captions and frames come, beside PyTorch and plain decoding.

python -m synpo_jax.wheels --out=runs/smol
python -m benchmarks.decode --smol=runs/smol

Every measurement is a process of its own; those to be compared take turns, so
that a busy machine is busy for both. Shown are medians over the rounds; all
goes to decode.json and, as tables, to README.md beside this file.

Text: SmolLM2-135M, float32, one prompt, N candidates sampled (temperature
0.9, top-k 32, top-p 0.95) to a fixed length, so that nothing ends early.
Video: 8 frames of bigbuckbunny.mp4 (132 frames, 1280x720) as RGB, against
decoding every frame into memory first, and the same of a clip 10 times as
long.
"""

import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from rich.console import Console
from rich.markdown import Markdown

from benchmarks import decode_mixture, sections
from benchmarks.decode_kinds import KINDS, repeated
from benchmarks.decode_task import SHAPES, Task

SMOL = flags.DEFINE_string("smol", None, "Folder that synpo_jax.wheels made.")
JSON = flags.DEFINE_string(
  "json", str(pathlib.Path(__file__).with_name("decode.json")), "Results."
)
README = flags.DEFINE_string(
  "readme", str(sections.README), "Markdown with the tables; empty for none."
)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each kind.")
REPEATS = flags.DEFINE_integer("repeats", 1, "Timed runs in each process.")
PARTS = flags.DEFINE_list(
  "parts", ["text", "mixture", "memory", "video"], "What to do."
)
VIDEOS = flags.DEFINE_integer("videos", 32, "Prompts of the mixture.")
MEAN = flags.DEFINE_integer("mean", 58, "Tokens of its captions, on average.")
CHILD = flags.DEFINE_string("child", None, "One measurement; used inside.")

PROMPTS, NEW, CANDIDATES = (128, 1168), 128, (1, 10)
LONG = 1168  # tokens of a prompt whose cache matters
TOGETHER, EACH = 4, 4  # videos at a time of the mixture; captions of each
MIXED = "lockstep", "generated", "served"  # beside "refilled"
TIMES = 10  # how much longer the longer clip is
MB = 1e6


def measure(task: Task) -> tuple[float, float]:
  """Runs a task in a process: median seconds, peak MB of memory."""
  command = [sys.executable, "-m", "benchmarks.decode"]
  command += [f"--child={json.dumps(task._asdict())}"]
  done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
  found = json.loads(done.stdout.splitlines()[-1])
  return statistics.median(found["seconds"]), found["peak_mb"]


def child(text: str) -> None:
  """Carries out one task and prints its times."""
  task = Task(**json.loads(text))
  seconds = KINDS[task.kind](task)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
  print(json.dumps({"seconds": seconds, "peak_mb": peak}))


def compare(*tasks: Task) -> list[dict]:
  """The tasks in turns, with their medians over the rounds."""
  runs = [[] for _ in tasks]
  for _ in range(ROUNDS.value):
    for task, found in zip(tasks, runs, strict=True):
      found.append(measure(task))
  return [
    task._replace(clip=pathlib.Path(task.clip).name)._asdict()
    | {"seconds": statistics.median(s), "peak_mb": statistics.median(mb)}
    for task, (s, mb) in zip(
      tasks, (zip(*rows, strict=True) for rows in runs), strict=True
    )
  ]


def text(checkpoint: str) -> list[list[dict]]:
  """Generation, ours and theirs, for prompts and numbers of candidates."""
  found = []
  for prompt in PROMPTS:
    for candidates in CANDIDATES:
      task = Task("ours", REPEATS.value, checkpoint, prompt, NEW, candidates)
      found.append(compare(task, task._replace(kind="theirs")))
      show(found[-1])
  return found


def mixture(checkpoint: str) -> list[dict]:
  """Captions of all sorts of lengths: refilled, in lockstep, others'."""
  task = Task("refilled", REPEATS.value, checkpoint, PROMPTS[0], MEAN.value)
  task = task._replace(candidates=EACH, videos=VIDEOS.value, together=TOGETHER)
  kinds = [kind for kind in MIXED if checkpoint or kind != "served"]
  others = (task._replace(kind=kind) for kind in kinds)
  found = compare(task, *others)
  show(found)
  return found


def memory(checkpoint: str) -> list[dict]:
  """Ours with a long prompt: what more candidates take."""
  task = Task("ours", 1, checkpoint, LONG, NEW, 1)
  return compare(task, task._replace(candidates=10))


def video(clip: str) -> list[list[dict]]:
  """Reading 8 frames, of the clip and of a longer one."""
  task = Task("frames_ours", REPEATS.value, clip=clip)
  found = [compare(task, task._replace(kind="frames_all"))]
  with tempfile.TemporaryDirectory() as folder:
    task = task._replace(clip=repeated(clip, TIMES, folder))
    found.append(compare(task, task._replace(kind="frames_all")))
  return found


def show(rows: list[dict]) -> None:
  """A line per finished comparison, for whoever waits."""
  words = [f"{row['kind']} {row['seconds']:.3f} s" for row in rows]
  print(f"{rows[0]} {'; '.join(words)}", file=sys.stderr, flush=True)


def text_table(found) -> str:
  rows = [["prompt, candidates", "synpo_jax", "Transformers", "ratio"]]
  for ours, theirs in found:
    made = ours["candidates"] * ours["new"]
    speeds = [made / row["seconds"] for row in (ours, theirs)]
    cells = [
      f"{speed:.0f} tokens/s, {row['peak_mb']:.0f} MB"
      for speed, row in zip(speeds, (ours, theirs), strict=True)
    ]
    name = f"{ours['prompt']} tokens, {ours['candidates']}"
    rows.append([name, *cells, f"{speeds[0] / speeds[1]:.2f}x"])
  return sections.table(rows)


def mixture_table(found) -> str:
  """Tokens that were wanted, by second."""
  made = int(decode_mixture.drawn(_task(found[0])).sum())
  rows = [["lengths of all sorts", "tokens/s", "MB", "ratio"]]
  names = dict(
    refilled="synpo_jax, refilled",
    lockstep="synpo_jax, in lockstep (before)",
    generated="Transformers",
    served="llama.cpp's server",
  )
  for row in found:
    ratio = row["seconds"] / found[0]["seconds"]
    speed = made / row["seconds"]
    cells = f"{speed:.0f}", f"{row['peak_mb']:.0f}", f"{ratio:.2f}x"
    rows.append([names[row["kind"]], *cells])
  return sections.table(rows)


def _task(row: dict) -> Task:
  return Task(**{name: row[name] for name in Task._fields})


def memory_line(found) -> str:
  one, ten = found
  token = 2 * 4 * SHAPES["num_hidden_layers"] * SHAPES["num_key_value_heads"]
  token *= SHAPES["hidden_size"] // SHAPES["num_attention_heads"] / MB
  return (
    f"Behind {LONG} tokens, 10 candidates of {NEW} take "
    f"{ten['peak_mb'] - one['peak_mb']:.0f} MB more than 1 "
    f"({ten['peak_mb']:.0f} and {one['peak_mb']:.0f} MB at the peak). Their "
    f"new tokens are {9 * NEW * token:.0f} MB of cache; 9 more copies of the "
    f"prompt's would be {9 * LONG * token:.0f} MB."
  )


def video_table(found) -> str:
  rows = [["8 frames of", "synpo_jax", "all frames first", "ratio"]]
  for (ours, plain), name in zip(
    found, ("the clip", f"{TIMES} times as long"), strict=True
  ):
    cells = [
      f"{row['seconds']:.2f} s, {row['peak_mb']:.0f} MB"
      for row in (ours, plain)
    ]
    rows.append([name, *cells, f"{plain['seconds'] / ours['seconds']:.2f}x"])
  return sections.table(rows)


def section(found: dict) -> str:
  """Everything measured, as Markdown."""
  machine = found["machine"]
  parts = [
    "## Generation and reading of videos",
    f"`python -m benchmarks.decode --smol=runs/smol`, {machine['date']}, "
    f"{machine['cpus']} CPU cores ({machine['cpu']}), load "
    f"{machine['load_before']:.1f} before and {machine['load_after']:.1f} "
    "after, the run's own included. Seconds are medians; MB is the largest "
    "resident size of the process.",
  ]
  if "text" in found:
    parts += [
      f"SmolLM2-135M, {found['weights']} weights, float32, {NEW} new tokens "
      "per candidate, sampled:",
      text_table(found["text"]),
    ]
  if "mixture" in found:
    one = found["mixture"][0]
    parts += [
      f"{one['videos']} prompts of {one['prompt']} tokens with "
      f"{one['candidates']} captions each, {one['together']} prompts at a "
      f"time, lengths lognormal, {one['new']} tokens on average (230 +- 90 "
      "and a cap of 800, scaled); ratio: times the time of the first:",
      mixture_table(found["mixture"]),
    ]
  if "memory" in found:
    parts.append(memory_line(found["memory"]))
  if "video" in found:
    parts += ["bigbuckbunny.mp4, 1280x720:", video_table(found["video"])]
  return "\n\n".join(parts)


def run() -> dict:
  """Measures what was asked for."""
  smol = pathlib.Path(SMOL.value) if SMOL.value else None
  checkpoint = str(smol / "checkpoint") if smol else ""
  load = os.getloadavg()[0]
  found = {"weights": "real" if smol else "random"}
  if "text" in PARTS.value:
    found["text"] = text(checkpoint)
  if "mixture" in PARTS.value:
    found["mixture"] = mixture(checkpoint)
  if "memory" in PARTS.value:
    found["memory"] = memory(checkpoint)
  if "video" in PARTS.value:
    if not smol:
      raise ValueError("the video part needs --smol, the folder with the clip")
    found["video"] = video(str(smol / "clips" / "bigbuckbunny.mp4"))
  found["machine"] = {
    "date": time.strftime("%Y-%m-%d"),
    "cpu": platform.processor() or platform.machine(),
    "cpus": os.cpu_count(),
    "load_before": load,
    "load_after": os.getloadavg()[0],
  }
  return found


def main(argv):
  """Measures, writes and shows the results."""
  del argv
  if CHILD.value:
    child(CHILD.value)
    return
  try:
    found = run()
  except ValueError as error:
    sys.exit(f"error: {error}")
  pathlib.Path(JSON.value).write_text(json.dumps(found, indent=2) + "\n")
  words = section(found)
  if README.value:
    sections.put(pathlib.Path(README.value), "decode", words)
  Console().print(Markdown(words))


if __name__ == "__main__":
  app.run(main)
