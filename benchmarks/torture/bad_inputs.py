"""Inputs of others, by mistake or in malice: each is refused in one line."""

import gzip
import json
import pathlib
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.torture import outcomes
from benchmarks.torture.bench import Bench
from benchmarks.torture.outcomes import Outcome
from benchmarks.torture.processes import run

SECONDS = 60.0  # more is no refusal but a wait
PAIRS, CLIP, WEIGHTS = "world/pairs.jsonl", "bad/bad.mp4", "captioner"
ROW = {"question": "What is there?", "chosen": "A ball.", "rejected": "A box."}
ROW |= {"chosen_score": 9.0, "rejected_score": 1.0}
TEXT = json.dumps(ROW | {"video": "clips/shapes-00000000.mp4"}).encode() + b"\n"
TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


class Case(NamedTuple):
  """A file whose content is bad, and the command that meets it."""

  command: str
  file: str
  content: bytes | Callable[[bytes], bytes]  # the latter from the good one's


def _rows(**more) -> bytes:
  return json.dumps(ROW | more).encode() + b"\n"


def _header(*tensors, length: int | None = None, data: bytes = bytes(16)):
  """A safetensors file; tensors: (name, fields that differ from TENSOR)."""
  parts = (
    f"{json.dumps(name)}: {json.dumps(TENSOR | fields)}"
    for name, fields in tensors
  )
  text = ("{" + ", ".join(parts) + "}").encode()
  size = len(text) if length is None else length
  return struct.pack("<Q", size) + text + data


def _without(content: bytes) -> bytes:
  """The file with half of its bytes."""
  return content[: len(content) // 2]


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/dev/zero\n"
LIST = "ffconcat version 1.0\n" + "file '../world/clips/none.mp4'\n" * 200
ROWS = {
  "no video": _rows(),
  "video under another name": _rows(movie="clips/shapes-00000000.mp4"),
  "video that is not there": _rows(video="clips/none.mp4"),
  "two videos": _rows(videos=["a.mp4", "b.mp4"]),
  "UTF-16": TEXT.decode().encode("utf-16"),
  "Parquet": b"PAR1" + bytes(200) + b"PAR1",
  "gzip": gzip.compress(TEXT),
  "one JSON array": b"[\n" + TEXT.rstrip() + b"\n]\n",
  "filled with zero bytes": bytes(4096),
  "empty": b"",
  "no UTF-8": TEXT.replace(b"ball", b"b\xe9ll"),
  "nested deep": b'{"question": ' + b"[" * 100_000 + b"\n",
  "NaN as score": _rows(video="clips/shapes-00000000.mp4", chosen_score="nan"),
}
VIDEOS = {
  "HLS playlist": PLAYLIST.encode(),
  "list of ffconcat": LIST.encode(),
  "text": b"no video at all\n",
  "empty": b"",
  "filled with zero bytes": bytes(1 << 16),
  "beginning of a clip": lambda clip: clip[:600],
  "half a clip": _without,
}
HEADERS = {
  "length of 2^62 bytes": _header(length=2**62),
  "length beyond the file": _header(length=10_000),
  "overlap": _header(("a", {}), ("b", {})),
  "negative shape": _header(("a", {"shape": [-2, -2]})),
  "shape that overflows": _header(("a", {"shape": [2**62, 4]})),
  "unknown dtype": _header(("a", {"dtype": "Q4"})),
  "data beyond the file": _header(("a", {"data_offsets": [0, 1 << 40]})),
  "a name twice": _header(("a", {}), ("a", {"dtype": "I32"})),
  "other tensors": _header(("a", {})),
  "no JSON": struct.pack("<Q", 9) + b"[" * 9,
  "empty": b"",
}
FOLDERS = {
  "config.json is a list": ("config.json", b"[]"),
  "config.json is cut": ("config.json", _without),
  "a size is missing": (
    "config.json",
    lambda x: x.replace(b"hidden_size", b"hiddn_size"),
  ),
  "tokenizer.json is cut": ("tokenizer.json", _without),
  "tokenizer.json is zero": ("tokenizer.json", bytes(1000)),
}
GROUPS = {
  "rows": {name: Case("train", PAIRS, x) for name, x in ROWS.items()},
  "videos": {name: Case("caption", CLIP, x) for name, x in VIDEOS.items()},
  "weights": {
    **{
      name: Case("caption", f"{WEIGHTS}/model.safetensors", x)
      for name, x in HEADERS.items()
    },
    **{
      name: Case("caption", f"{WEIGHTS}/{file}", x)
      for name, (file, x) in FOLDERS.items()
    },
  },
}


def feed(group: str, name: str):
  """A try that gives a command one bad input."""
  case = GROUPS[group][name]

  def attempt(bench: Bench, folder: pathlib.Path, rng: random.Random):
    del rng
    command = bench.fresh(case.command, folder)
    path = folder / case.file
    more = write_video(path, case.content, folder) if group == "videos" else ()
    if group != "videos":
      write(path, case.content, path)
    done = run(command, folder, *more)
    found = outcomes.refused(done)
    if found.survived and done.seconds > SECONDS:
      return Outcome(False, f"{name}: refused, but after {done.seconds:.0f} s")
    return found._replace(how=f"{name}: {found.how}")

  return attempt


def write_video(path: pathlib.Path, content, folder) -> tuple[str, ...]:
  """Puts a bad clip alone into a folder; returns the flag that names it."""
  path.parent.mkdir()
  clip = next((folder / "world" / "clips").glob("*.mp4"))
  write(path, content, clip)
  return (f"--config.videos={path.name}", f"--config.root={path.parent.name}")


def write(path: pathlib.Path, content, good: pathlib.Path) -> None:
  """Writes bad content, or what becomes of the good."""
  path.write_bytes(content(good.read_bytes()) if callable(content) else content)
