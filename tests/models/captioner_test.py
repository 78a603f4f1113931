"""The captioner against arrays of the official release (golden/README.md).

Measured float32 noise against the smallest planted bug: embeddings 2e-6
(tanh GELU 6e-4), logits 2e-5 (RMS eps 1e-4), gradients 2e-5 of the largest.
"""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.models import lora as lora_lib
from synpo_jax.weights.config_reading import captioner_config
from tests.support.golden_captioner import expand, lora_tree, read_captioner

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile


@pytest.fixture(scope="module", params=["a", "b"])
def case(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp("golden")
  z, model, variables = read_captioner(request.param, folder)
  return SimpleNamespace(
    z=z,
    config=model.config,
    model=model,
    variables=variables,
    pairs=len(z["frames_per_pair"]),
    tokens=model.config.tokens_per_frame,
  )


@pytest.fixture(scope="module")
def visual(case):
  """Visual embeddings [B, M, D], each pair padded with repeats."""
  frames = case.z["frames_per_pair"]
  pixels = case.z["pixel_values"].astype(np.float32).transpose(0, 2, 3, 1)
  starts = np.cumsum(frames) - frames
  index = starts[:, None] + np.arange(frames.max())[None]
  pixels = pixels[np.minimum(index, len(pixels) - 1)]
  encode = jax.jit(
    lambda v, x: case.model.apply(
      v, case.model.apply(v, x, method="encode_pixels"), method="connect"
    )
  )
  return encode(case.variables, pixels)


def two_sequence_batch(case):
  """Rows in the golden order, padded on the left: tokens, mask, targets."""
  z, rows = case.z, []
  for which in ("chosen", "rejected"):
    for b in range(case.pairs):
      prompt = expand(z[f"input_ids/{b}"], case.tokens)
      rows.append(np.concatenate([prompt, z[f"{which}_ids/{b}"]]))
  length = z["labels"].shape[1]
  tokens = np.zeros((len(rows), length), np.int32)
  mask = np.zeros(tokens.shape, bool)
  for n, row in enumerate(rows):
    tokens[n, length - len(row) :], mask[n, length - len(row) :] = row, True
  return jnp.asarray(tokens), jnp.asarray(mask)


def forward(case, variables, tokens, segments, positions, visual):
  x = case.model.apply(variables, tokens, visual, method="embed")
  hidden, _ = case.model.apply(
    variables, x, positions, segments, method="decode"
  )
  return x, case.model.apply(variables, hidden, method="logits")


def logps_of(logits, targets):
  every = jax.nn.log_softmax(logits, axis=-1)
  return jnp.take_along_axis(every, targets[..., None], axis=-1)[..., 0]


def test_visual_tokens(case, visual):
  frames = case.z["frames_per_pair"]
  ours = [
    np.asarray(visual)[b, : n * case.tokens] for b, n in enumerate(frames)
  ]
  theirs = case.z["visual_tokens"]
  ours = np.concatenate(ours).reshape(theirs.shape)
  np.testing.assert_allclose(ours, theirs, atol=5e-5)


@pytest.fixture(scope="module")
def two_sequence(case, visual):
  tokens, mask = two_sequence_batch(case)
  doubled = jnp.tile(visual, (2, 1, 1))
  labels = np.pad(
    case.z["labels"][:, 1:], ((0, 0), (0, 1)), constant_values=-100
  )
  scored = labels != -100

  def run(lora, variables):
    variables = {**variables, "lora": lora}
    positions, _ = case.model.apply(variables, tokens, mask, method="positions")
    x, logits = forward(
      case, variables, tokens, mask.astype(jnp.int32), positions, doubled
    )
    logps = logps_of(logits, np.where(scored, labels, 0))
    mean = jnp.mean(logps, axis=-1, where=scored)
    mean_prob = jnp.mean(jnp.exp(logps), axis=-1, where=scored)
    B = case.pairs
    gap = jnp.exp(mean[:B]) - jnp.exp(mean[B:])
    loss = jnp.mean(-jax.nn.sigmoid(30.0 * gap) - 0.2 * mean_prob[:B])
    return loss, dict(
      x=x,
      logits=logits,
      mean=mean,
      prob=mean_prob,
      total=jnp.sum(logps, axis=-1, where=scored),
    )

  grad = jax.jit(jax.value_and_grad(run, has_aux=True))
  (loss, out), grads = grad(case.variables["lora"], case.variables)
  return dict(out, loss=loss, grads=grads, mask=mask)


def test_embeddings_and_logits(case, two_sequence):
  z, mask = case.z, two_sequence["mask"]
  np.testing.assert_array_equal(mask, z["attention_mask"])
  np.testing.assert_allclose(
    np.asarray(two_sequence["x"])[mask], z["inputs_embeds"][mask], atol=5e-5
  )
  keep = z["logits_mask"]
  np.testing.assert_allclose(
    np.asarray(two_sequence["logits"])[keep], z["logits"][keep], atol=1e-4
  )


def test_logps_and_loss(case, two_sequence):
  z = case.z
  for ours, theirs, atol in (
    ("mean", "mean_logprob", 5e-6),
    ("prob", "mean_prob", 5e-6),
    ("loss", "synpo/loss", 5e-6),
    ("total", "dpo/policy_logprob_sum", 1e-4),
  ):
    np.testing.assert_allclose(two_sequence[ours], z[theirs], atol=atol)


def test_lora_gradients(case, two_sequence):
  z = case.z
  theirs = lora_tree(z, "synpo/grad/", case.config.decoder.layers)
  largest = max(np.abs(g).max() for g in jax.tree.leaves(theirs))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest),
    two_sequence["grads"],
    theirs,
  )
  total = sum(g.size for g in jax.tree.leaves(theirs))
  assert total == int(z["num_lora_elements"])
  norm = np.sqrt(
    sum(
      np.sum(np.square(g, dtype=np.float64))
      for g in map(np.asarray, jax.tree.leaves(two_sequence["grads"]))
    )
  )
  np.testing.assert_allclose(
    norm / total, z["synpo/grad_norm_over_n"], rtol=1e-4
  )


def packed_batch(case, slot):
  """[prefix | chosen | rejected] rows, prefix padded left, slots right."""
  z = case.z
  prompts = [
    expand(z[f"input_ids/{b}"], case.tokens) for b in range(case.pairs)
  ]
  P = max(map(len, prompts)) + 1
  tokens = np.zeros((case.pairs, P + 2 * slot), np.int32)
  segments, positions = np.zeros_like(tokens), np.zeros_like(tokens)
  for b, prompt in enumerate(prompts):
    first = P - len(prompt)
    tokens[b, first:P], segments[b, first:P] = prompt, 1
    positions[b, first:P] = np.arange(len(prompt))
    for c, which in enumerate(("chosen", "rejected")):
      ids, at = z[f"{which}_ids/{b}"], P + c * slot
      tokens[b, at : at + len(ids)], segments[b, at : at + len(ids)] = (
        ids,
        2 + c,
      )
      positions[b, at : at + slot] = len(prompt) + np.arange(slot)
  return *map(jnp.asarray, (tokens, segments, positions)), P


def test_packed_rows_give_the_same_logps(case, visual):
  slot = 16
  tokens, segments, positions, P = packed_batch(case, slot)
  _, logits = jax.jit(
    lambda v: forward(case, v, tokens, segments, positions, visual)
  )(case.variables)
  for c in range(2):
    at = P + c * slot
    before = jnp.concatenate(
      [logits[:, P - 1 : P], logits[:, at : at + slot - 1]], axis=1
    )
    logps = logps_of(before, tokens[:, at : at + slot])
    scored = segments[:, at : at + slot] == 2 + c
    mean = jnp.mean(logps, axis=-1, where=scored)
    rows = slice(c * case.pairs, (c + 1) * case.pairs)
    np.testing.assert_allclose(mean, case.z["mean_logprob"][rows], atol=5e-6)


@pytest.mark.parametrize("case", ["b"], indirect=True)
def test_adapter_off_is_the_reference_policy(case, visual):
  tokens, segments, positions, P = packed_batch(case, 16)
  plain = SimpleNamespace(model=case.model.clone(lora=None))
  variables = {"params": case.variables["params"]}
  _, logits = jax.jit(
    lambda v: forward(plain, v, tokens, segments, positions, visual)
  )(variables)
  logps = logps_of(logits[:, P:-1], tokens[:, P + 1 :])
  first = logps_of(logits[:, P - 1], tokens[:, P])
  inside = segments[:, P + 1 : P + 16] == 2
  chosen = first + jnp.sum(logps[:, :15], axis=-1, where=inside)
  theirs = case.z["dpo/ref_logprob_sum"][: case.pairs]
  np.testing.assert_allclose(chosen, theirs, atol=1e-4)


@pytest.mark.parametrize("case", ["b"], indirect=True)
def test_merged_kernels_equal_the_adapter(case):
  merged = lora_lib.merge(
    case.variables["params"], case.variables["lora"], case.model.lora
  )
  plain = case.model.clone(lora=None)
  tokens = jnp.arange(3, 12)[None]
  ours = jax.jit(lambda v: plain.apply(v, None, tokens))({"params": merged})
  want = jax.jit(lambda v: case.model.apply(v, None, tokens))(case.variables)
  np.testing.assert_allclose(ours, want, atol=1e-4)


def test_folder_config_is_read(case):
  assert (
    case.config.decoder
    == captioner_config({"llm": json.loads(str(case.z["llm_config"]))}).decoder
  )
