"""Generation from caches against plain forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from synpo_jax.generation import decode, decode_loop, sampling
from synpo_jax.generation.sampling import GREEDY, Sampling
from synpo_jax.models import sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import (
  CaptionerConfig,
  DecoderConfig,
)
from tests.support.decoding import EOS, LLAMA, make, prompts, run

SAMPLED = Sampling(temperature=1.2, top_k=20, top_p=0.95)


def plain_logits(model, variables, rows):
  """Logits [N,T,V] of whole unpadded-prefix rows, without any cache."""
  longest = max(map(len, rows))
  tokens = np.zeros((len(rows), longest), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return np.asarray(jax.jit(model.apply)(variables, None, tokens))


def check_rows(model, variables, batch, keys, out, how, eos_ids=(EOS,)):
  """Every token and log-prob follows from one plain forward per row."""
  B, C, R = out.tokens.shape
  rows = [
    np.concatenate([prompt_of(batch, b, c), out.tokens[b, c]])
    for b, c in np.ndindex(B, C)
  ]
  logits = plain_logits(model, variables, rows)
  for n, row in enumerate(rows):
    b, c = divmod(n, C)
    start, length = len(row) - R, int(out.lengths[b, c])
    steps = logits[n, start - 1 : start - 1 + R]
    tokens = out.tokens[b, c, :length]
    logps, again = replay(steps, out.tokens[b, c], keys[b], c, how, eos_ids[0])
    # Rounding 4e-6; a position off by one is 1e-1.
    np.testing.assert_allclose(
      out.logps[b, c, :length], logps[:length], atol=3e-5
    )
    np.testing.assert_array_equal(tokens, again[:length])
    ends = np.isin(tokens, eos_ids)
    assert not ends[:-1].any() and (ends[-1] or length == R)
    assert (out.tokens[b, c, length:] == eos_ids[0]).all()
    assert not out.logps[b, c, length:].any()


@functools.partial(jax.jit, static_argnames=("how", "eos"))
def replay(steps, tokens, key, candidate, how, eos):
  """Log-probs of the tokens [R] by logits [R, V], and what those draw."""
  key = jax.random.fold_in(key, candidate)
  spots = jnp.arange(len(tokens))
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, spots)
  drawn = sampling.choose(keys, steps, how, eos)
  return sampling.chosen_logps(steps, tokens), drawn


def prompt_of(batch, b, c):
  """The real tokens of a row's prompt, its tail included."""
  prompt = batch.prefix[b][batch.prefix_mask[b]]
  if batch.tail is None:
    return prompt
  return np.concatenate([prompt, batch.tail[b, c][batch.tail_mask[b, c]]])


@pytest.fixture
def small_blocks(monkeypatch):
  """Blocks of 3 and 3 tokens: long captions without the time."""
  monkeypatch.setattr(decode, "FIRST_BLOCK", 3)
  monkeypatch.setattr(decode, "LARGEST_BLOCK", 3)


@pytest.fixture(scope="module")
def llama():
  return make("llama")


@pytest.mark.parametrize(
  "family", [pytest.param("gemma", marks=pytest.mark.slow), "mistral"]
)
def test_cached_greedy_decoding_equals_the_full_forward(family, small_blocks):
  model, variables = make(family)
  batch = prompts([9, 4, 7], width=11)
  keys = decode.row_keys(0, ["a", "b", "c"])
  out = run(model, variables, batch, keys)
  check_rows(model, variables, batch, keys, out, GREEDY)


@pytest.mark.slow
def test_cached_sampling_equals_the_full_forward(llama, small_blocks):
  """Ended rows are dropped on the way: from 3 x 4 rows down to few."""
  model, variables = llama
  batch = prompts([9, 4, 7], width=11)
  keys = decode.row_keys(1, ["a", "b", "c"])
  eos_ids = (EOS, *range(30, 40))
  settings = dict(sampling=SAMPLED, candidates=4, eos_ids=eos_ids)
  out = run(model, variables, batch, keys, **settings)
  check_rows(model, variables, batch, keys, out, SAMPLED, eos_ids)
  lengths = out.lengths.reshape(-1)
  assert lengths.min() == 1 and (lengths > 3).sum() <= 6 < 12
  assert len(set(map(tuple, out.tokens[0]))) > 1


@pytest.mark.slow
def test_candidates_may_go_on_from_tails_of_their_own(llama):
  model, variables = llama
  batch = prompts([6, 3], width=8)
  tails = prompts([4, 2, 3, 1], width=5, seed=1)
  batch = batch._replace(
    tail=tails.prefix.reshape(2, 2, 5),
    tail_mask=tails.prefix_mask.reshape(2, 2, 5),
  )
  keys = decode.row_keys(0, ["a", "b"])
  out = run(model, variables, batch, keys, candidates=2)
  check_rows(model, variables, batch, keys, out, GREEDY)


@pytest.mark.slow
def test_a_caption_does_not_depend_on_mates_padding_or_place(llama):
  model, variables = llama
  ids, lengths = ["a", "b", "c"], [9, 4, 7]
  batch = prompts(lengths, width=11)
  settings = dict(sampling=SAMPLED)
  keys = decode.row_keys(0, ids)
  together = run(model, variables, batch, keys, candidates=3, **settings)
  alone = jax.tree.map(lambda x: np.pad(x[1:2], ((0, 0), (5, 0))), batch)
  keys = decode.row_keys(0, ["b"])
  single = run(model, variables, alone, keys, candidates=2, **settings)
  np.testing.assert_array_equal(single.tokens[0], together.tokens[1, :2])
  turned = jax.tree.map(lambda x: x[::-1], batch)
  keys = decode.row_keys(0, ids[::-1])
  again = run(model, variables, turned, keys, candidates=3, **settings)
  np.testing.assert_array_equal(again.tokens[::-1], together.tokens)
  keys = decode.row_keys(1, ids)
  other = run(model, variables, batch, keys, candidates=3, **settings)
  assert (other.tokens != together.tokens).any()


def test_an_end_drawn_first_ends_the_row(llama):
  model, variables = llama
  batch, keys = prompts([9, 4], width=11), decode.row_keys(0, ["a", "b"])
  first = run(model, variables, batch, keys, max_new_tokens=1).tokens[:, 0, 0]
  assert first[0] != first[1]
  eos_ids = (int(first[0]),)
  out = run(model, variables, batch, keys, eos_ids=eos_ids, max_new_tokens=7)
  assert out.lengths[0, 0] == 1 and (out.tokens[0] == first[0]).all()
  assert out.lengths[1, 0] > 1 and not out.logps[0, 0, 1:].any()
  check_rows(model, variables, batch, keys, out, GREEDY, eos_ids)


@pytest.mark.slow
def test_the_prompt_is_stored_once(llama):
  """Ten candidates cost less than one more copy of a long prompt."""
  config = CaptionerConfig(DecoderConfig(**{**LLAMA, "head_dim": 64}))
  model, P = Captioner(config, dtype=jnp.dtype("float32")), 2048
  choice = decode_loop.Choice(GREEDY, (EOS,), None)

  def bytes_of(candidates):
    def inputs():
      variables = model.init(jax.random.key(0), None, jnp.zeros((1, 2), int))
      prefix, mask = jnp.zeros((1, P), jnp.int32), jnp.ones((1, P), bool)
      batch = decode_loop.Prompts(prefix, mask)
      state, _ = decode_loop.begin(
        model,
        variables,
        batch,
        None,
        decode.row_keys(0, ["a"]),
        jnp.zeros(1),
        candidates,
        choice,
      )
      return variables, state

    abstract = jax.eval_shape(inputs)
    fill = decode_loop._fill.lower(model, *abstract, 8, choice).compile()
    memory = fill.memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes

  prompt = 2 * 2 * P * 2 * 64 * 4  # keys and values, layers, heads, float32
  assert bytes_of(10) - bytes_of(1) < prompt


@pytest.mark.slow
def test_a_mesh_changes_nothing(llama):
  model, variables = llama
  batch = prompts([9, 4, 7, 5], width=11)
  keys = decode.row_keys(0, ["a", "b", "c", "d"])
  settings = dict(sampling=SAMPLED, candidates=2)
  want = run(model, variables, batch, keys, **settings)
  mesh = sharding.make_mesh(data=2, fsdp=2, model=2)
  variables = jax.device_put(
    variables, sharding.tree_shardings(variables, mesh)
  )
  rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
  got = run(model, variables, jax.device_put(batch, rows), keys, **settings)
  np.testing.assert_array_equal(got.tokens, want.tokens)
  np.testing.assert_allclose(got.logps, want.logps, atol=3e-5)


@pytest.mark.parametrize(
  "wrong, said",
  [
    (dict(candidates=0), "candidates=0"),
    (dict(max_new_tokens=0), "max_new_tokens=0"),
    (dict(eos_ids=()), "eos_ids"),
    (dict(sampling=Sampling(1.0, 0, 1.0)), "top_k"),
  ],
)
def test_bad_settings_are_named(llama, wrong, said):
  batch = prompts([3], width=3)
  with pytest.raises(ValueError, match=said):
    run(*llama, batch, decode.row_keys(0, ["a"]), **wrong)


def test_block_lengths_cover_all_tokens_but_the_last():
  assert decode.blocks(1) == []
  assert decode.blocks(2) == [(0, 1)]
  assert decode.blocks(65) == [(0, 64)]
  assert [size for _, size in decode.blocks(801)] == [64, 64, 128, 256, 256, 32]
