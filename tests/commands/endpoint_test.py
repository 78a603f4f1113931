"""caption and make_pairs with a captioner behind an endpoint."""

import io
import json
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from configs import caption as recipe
from synpo_jax import caption, make_pairs
from synpo_jax.pairing import ledger
from tests.support import (
  captioner_server,
  fake_pairs,
  json_rows,
  next_commands,
)
from tests.support.captioner_server import answer, honest
from tests.support.judge_server import HANG, serve


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  """Three small clips and a file that is none."""
  root = tmp_path_factory.mktemp("videos")
  for name, frames in (("a", 12), ("b", 30), ("c", 60)):
    fake_pairs.clip(root / f"{name}.mp4", frames, frames * 2)
  (root / "broken.mp4").write_bytes(b"no video at all")
  return root


def config(videos, output, url, **serving):
  """The documented config, asking a server."""
  c = recipe.get_config()
  c.videos, c.root, c.output = ".", str(videos), str(output)
  c.model.endpoint = url
  c.serving.update(model="served", first_wait=0.01, concurrency=2)
  c.serving.update(serving)
  return c


def run(c):
  """(rows, faults, what was shown)."""
  shown = io.StringIO()
  faults = caption.run(c, Console(file=shown, width=200))
  return json_rows.read(c.output), faults, shown.getvalue()


def test_captions_come_from_the_server_and_stay(videos, tmp_path, capsys):
  output, failing = tmp_path / "captions.jsonl", [1 + 12]

  def behave(n, body):
    if len(body["messages"][0]["content"]) in failing:
      return 500, {}, ""
    return honest(n, body)

  with serve(behave) as (url, log):
    inside = url.replace("//", "//user:hunter2@")
    c = config(videos, output, inside, tries=2, side=16)
    c.frames.update(min_frames=8, max_frames=12, frames_per_second=1.0)
    rows, faults, shown = run(c)
    assert [row["id"] for row in rows] == ["a.mp4", "b.mp4"]
    assert "broken.mp4: cannot be read" in faults[0]
    assert faults[1].startswith("c.mp4: unavailable: status 500")
    assert faults[1] in capsys.readouterr().err
    c.videos = "a.mp4,b.mp4,c.mp4"
    failing.clear()
    again, faults, _ = run(c)
    assert not faults and again[:2] == rows and len(again) == 3
    asked = len(log.bodies)
    assert run(c)[0] == again and len(log.bodies) == asked
    c.serving.model = "another"
    with pytest.raises(ValueError, match="other settings"):
      run(c)
  served = {"endpoint": url, "model": "served", "system_fingerprint": "fp-1"}
  assert [row["served"] for row in again] == [served] * 3
  assert again[0]["frames"] == 8 and again[0]["seed"] == 0
  said = {captioner_server.words(body) for body in log.bodies}
  assert {row["caption"] for row in again} <= said
  assert "captioner: 4 calls" not in shown and "captioner: 2 calls" in shown
  for path in tmp_path.iterdir():
    assert b"hunter2" not in path.read_bytes()


def test_another_system_goes_on_with_no_rows(videos, tmp_path):
  told = ["fp-1"]
  behave = lambda n, body: answer("A dog.", fingerprint=told[0])  # noqa: E731
  with serve(behave) as (url, _):
    c = config(videos, tmp_path / "x.jsonl", url)
    c.videos = "a.mp4"
    run(c)
    c.videos, told[0] = "a.mp4,b.mp4", "fp-2"
    with pytest.raises(ValueError, match="'fp-2', captions so far .*'fp-1'"):
      run(c)


def test_a_video_is_sent_whole(videos, tmp_path):
  with serve(honest) as (url, log):
    c = config(videos, tmp_path / "x.jsonl", url, send="video")
    c.videos = "a.mp4,b.mp4"
    rows, _, shown = run(c)
  kinds = [body["messages"][0]["content"][0]["type"] for body in log.bodies]
  assert kinds == ["video_url"] * 2
  assert "frames" not in rows[0] and "all of 2.4 s" in shown


@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("captions.contrast_weight", 0.5, "captions.contrast_weight=0.5: .*logits"),
    ("model.adapter", "runs/x", "model.adapter=runs/x: of no use"),
    ("model.kept_ratio", 0.1, "model.kept_ratio=0.1: of no use"),
    ("model.checkpoint", "x/y", "model.checkpoint=x/y: of no use"),
    ("model.template", "qwen_vl", "model.template=qwen_vl: of no use"),
    ("model.dtype", "float16", "model.dtype=float16: of no use"),
    ("model.kv", "int8", "model.kv=int8: of no use"),
    ("model.pixels.resize", "squash", "model.pixels.resize=squash: of no use"),
    ("serving.model", "", "captioner: no model; set serving.model"),
    ("model.endpoint", "here", "captioner: model.endpoint is no address"),
  ],
)
def test_what_it_cannot_do_is_said_before_anything_is_read(
  tmp_path, key, value, said
):
  c = config(tmp_path / "nowhere", tmp_path / "x.jsonl", "http://h:1/v1")
  c.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=said):
    run(c)
  p = fake_pairs.served(tmp_path / "nowhere", "http://h:1/v1")
  p.update_from_flattened_dict({key.replace("captions", "clips"): value})
  with pytest.raises(ValueError, match=said.replace("captions", "clips")):
    make_pairs.run(p, tmp_path / "run")
  assert not list(tmp_path.iterdir())


def test_the_command_ends_in_one_line(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "synpo_jax.make_pairs", "--config=pairs"),
      *(f"--workdir={tmp_path}/run", "--config.served=candidates"),
      *("--config.model.endpoint=http://h:1/v1", "--config.serving.model=m"),
      *("--config.stages=candidates", "--config.model.checkpoint=no/model"),
      "--config.candidates.contrast_weight=0.5",
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and not (tmp_path / "run").exists()
  [line] = done.stderr.splitlines()
  assert line.startswith("error: candidates.contrast_weight=0.5: contrastive")


def lines(workdir, name):
  return json_rows.read(workdir / name)


def test_pairs_are_made_of_a_server_s_captions(videos, tmp_path):
  with serve(fake_pairs.both) as (url, log):
    c = fake_pairs.served(videos, url)
    summary = make_pairs.run(c, tmp_path)
    asked = len(log.bodies)
    assert make_pairs.run(c, tmp_path) == summary and len(log.bodies) == asked
    mine = [b for b in log.bodies if captioner_server.is_captioning(b)]
    assert summary["captioner"]["calls"] == len(mine)
    assert len(mine) == 3 * (2 * 2) + 3 * (1 + 4)  # parts twice; candidates
    c.serving.side = 32
    with pytest.raises(ValueError, match="side: 768 then, 32 now"):
      make_pairs.run(c, tmp_path)
  served = {"endpoint": url, "model": "served", "system_fingerprint": "fp-1"}
  [pair, *_] = lines(tmp_path, "pairs.jsonl")
  assert pair["provenance"]["served"] == served
  assert pair["provenance"]["model"]["endpoint"] == url
  row = lines(tmp_path, "candidates.jsonl")[0]
  assert row["served"] == served and len(set(row["captions"])) == 4
  assert "served at http://" in (tmp_path / "pairs.html").read_text()


def test_processes_share_the_asking_and_find_each_other_s_answers(
  videos, tmp_path
):
  with serve(fake_pairs.both) as (url, log):
    c = fake_pairs.served(videos, url)
    c.stages = "segments,candidates"
    for index in range(3):
      make_pairs.run(c, tmp_path, share=ledger.Share(index, 3))
    asked = len(log.bodies)
    for path in tmp_path.glob("candidates.*.jsonl"):
      path.unlink()
    make_pairs.run(c, tmp_path)
    assert len(log.bodies) == asked == 3 * (1 + 4)
  assert len(lines(tmp_path, "candidates.jsonl")) == 3


def test_ctrl_c_ends_it_while_the_server_says_nothing(videos, tmp_path):
  with serve(lambda n, body: HANG) as (url, log):
    run = subprocess.Popen(
      [
        *(sys.executable, "-m", "synpo_jax.caption", "--config=caption"),
        *(f"--config.root={videos}", f"--config.output={tmp_path}/x.jsonl"),
        *(f"--config.model.endpoint={url}", "--config.serving.model=m"),
      ],
      stderr=subprocess.PIPE,
      text=True,
    )
    while not log.bodies and run.poll() is None:
      time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    told = run.communicate(timeout=60)[1].splitlines()
  assert run.returncode == 130
  assert "broken.mp4: cannot be read" in told[0]
  assert len(told) == 2 and "captions so far are in config.output" in told[1]


def test_what_to_type_next_opens_nothing(videos, tmp_path):
  c = config(videos, tmp_path / "x.jsonl", "http://u:hunter2@h:1/v1")
  entry, given = next_commands.check(caption._next(c))
  assert entry == "make_pairs" and given["config.serving.model"] == "served"
  assert given["config.model.endpoint"] == "http://h:1/v1"


def test_a_stage_each_as_one_likes(videos, tmp_path):
  opened = []

  def open_writer(placing, **model):
    opened.append(model)
    return fake_pairs.Writer()

  with serve(fake_pairs.both) as (url, log):
    c = fake_pairs.served(videos, url)
    c.model.checkpoint, c.served = "synpo_jax/assets/tiny", "candidates"
    c.stages = "segments,clips,candidates"
    make_pairs.run(c, tmp_path, open_writer)
    assert len(log.bodies) == 3 * (1 + 4) and len(opened) == 1
    assert "endpoint" not in opened[0]
  known = ledger.made_with(tmp_path, "clips", "candidates")
  models = [
    known[name]["settings"]["model"] for name in ("clips", "candidates")
  ]
  assert models[0]["checkpoint"] and "weights" in models[0]
  assert models[1]["endpoint"] == url and "checkpoint" not in models[1]
  c.served = "candidates,judge"
  with pytest.raises(ValueError, match="served: 'judge' is none of clips, can"):
    make_pairs.run(c, tmp_path, open_writer)


def test_a_video_that_the_server_fails_is_left_out_and_asked_again(
  videos, tmp_path
):
  picky = [True]

  def behave(n, body):
    if picky[0] and captioner_server.question(body).startswith("Describe"):
      if len(body["messages"][0]["content"]) == 1 + 12:
        return 400, {}, '{"error": {"message": "no"}}'
    return honest(n, body)

  with serve(behave) as (url, log):
    c = fake_pairs.served(videos, url)
    c.stages, c.candidates.frames.max_frames = "segments,candidates", 12
    c.candidates.frames.frames_per_second = 1.0
    left = make_pairs.run(c, tmp_path)["unreadable"]
    assert left["c.mp4"].startswith("c.mp4: refused: status 400")
    asked, picky[0] = len(log.bodies), False
    assert "c.mp4" not in make_pairs.run(c, tmp_path)["unreadable"]
    assert len(log.bodies) == asked + 1 + 4
  assert len(lines(tmp_path, "candidates.jsonl")) == 3
  assert json.loads((tmp_path / "summary.json").read_text())["captioner"]
