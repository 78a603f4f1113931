"""Rounds: whole, killed, kept adapters, a server that loads them."""

import json
import math
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import rounds as recipe
from configs import vdc
from synpo_jax import rounds
from synpo_jax.generation import adapter_loading
from synpo_jax.reporting import rounds as told
from synpo_jax.runtime.workdir import newest_step
from synpo_jax.training import beginning, job
from synpo_jax.training import rounds as settings
from synpo_jax.weights import adapters, fingerprint, loading
from tests.support import captioner_server, fake_pairs, json_rows, small_rounds
from tests.support.judge_server import serve
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A captioner, four clips, references for two of them."""
  place = tmp_path_factory.mktemp("rounds")
  small_rounds.prepare(place)
  undo = small_rounds.lean()
  yield place
  undo()


@pytest.fixture(scope="module")
def whole(folder):
  """(workdir, rounds, questions that the judge was asked), never killed."""
  with serve(fake_pairs.honest) as (url, log):
    c = small_rounds.config(folder, url)
    found = rounds.run(c, folder / "whole", small_rounds.open_writer)
  return folder / "whole", found, [json.dumps(body) for body in log.bodies]


def started(workdir, number):
  return json.loads(
    (told.folder(workdir, number) / "train" / "config.json").read_text()
  )


# On real clips


def test_each_round_learns_from_what_the_last_one_says(whole):
  workdir, found, _ = whole
  assert [one.number for one in found] == [0, 1, 2]
  merged = str(told.folder(workdir, 1) / "merged")
  assert started(workdir, 2)["model"]["checkpoint"] == merged
  for number in (1, 2):
    place = told.folder(workdir, number)
    rows = json_rows.read(place / "data.jsonl")
    assert [row["id"] for row in rows] == [
      f"{number:04}/{clip}.mp4" for clip in range(small_rounds.CLIPS)
    ]
    origin = rows[0]["provenance"]["model"]
    base = merged if number == 2 else started(workdir, 1)["model"]["checkpoint"]
    assert origin["checkpoint"] == base
    metrics = (place / "train" / "metrics.jsonl").read_text()
    assert metrics.count('"step"') == 2  # 4 pairs, 2 an update
  texts = [
    one.captions["0.mp4" if "0.mp4" in one.captions else "0"] for one in found
  ]
  assert len({*texts}) == 3  # the stand-in speaks by the weights


def test_the_page_shows_the_rounds_side_by_side(whole):
  workdir, found, _ = whole
  page = (workdir / "rounds.html").read_text()
  for words in ("start", "round 1", "round 2", "CIDEr-D", "words, chosen"):
    assert words in page
  for one in found:
    assert next(iter(one.captions.values())) in page
  out = Console(width=120, record=True, quiet=True)
  out.print(told.table(found))
  assert told.sentence(found).startswith("After 2 rounds: CIDEr-D 0.000 -> ")
  assert "http" not in page.replace(str(workdir), "")


def test_what_is_done_is_not_done_again(whole, folder):
  workdir, found, asked = whole
  stamp = (workdir / "rounds" / "0002" / "data.jsonl").stat().st_mtime_ns
  c = small_rounds.config(folder, "http://nowhere.invalid/v1")
  again = rounds.run(c, workdir, small_rounds.open_writer)
  assert again == found
  assert (
    workdir / "rounds" / "0002" / "data.jsonl"
  ).stat().st_mtime_ns == stamp
  c.older = "keep"
  with pytest.raises(ValueError, match="another config: older .'drop' there"):
    rounds.run(c, workdir, small_rounds.open_writer)


# Killed


class Stop(BaseException):
  """Stands for a kill where all that follows is on the main thread."""


def stop():
  raise Stop


def kill(folder, workdir, url, name, count):
  """Starts it in a process of its own, which is killed after some writes."""
  given = [str(folder), str(workdir), url, name, str(count)]
  done = subprocess.run(
    [sys.executable, "-m", "tests.support.small_rounds", *given],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == -9, done.stderr


def test_killed_rounds_go_on_to_the_same_end(whole, folder):
  """Between two updates of round 2, and while its captions are written."""
  straight, found, asked = whole
  workdir = folder / "killed"
  shutil.copytree(straight, workdir)
  shutil.rmtree(told.folder(workdir, 2))
  with serve(fake_pairs.honest) as (url, log):
    # Its log begun, a row, another: the second update is not saved yet.
    kill(folder, workdir, url, "0002/train/metrics.jsonl", 3)
    updates = told.folder(workdir, 2) / "train" / "metrics.jsonl"
    assert len(json_rows.read(updates)) == 2
    assert newest_step(updates.parent) < 2
    c = small_rounds.config(folder, url)
    undo = small_rounds.stop_at("0002/evaluate/captions.jsonl", 1, stop)
    with pytest.raises(Stop):
      rounds.run(c, workdir, small_rounds.open_writer)
    undo()
    again = rounds.run(c, workdir, small_rounds.open_writer)
    questions = [json.dumps(body) for body in log.bodies]
  assert again == found
  second = asked[len(asked) // 2 :]
  assert sorted(questions) == sorted(second)  # none twice, none left out
  one, other = (told.folder(x, 2) for x in (straight, workdir))
  assert losses(one) == losses(other)
  assert weights(one) == weights(other)  # bit for bit


def weights(place) -> str:
  """All bytes of what a round ended with."""
  return fingerprint.captioner(str(place / "merged"), "")


def losses(place) -> list[float]:
  return [row["loss"] for row in json_rows.read(place / "train/metrics.jsonl")]


# An adapter that is kept, and served


@pytest.fixture(scope="module")
def kept(folder):
  """(workdir, config, adapters loaded, log) of rounds behind a server."""
  loaded = {}
  behave = captioner_server.with_adapters(loaded, fake_pairs.both)
  with serve(behave) as (url, log):
    c = small_rounds.config(folder, url)
    c.train.loss = dict(name="dpo", coefficients=vdc.LOSSES["dpo"])
    c.adapter, c.load_adapters = "keep", "vllm"
    c.older, c.older_share = "mix", 0.25
    for section in (c.pairs, c.evaluate):
      section.model.endpoint = url
      section.serving.update(model="served", first_wait=0.01)
    rounds.run(c, folder / "kept", small_rounds.open_writer)
    adapter_loading.load(url, [*loaded][0], "anywhere")  # it is there: no error
  return folder / "kept", c, loaded, log


def test_a_server_is_given_each_rounds_adapter(kept):
  workdir, _, loaded, log = kept
  names = [*loaded]
  assert [name.rpartition("-")[0] for name in names] == [
    "synpo-0001",
    "synpo-0002",
  ]
  assert [*loaded.values()] == [
    str(told.folder(workdir, n) / "adapter") for n in (1, 2)
  ]
  by = [
    body["model"]
    for body in log.bodies
    if "messages" in body and captioner_server.is_captioning(body)
  ]
  assert [*dict.fromkeys(by)] == ["served", *names]  # in this order


def test_a_kept_adapter_goes_on_and_is_the_reference(kept):
  workdir, c, _, _ = kept
  first = told.folder(workdir, 1) / "train"
  assert started(workdir, 2)["begin"] == {
    "adapter": str(first),
    "reference": "adapter",
  }
  # Before its first update a captioner is its own reference.
  begun = [losses(told.folder(workdir, n))[0] for n in (1, 2)]
  np.testing.assert_allclose(begun, math.log(2), rtol=1e-5)
  policy = settings.Policy(c.checkpoint, str(first))
  t = settings.train_config(c, 2, policy, workdir / "none.jsonl")
  opened = job.open_model(t)
  given = opened.model, opened.mesh
  fresh = loading.load_variables(
    opened.model, t.model.checkpoint, opened.mesh, t.seed
  )
  learned = adapters.read_run(first)
  begun = beginning.variables(t, *given, fresh)
  jax.tree.map(np.testing.assert_array_equal, begun["lora"], learned.lora)
  moved = [np.abs(x).max() for x in jax.tree.leaves(learned.lora)]
  assert min(moved) > 0  # b, too, which is zero at the start
  reference = beginning.reference(t, *given, fresh["params"])
  layer = ("decoder", "layers", "attn", "q")
  where = lambda tree: _at(tree, layer)  # noqa: E731
  a, b = (where(learned.lora)[name] for name in ("a", "b"))
  scale = c.train.lora.alpha / c.train.lora.rank
  np.testing.assert_allclose(
    where(reference)["kernel"] - where(fresh["params"])["kernel"],
    scale * np.einsum("lir,lro->lio", a, b),
    atol=1e-6,
  )
  t.begin.reference = "checkpoint"
  assert beginning.reference(t, *given, fresh["params"]) is fresh["params"]
  t.lora.rank = 4
  with pytest.raises(ValueError, match=r"\(rank, alpha\) are \(2, 2.0\)"):
    beginning.variables(t, job.open_model(t).model, opened.mesh, fresh)


def _at(tree, path):
  for name in path:
    tree = tree[name]
  return tree


def test_older_pairs_are_mixed_in(kept):
  rows = json_rows.read(told.folder(kept[0], 2) / "data.jsonl")
  rounds_of = [row["id"].partition("/")[0] for row in rows]
  assert rounds_of == ["0001"] + ["0002"] * 4  # a fifth, as near as whole pairs


# Refused


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"rounds": 0}, "rounds=0"),
    ({"adapter": "drop"}, "adapter='drop': choose merge, keep"),
    ({"older": "mix"}, "older_share=None with older=mix"),
    ({"older": "mix", "older_share": 1.0}, "older_share=1.0: give a share"),
    ({"reference": "first"}, "reference=first with adapter=merge"),
    ({"pairs.model.adapter": "x"}, "pairs.model.adapter=x: each round sets it"),
    ({"train.data.pairs": "x"}, "train.data.pairs=x: .* set pairs.videos"),
    (
      {"evaluate.model.template": "llava"},
      "evaluate.model.template=llava, but",
    ),
    ({"pairs.model.pixels.tokens": 9}, "pairs.model.pixels.tokens=9, but"),
    ({"pairs.stages": "pairs"}, "pairs.stages=pairs: a round wants all"),
    ({"load_adapters": "vllm"}, "no endpoint writes captions"),
    ({"pairs.model.endpoint": "http://h/v1"}, "load_adapters=vllm has it load"),
    (
      {"evaluate.model.endpoint": "http://h/v1", "load_adapters": "vllm"},
      "set adapter=keep",
    ),
    ({"checkpoint": ""}, "checkpoint: name the captioner"),
  ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, said):
  c = recipe.get_config()
  c.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=said):
    rounds.run(c, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_server_that_loads_no_adapter_is_named(tmp_path):
  refuse = lambda n, body: (404, {}, json.dumps({"detail": "Not Found"}))  # noqa: E731
  with serve(refuse) as (url, _):
    inside = url.replace("//", "//user:hunter2@")
    with pytest.raises(ValueError, match="VLLM_ALLOW_RUNTIME") as error:
      adapter_loading.load(inside, "synpo-0001", tmp_path)
  assert "status 404" in str(error.value) and "hunter2" not in str(error.value)
