"""Captions of data batches: whose they are, and that fillers have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.data import pairs, pipeline, text
from synpo_jax.data.batch import Batch
from synpo_jax.data.text import load_tokenizer
from synpo_jax.generation import batch_captions, decode
from synpo_jax.generation.sampling import GREEDY, Sampling
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.weights.config_reading import captioner_config
from tests.support.decoding import EOS, V, prompts, run
from tests.support.small_captioner import TINY

VIDEOS = ("a", "b", "a", "c")
SAMPLED = Sampling(temperature=1.5, top_k=40, top_p=0.95)


def micro_batch(asked, rows):
  """Rows of prompts as data batches hold them; -1 is filler."""
  picked = {
    name: getattr(asked, name)[None, rows] for name in ("prefix", "prefix_mask")
  }
  others = dict.fromkeys(Batch._fields) | {"row": np.array([rows])}
  return Batch(**others | picked)


def small():
  """A captioner of words alone, its variables and its settings."""
  sizes = dict(
    model_type="llama",
    vocab_size=V,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
  )
  model = Captioner(captioner_config(sizes))
  start = model.init(jax.random.key(0), None, jnp.zeros((1, 2), jnp.int32))
  variables = jax.tree.map(lambda x: 20 * x, start)
  mesh = sharding.make_mesh(data=1, fsdp=1, model=1, devices=jax.devices()[:1])
  settings = dict(
    tokenizer=load_tokenizer(TINY), end=EOS, mesh=mesh, max_new_tokens=5
  )
  return model, variables, settings


@pytest.mark.slow
def test_captions_are_those_of_the_prompts_and_fillers_are_left_out():
  model, variables, settings = small()
  tokenizer = settings["tokenizer"]
  asked = prompts([5, 3, 6, 4], width=6)
  batches = [micro_batch(asked, rows) for rows in ([0, 1], [2, 3], [3, -1])]
  rows = [
    pairs.Pair(video, video, "?", (), "x", None, None, None) for video in VIDEOS
  ]
  data = pipeline.Data(batches, rows, [], None, {})

  def words(out, row, candidate=0):
    ids = out.tokens[row, candidate]
    return tokenizer.decode(ids, skip_special_tokens=True).strip()

  likely = run(
    model, variables, asked, decode.row_keys(0, list("wxyz")), max_new_tokens=5
  )
  want = {"a": words(likely, 0), "b": words(likely, 1), "c": words(likely, 3)}
  assert len({*want.values(), words(likely, 2)}) == 4
  greedy = batch_captions.greedy
  assert greedy(model, variables, data, most=9, **settings) == want
  two = greedy(model, variables, data, most=2, **settings)
  assert list(two.items()) == list(want.items())[:2]
  names = ["a", "filler"]
  drawn = run(
    model,
    variables,
    jax.tree.map(lambda x: x[2:], asked),
    decode.row_keys(3, names),
    max_new_tokens=5,
    sampling=SAMPLED,
    candidates=2,
  )
  made = batch_captions.write(
    model,
    variables,
    batches[1].micro(0),
    names,
    seed=3,
    candidates=2,
    sampling=SAMPLED,
    **settings,
  )
  assert made == [[words(drawn, b, c) for c in range(2)] for b in range(2)]
  assert any(one != other for one, other in made)


def test_captions_go_on_from_a_beginning_and_come_with_their_certainty():
  model, variables, settings = small()
  tokenizer, begun = settings["tokenizer"], "!?"
  ids = text.response_ids(tokenizer, [begun], EOS)[0][:-1]
  assert len(ids) > 1 and max(ids) < V
  asked = prompts([5, 3], width=6)
  made = batch_captions.write_scored(
    model,
    variables,
    micro_batch(asked, [0, 1]).micro(0),
    ["a", "b"],
    seed=0,
    candidates=2,
    sampling=GREEDY,
    beginning=begun,
    **settings,
  )
  longer = asked._replace(
    prefix=np.hstack([asked.prefix, np.tile(np.int32(ids), (2, 1))]),
    prefix_mask=np.hstack([asked.prefix_mask, np.ones((2, len(ids)), bool)]),
  )
  keys = decode.row_keys(0, ["a", "b"])
  want = run(model, variables, longer, keys, max_new_tokens=5)
  for row in range(2):
    whole = [*ids, *want.tokens[row, 0]]
    words = tokenizer.decode(whole, skip_special_tokens=True).strip()
    assert words.startswith(begun)
    length = want.lengths[row, 0]
    geometric = np.exp(want.logps[row, 0, :length].mean())
    assert 0 < geometric < 1
    for caption, certainty in made[row]:
      assert caption == words
      np.testing.assert_allclose(certainty, geometric, rtol=1e-5)
