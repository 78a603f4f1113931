"""Captions stay with the videos that they were written from."""

import io
import os
from functools import partial

import pytest
from rich.console import Console

from configs import caption as recipe
from synpo_jax import caption, make_pairs
from synpo_jax.data import originals
from synpo_jax.data.limits import Limits
from synpo_jax.evaluation import captions
from synpo_jax.evaluation.items import Item
from synpo_jax.generation import writer
from synpo_jax.runtime import digests
from tests.support import fake_pairs


def test_a_file_is_known_by_its_content_and_read_once(tmp_path, monkeypatch):
  path = tmp_path / "v.mp4"
  path.write_bytes(b"one")
  row = {"file": originals.describe(path)}
  os.utime(path, ns=(1, 1))  # a copy
  originals.check(path, row, "go away")
  path.write_bytes(b"two")
  originals.check(path, {}, "go away")  # an earlier version's row
  said = f"{path}: this is not the video .*; put that back, or go away"
  with pytest.raises(ValueError, match=said):
    originals.check(path, row, "go away")
  monkeypatch.delattr(digests, "of")
  now = path.stat()
  same = {"size": 3, "mtime_ns": now.st_mtime_ns, "sha256": "whatever"}
  originals.check(path, {"file": same}, "go away")


def start_caption(root, out, monkeypatch):
  c = recipe.get_config()
  c.model.checkpoint, c.root, c.videos = "", str(root), "*.mp4"
  c.output = str(out / "captions.jsonl")
  monkeypatch.setattr(writer, "open_writer", fake_pairs.open_writer)
  assert caption.run(c, Console(file=io.StringIO())) == []


def start_evaluate(root, out, monkeypatch):
  items = [Item(f"item {name}", name, "", ("What?",)) for name in "ab"]
  captions.make(
    items,
    captions.find_videos(items, "*.mp4", str(root)),
    out / "captions.jsonl",
    partial(fake_pairs.open_writer, {}),
    seed=0,
    frames=recipe.get_config().frames.to_dict(),
    readers=1,
    limits=Limits(**recipe.get_config().limits),
    origin={},
    **recipe.get_config().captions.to_dict() | {"candidates": 1},
  )


def start_make_pairs(root, out, monkeypatch):
  c = fake_pairs.config(root)
  c.update(videos="*.mp4", stages="segments,clips,candidates")
  c.model.checkpoint = ""
  make_pairs.run(c, out, fake_pairs.open_writer)


@pytest.mark.parametrize(
  "start", [start_caption, start_evaluate, start_make_pairs]
)
def test_a_command_goes_on_with_the_same_videos_only(
  start, tmp_path, monkeypatch
):
  root, out = tmp_path / "clips", tmp_path / "out"
  for name, shade in (("a", 40), ("b", 80)):
    fake_pairs.clip(root / f"{name}.mp4", 12, shade)
  again = partial(start, root, out, monkeypatch)
  again()
  os.utime(root / "a.mp4")
  again()
  fake_pairs.clip(root / "b.mp4", 12, 200)
  with pytest.raises(ValueError, match="b.mp4: this is not the video that it"):
    again()
