"""Generation against the official release's run and against Transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.generation import decode, decode_loop
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.decoder import KV
from tests.support.decoding import EOS, V, prompts, run
from tests.support.golden_captioner import expand, write_folder
from tests.support.paths import GOLDEN
from tests.support.read_folder import read_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimised")]


@pytest.fixture(scope="module", params=["a", "b"])
def golden(request, tmp_path_factory):
  """Model, variables and both streams' batches of the official CD run."""
  z = np.load(GOLDEN / f"captioner_{request.param}.npz")
  folder = tmp_path_factory.mktemp("golden")
  write_folder(z, folder)
  config, params = read_folder(folder)
  starts = np.cumsum(z["frames_per_pair"]) - z["frames_per_pair"]
  K = z["visual_tokens"].shape[1]

  def batch(ids, frames):
    rows = [expand(z[f"{ids}/{b}"], K) for b in range(len(starts))]
    width = max(map(len, rows)) + 2
    picked = [z["visual_tokens"][f].reshape(-1, 48) for f in frames]
    visual = np.zeros((len(rows), max(map(len, picked)), 48), np.float32)
    prefix = np.zeros((len(rows), width), np.int32)
    mask = np.zeros(prefix.shape, bool)
    for b, (row, seen) in enumerate(zip(rows, picked, strict=True)):
      prefix[b, width - len(row) :], mask[b, width - len(row) :] = row, True
      visual[b, : len(seen)] = seen
    return decode_loop.Prompts(prefix, mask, visual=visual)

  sizes = z["frames_per_pair"]
  all_frames = [starts[b] + np.arange(n) for b, n in enumerate(sizes)]
  few_frames = [s + z[f"cd/contrast_frames/{b}"] for b, s in enumerate(starts)]
  full = batch("input_ids", all_frames)
  weak = batch("cd/contrast_input_ids", few_frames)
  return z, Captioner(config), {"params": params}, full, weak


def test_contrastive_decoding_is_the_official_one(golden):
  z, model, variables, full, weak = golden
  B, R = z["cd/tokens"].shape
  keys = decode.row_keys(0, [str(b) for b in range(B)])
  weight = np.full(B, z["cd/weight"], np.float32)
  contrast = decode.Contrast(weak, weight, None)
  out = run(model, variables, full, keys, max_new_tokens=R, contrast=contrast)
  np.testing.assert_array_equal(out.tokens[:, 0], z["cd/tokens"])
  mixed = 1.5 * z["cd/full_logits"] - 0.5 * z["cd/contrast_logits"]
  total = np.log(np.exp(np.float64(mixed)).sum(-1))
  for b, c, t in np.ndindex(out.tokens.shape):
    if t < out.lengths[b, c]:
      want = mixed[t, b, out.tokens[b, c, t]] - total[t, b]
      np.testing.assert_allclose(out.logps[b, c, t], want, atol=1e-4)


@pytest.mark.parametrize("stream", ["full", "contrast"])
def test_step_logits_are_the_official_ones(golden, stream):
  """Fed the official tokens one by one, each stream from its own cache."""
  z, model, variables, *batches = golden
  batch = batches[stream == "contrast"]
  B, R = z["cd/tokens"].shape
  prompt, place, logits = jax.jit(
    lambda v, b: decode_loop.prefill(model, v, b)
  )(variables, batch)
  spots = jnp.arange(R, dtype=jnp.int32)[None]

  @jax.jit
  def step(variables, k, v, t, token):
    where = place[:, None] + spots
    own = KV(k, v, jnp.broadcast_to(spots < t, where.shape), where)
    mask = jnp.ones((B, 1), bool)
    new, logits = decode_loop.read_tokens(
      model, variables, token, mask, place + t, (prompt, own)
    )
    update = jax.lax.dynamic_update_slice_in_dim
    return update(k, new.k, t, 2), update(v, new.v, t, 2), logits

  k = v = jnp.zeros((*prompt.k.shape[:2], R, *prompt.k.shape[3:]))
  for t in range(R):
    want = z[f"cd/{stream}_logits"][t]
    np.testing.assert_allclose(logits, want, atol=1e-4)
    token = jnp.asarray(z["cd/tokens"][:, t : t + 1], jnp.int32)
    k, v, logits = step(variables, k, v, jnp.int32(t), token)


def test_greedy_is_what_transformers_generates(tmp_path):
  """A random torch Llama, ragged prompts, token for token."""
  torch = pytest.importorskip("torch")
  import transformers

  torch.manual_seed(0)
  torch.set_num_threads(1)
  config = transformers.LlamaConfig(
    vocab_size=V,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_theta=5e3,
    initializer_range=0.5,
    bos_token_id=1,
    eos_token_id=EOS,
    pad_token_id=0,
  )
  theirs = transformers.LlamaForCausalLM(config).eval()
  theirs.save_pretrained(tmp_path)
  config, params = read_folder(tmp_path)
  batch = prompts([9, 4, 7], width=9)
  out = run(
    Captioner(config, dtype=jnp.dtype("float32")),
    {"params": params},
    batch,
    decode.row_keys(0, ["a", "b", "c"]),
    max_new_tokens=20,
  )
  want = theirs.generate(
    torch.tensor(batch.prefix).long(),
    attention_mask=torch.tensor(batch.prefix_mask).long(),
    do_sample=False,
    max_new_tokens=20,
  )[:, 9:].numpy()
  for got, length, row in zip(
    out.tokens[:, 0], out.lengths[:, 0], want, strict=True
  ):
    np.testing.assert_array_equal(got[:length], row[:length])
    assert (row[length:] == 0).all()


QUESTIONS = (
  "What is the capital of France?",
  "Name three primary colours.",
  "Write one sentence about the sea.",
  "How many legs does a spider have?",
  "What do bees make?",
  "Explain gravity to a child in two sentences.",
  "Translate 'good morning' into Spanish.",
  "What is 7 times 8?",
  "Who wrote Romeo and Juliet?",
  "Give a synonym of happy.",
  "Why is the sky blue?",
  "List two uses of a hammer.",
  "What is the opposite of cold?",
  "Describe a cat in one sentence.",
  "What is the boiling point of water at sea level?",
  "Which planet is closest to the sun?",
  "Finish the sentence: The quick brown fox",
  "What is photosynthesis?",
  "Name a fruit that is yellow.",
  "How do you make tea? Answer in short steps.",
)


@pytest.mark.slow
def test_smollm2_answers_20_questions_as_in_transformers(smol):
  """Real weights, ragged prompts in one batch, greedy, token for token."""
  torch = pytest.importorskip("torch")
  import transformers

  folder = smol / "checkpoint"
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  rows = [
    tokenizer.apply_chat_template(
      [{"role": "user", "content": question}], add_generation_prompt=True
    )
    for question in QUESTIONS
  ]
  P = max(map(len, rows))
  prefix, mask = np.zeros((20, P), np.int32), np.zeros((20, P), bool)
  for n, row in enumerate(rows):
    prefix[n, P - len(row) :], mask[n, P - len(row) :] = row, True
  config, params = read_folder(folder)
  out = run(
    Captioner(config, dtype=jnp.dtype("float32")),
    {"params": params},
    decode_loop.Prompts(prefix, mask),
    decode.row_keys(0, list(QUESTIONS)),
    max_new_tokens=24,
  )
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  want = theirs.generate(
    torch.tensor(prefix).long(),
    attention_mask=torch.tensor(mask).long(),
    do_sample=False,
    max_new_tokens=24,
    eos_token_id=EOS,
    pad_token_id=EOS,
  )[:, P:].numpy()
  for n, (got, length) in enumerate(zip(out.tokens, out.lengths, strict=True)):
    np.testing.assert_array_equal(got[0, : length[0]], want[n, : length[0]])
    assert (want[n, length[0] :] == EOS).all()
  assert (out.lengths < 24).any()
