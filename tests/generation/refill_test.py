"""Refill: rows that grow together change nothing but the work."""

import functools

import jax
import numpy as np
import pytest

from configs import caption as recipe
from configs import pairs
from synpo_jax.data import prompts
from synpo_jax.generation import (
  captioning,
  decode,
  footprint,
  rooms,
  schedule,
  shots,
  writer,
)
from synpo_jax.generation.decode_loop import Choice, Prompts
from synpo_jax.generation.engine import Content, Engine, task
from synpo_jax.generation.prompt_batches import left_padded, rung
from synpo_jax.generation.sampling import Sampling
from synpo_jax.generation.schedule import Lengths
from synpo_jax.models import sharding
from synpo_jax.pairing import captioners
from synpo_jax.planning import captions
from synpo_jax.world import rendering, staging
from tests.support.decoding import EOS, V, make

pytestmark = pytest.mark.slow

SHORT = Lengths(16, 8)
ENDS = (EOS, *range(30, 36))
CHOICE = Choice(Sampling(temperature=1.2, top_k=20, top_p=0.95), ENDS, None)
SMALL = schedule.Room(
  rows=5,
  candidates=3,
  streams=1,
  most=13,
  block=4,
  page=4,
  prompt_pages=20,
  own_pages=24,
)


@functools.cache
def gemma():
  return make("gemma")


def contents(tails=False, count=4):
  """Videos of prompts of several lengths, perhaps with tails of their own."""
  rng = np.random.default_rng(5)
  out = []
  for n in range(count):
    prompt = rng.integers(3, V, 3 + 4 * n).tolist()
    ends = [prompt[-1:]] * 3
    if tails:
      ends = [rng.integers(3, V, size).tolist() for size in (2, 9, 5)]
    [keys] = np.asarray(decode.key_data(1, [f"video {n}"]))
    out.append(Content([prompt[:-1]], ends, None, keys, about=n))
  return out


def grown(model, variables, videos, room, longest=SHORT, mesh=None):
  """Captions by video and candidate, by refill."""
  engine = Engine(model, variables, mesh, room, CHOICE, 4, longest)
  waiting = iter([task(content) for content in videos])
  found = {}
  for one in schedule.run(lambda: next(waiting, None), engine, room, ENDS):
    found[one.content.about] = [one.done[c] for c in range(3)]
  return [found[n] for n in range(len(videos))]


def plain(model, variables, videos):
  """The same from `decode.generate`, all videos in one batch."""
  prompts = [video.prompts[0] for video in videos]
  prefix, mask = left_padded(prompts, 20)
  tails = [tail for video in videos for tail in video.tails]
  tail, tail_mask = (
    x.reshape(len(videos), 3, 9) for x in left_padded(tails, 9)
  )
  out = decode.generate(
    model,
    variables,
    Prompts(prefix, mask, tail=tail, tail_mask=tail_mask),
    decode.row_keys(1, [f"video {n}" for n in range(len(videos))]),
    candidates=3,
    max_new_tokens=SMALL.most,
    sampling=CHOICE.sampling,
    eos_ids=ENDS,
  )
  return [
    [schedule.Grown(row[:n], s[:n]) for row, s, n in zip(*rows, strict=True)]
    for rows in zip(out.tokens, out.logps, out.lengths, strict=True)
  ]


@pytest.mark.parametrize("tails", [False, True])
def test_captions_are_those_of_a_batch_of_their_own(tails):
  """Rows come and go, some begin anew; no token is another one."""
  model, variables = gemma()
  videos = contents(tails)
  found = sum(grown(model, variables, videos, SMALL), [])
  for ours, wanted in zip(
    found, sum(plain(model, variables, videos), []), strict=True
  ):
    assert ours.tokens.tolist() == wanted.tokens.tolist()
    # Rounding 4e-6; a position off by one is 1e-1.
    np.testing.assert_allclose(ours.logps, wanted.logps, atol=3e-5)
  sizes = [len(row.tokens) for row in found]
  assert min(sizes) < 4 and max(sizes) == 13  # they end at all sorts of steps


def test_a_mesh_changes_no_token():
  """Pages over four devices, heads over two; prompts are read four by four."""
  model, variables = gemma()
  videos = contents(tails=True, count=5)
  wanted = sum(grown(model, variables, videos, SMALL), [])
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  variables = jax.device_put(
    variables, sharding.tree_shardings(variables, mesh)
  )
  room = SMALL._replace(rows=8, reads=4, prompt_pages=32, own_pages=64)
  found = sum(grown(model, variables, videos, room, mesh=mesh), [])
  for ours, one in zip(found, wanted, strict=True):
    assert ours.tokens.tolist() == one.tokens.tolist()


def test_few_programs_serve_prompts_of_any_length():
  """Of 1 to 90 tokens, with tails of 1 to 130: each rung is compiled once.

  Up to 64 times the first rung there are ten rungs, as the test of rungs has
  it; with five widths of rows, tails, keys, two pools and a clip's three
  numbers of frames that makes 22 programs.
  """
  model, variables = gemma()
  rng = np.random.default_rng(2)
  prompts, tails = rng.permutation(np.arange(1, 91)), rng.integers(1, 130, 90)
  compiled, on = [], [True]

  def listen(name, seconds, **kwargs):
    if on and name.endswith("backend_compile_duration"):
      compiled.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  videos = [
    Content(
      [rng.integers(3, V, prompt).tolist()],
      [rng.integers(3, V, size).tolist() for size in (1, tail, 1)],
      None,
      np.asarray(decode.key_data(0, [f"video {n}"]))[0],
      about=n,
    )
    for n, (prompt, tail) in enumerate(zip(prompts, tails, strict=True))
  ]
  room = SMALL._replace(rows=9, prompt_pages=90, own_pages=150, most=6)
  grown(model, variables, videos[:30], room, longest=Lengths(90, 130))
  on.clear()
  rungs = len({rung(n, 4) for n in prompts[:30].tolist()})
  print(f"{len(compiled)} programs, {rungs} of them for lengths of prompts")
  assert len(compiled) <= rungs + 5 + 1 + 1 + 2 + 1
  assert len(compiled) < 24


# Memory, before the first video


def test_a_batch_that_does_not_fit_is_halved_before_it_begins(caplog):
  """The limit is between what 4 and 2 videos need, as compiled."""
  model, variables = gemma()
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  variables = jax.device_put(variables, jax.devices()[0])
  plan = footprint.Plan(model, variables, mesh, CHOICE, 8, 0, False)
  ask = shots.Ask(0, "?", 3, 12, 1.0, 20, 1.0, True, False, 0.0, None)
  most = Lengths(16, 20)

  def make(videos):
    return rooms.plan(most, mesh, videos, ask)

  two, four = (footprint.need(plan, make(n), most, None) for n in (2, 4))
  assert two.own < four.own and two.peak < four.peak
  assert set(four.peaks) == {"read prompts", "read tails", "fill"}
  assert four.peak > four.weights + four.prompts + four.own
  limit = (two.peak + four.peak) // 2
  room = footprint.fitting(plan, most, make, 4, limit)
  assert room == make(2)
  assert "captions of 4 videos at once need" in caplog.text
  assert "GiB of a device; 2 at once instead" in caplog.text
  assert footprint.fitting(plan, most, make, 4, None) == make(4)
  with pytest.raises(ValueError, match="captions of one video at a time need"):
    footprint.fitting(plan, most, make, 1, two.weights)


@pytest.mark.parametrize(
  "devices, usable", [(1, 0.95 * 80e9), (8, 15.75 * 2**30)]
)
def test_the_defaults_hold_7b_on_one_gpu_and_on_v5e_8(devices, usable):
  """Weights and pages leave a tenth for what programs need beside them."""
  c = pairs.get_config()
  c.model.kept_ratio = 0.1
  for name in captioners.STAGES:
    plan, ask = captions.abstract(c, name, jax.devices()[:devices])
    most = captions.lengths(c, plan, ask)
    videos = captioners.placing(c, name)["batch_size"]
    room = rooms.plan(most, plan.mesh, videos, ask)
    held = [*footprint.pools(plan, room), plan.variables]
    gib = [footprint.held(tree) / 2**30 for tree in held]
    print(f"{name} on {devices}: {room.rows} rows; {np.round(gib, 2)} GiB")
    assert sum(gib) * 2**30 <= 0.9 * usable


# A byte for each key and value


ASK = shots.Ask(
  0, prompts.TRAINING_QUESTION, 1, 48, 0.0, 1, 1.0, False, False, 0.0, None
)


def told(kv, base):
  """Greedy captions of three scenes by the shipped captioner."""
  c = recipe.get_config()
  c.model.update(kv=kv, base=base)
  opened = writer.open_writer(c.placing.to_dict(), **c.model.to_dict())
  side, moments = opened.pixels.size[0], np.linspace(0, 1, 8)
  clips = []
  for seed in range(3):
    scene = staging.sample(seed)
    pictures = [rendering.picture(scene, float(t), side) for t in moments]
    clips.append(shots.Shot(f"{seed}", np.stack(pictures)))
  tasks = iter(captioning.first_tasks(opened, iter(clips), ASK, 3))
  grower = captioning.grower_for(opened, ASK)
  ahead = functools.partial(next, tasks, None)
  done = schedule.run(ahead, grower, grower.room, opened.eos_ids)
  return {task.content.about.name: task.done[0] for task in done}


def test_int8_moves_the_shipped_captioner_little(monkeypatch):
  """Tokens that agree from the start, and log-probs as far as they do."""
  monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
  floats = told("float", "float")
  for kv, base in (("int8", "float"), ("int8", "int8")):
    agreed, drift, found = 0, [], told(kv, base)
    for name, wanted in floats.items():
      n = min(len(wanted.tokens), len(found[name].tokens))
      same = wanted.tokens[:n] == found[name].tokens[:n]
      same = n if same.all() else int(same.argmin())
      agreed += same
      drift += [*np.abs(wanted.logps[:same] - found[name].logps[:same])]
    share = agreed / sum(len(one.tokens) for one in floats.values())
    print(
      f"keys {kv}, base {base}: {share:.1%} of tokens before the first other; "
      f"drift {np.mean(drift):.4f} nats, {np.max(drift):.4f} at most"
    )
    assert share > 0.5 and np.mean(drift) < 0.02
