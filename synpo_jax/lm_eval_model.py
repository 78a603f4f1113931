"""Entry: lm-eval's tasks on any model of ours (MMLU, ARC, HellaSwag, …).

python -m synpo_jax.lm_eval_model --model-dir path/to/model \
  --tasks arc_easy,hellaswag --output_path results

Every flag that is not named here goes to lm-eval's own command. From Python,
importing this module registers the model, for
lm_eval.simple_evaluate(model="synpo_jax", model_args={"model_dir": …}).
Scores are those of lm-eval's `hf` backend on the same weights, in the same
floating-point type, up to rounding.
"""

import argparse
import json
import pathlib
import sys

import transformers
from lm_eval import utils
from lm_eval._cli import HarnessCLI
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
  handle_stop_sequences,
  normalize_gen_kwargs,
  postprocess_generated_text,
  resolve_max_length,
)

from synpo_jax.evaluation import text_model, text_scores
from synpo_jax.generation.sampling import GREEDY, Sampling
from synpo_jax.runtime import progress, stopping
from synpo_jax.runtime.flags import one_line

GENERATION_KEYS = {
  "do_sample",
  "temperature",
  "top_k",
  "top_p",
  "until",
  "max_gen_toks",
}


@register_model("synpo_jax")
class JaxLM(TemplateLM):
  """A text LM, or the language half of a captioner, behind lm-eval's calls.

  model_dir: a folder that `weights.folders.load` reads, with its tokenizer.
  dtype: of weights and computation. max_length: context in tokens; 0 takes
  the model's. mesh_*: the mesh, as in training configs. head_chunk: positions
  whose logits exist at once.
  """

  def __init__(
    self,
    model_dir: str,
    dtype: str = "float32",
    batch_size: int | str = 8,
    max_length: int = 0,
    add_bos_token: bool | None = None,
    attention: str = "auto",
    mesh_data: int = -1,
    mesh_fsdp: int = 1,
    mesh_model: int = 1,
    head_chunk: int = 128,
    seed: int = 0,
    max_batch_size: int | None = None,  # lm-eval passes these two
    device: str | None = None,
  ):
    super().__init__()
    self.batch_size = _whole_number(batch_size)
    self.lm = text_model.load(
      model_dir,
      dtype=dtype,
      batch_size=self.batch_size,
      mesh=dict(data=mesh_data, fsdp=mesh_fsdp, model=mesh_model),
      attention=attention,
      head_chunk=head_chunk,
    )
    self.tokenizer = self.lm.tokenizer
    self.max_length = max_length or resolve_max_length(
      transformers.AutoConfig.from_pretrained(model_dir), self.tokenizer
    )
    self.max_gen_toks = 256
    self.add_bos_token, self.seed = add_bos_token, seed
    self.folder = pathlib.Path(model_dir)

  @property
  def eot_token_id(self) -> int:
    """The token that ends a text."""
    return self.tokenizer.eos_token_id

  @property
  def prefix_token_id(self) -> int:
    """The token in front of a text without context."""
    bos = self.tokenizer.bos_token_id
    return self.eot_token_id if bos is None else bos

  @property
  def tokenizer_name(self) -> str:
    """Names the tokenizer in lm-eval's request cache."""
    return str(self.folder.resolve()).replace("/", "__")

  def tok_encode(self, string, add_special_tokens=None, **kwargs) -> list[int]:
    """Token ids; a string that begins with the BOS text gets no second one."""
    special = add_special_tokens
    prefix = self.tokenizer.decode(self.prefix_token_id)
    if special is None and prefix and string.startswith(prefix):
      special = False
    if special is None:
      special = self.add_bos_token
    if special is None:
      return self.tokenizer.encode(string)
    return self.tokenizer.encode(string, add_special_tokens=special)

  def apply_chat_template(self, chat_history, add_generation_prompt=True):
    """The conversation as one string, by the tokenizer's template."""
    return self.tokenizer.apply_chat_template(
      chat_history,
      tokenize=False,
      add_generation_prompt=add_generation_prompt,
      continue_final_message=not add_generation_prompt,
    )

  def _loglikelihood_tokens(self, requests, **kwargs):
    """(log-prob, is greedy) per (key, context ids, continuation ids)."""
    rows = []
    for _, context, continuation in requests:
      if not 0 < len(continuation) <= self.max_length:
        raise ValueError(
          f"a continuation has {len(continuation)} tokens; "
          f"1 to {self.max_length} fit"
        )
      # lm-eval moves the spaces of a context over: nothing else may be left.
      context = context or [self.prefix_token_id]
      kept = (context + continuation)[-(self.max_length + 1) :]
      rows.append(text_scores.Row(kept, len(continuation)))
    scores = self._score(rows, "log-likelihoods")
    for (key, *_), score in zip(requests, scores, strict=True):
      if key is not None:
        self.cache_hook.add_partial("loglikelihood", key, tuple(score))
    return [tuple(score) for score in scores]

  def _score(self, rows, title):
    with progress.bar(title, len(rows)) as advance:
      return text_model.score(self.lm, rows, advance)

  def loglikelihood_rolling(self, requests, disable_tqdm=False):
    """Log-prob of each whole text, in windows with all the context there is."""
    rows, owners = [], []
    for index, request in enumerate(requests):
      (string,) = request.args
      windows = utils.get_rolling_token_windows(
        token_list=self.tok_encode(string),
        prefix_token=self.prefix_token_id,
        max_seq_len=self.max_length,
        context_len=1,
      )
      for context, scored in map(utils.make_disjoint_window, windows):
        rows.append(text_scores.Row(context + scored, len(scored)))
        owners.append(index)
    totals = [0.0] * len(requests)
    scores = self._score(rows, "texts") if rows else []
    for index, score in zip(owners, scores, strict=True):
      totals[index] += score.logp
    for request, total in zip(requests, totals, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
    return totals

  def generate_until(self, requests, disable_tqdm=False):
    """Greedy or sampled continuations, cut before the first stop string."""
    groups = {}
    for index, request in enumerate(requests):
      key = json.dumps(request.args[1], sort_keys=True)
      groups.setdefault(key, []).append(index)
    texts = [""] * len(requests)
    with progress.bar("generations", len(requests)) as advance:
      for group in groups.values():
        self._generate_group(requests, group, texts, advance)
    return texts

  def _generate_group(self, requests, group, texts, advance):
    """Fills `texts` for requests that share their generation settings."""
    eos = self.tokenizer.decode(self.eot_token_id)
    kwargs = normalize_gen_kwargs(requests[group[0]].args[1], self.max_gen_toks)
    until = handle_stop_sequences(kwargs["until"], eos=eos)
    room = self.max_length - kwargs["max_gen_toks"]
    if room <= 0:
      raise ValueError(
        f"max_gen_toks={kwargs['max_gen_toks']} leaves no room for a prompt "
        f"in the model's {self.max_length} tokens"
      )
    prompts = {
      str(i): self.tok_encode(requests[i].args[0])[-room:]
      or [self.prefix_token_id]
      for i in group
    }
    made = text_model.generate(
      self.lm,
      prompts,
      max_new_tokens=kwargs["max_gen_toks"],
      sampling=sampling_of(kwargs, len(self.tokenizer)),
      seed=self.seed,
    )
    for batch in made:
      for name, whole in batch.items():
        text = postprocess_generated_text(whole, until, None)
        texts[int(name)] = text
        args = requests[int(name)].args
        self.cache_hook.add_partial("generate_until", args, text)
      advance(len(batch))


def sampling_of(kwargs: dict, vocabulary: int) -> Sampling:
  """The sampler for lm-eval's generation settings; others are an error."""
  if unknown := set(kwargs) - GENERATION_KEYS:
    raise ValueError(f"generation setting not supported: {sorted(unknown)}")
  if not kwargs["do_sample"]:
    return GREEDY
  return Sampling(
    temperature=float(kwargs["temperature"]),
    top_k=int(kwargs["top_k"]) if "top_k" in kwargs else vocabulary,
    top_p=float(kwargs["top_p"]) if "top_p" in kwargs else 1.0,
  )


def _whole_number(batch_size: int | str) -> int:
  try:
    return int(batch_size)
  except ValueError:
    raise ValueError(
      f"batch_size={batch_size!r}: give a number; shapes are fixed here"
    ) from None


def main(argv: list[str] | None = None) -> None:
  """Our flags become model arguments; the rest is lm-eval's command line."""
  parser = argparse.ArgumentParser(
    prog="python -m synpo_jax.lm_eval_model",
    description=__doc__.splitlines()[0],
    epilog="All other flags are lm-eval's own; see `lm-eval run --help`.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("--model-dir", required=True, help="folder of the model and tokenizer")
  add("--dtype", default="float32", help="or bfloat16: weights, computation")
  add("--batch-size", type=int, default=8, help="rows at once")
  add("--max-length", type=int, default=0, help="tokens; 0: the model's")
  add("--mesh-data", type=int, default=-1, help="copies; -1: what is left")
  add("--mesh-fsdp", type=int, default=1, help="devices that split weights")
  add("--mesh-model", type=int, default=1, help="devices that split heads")
  flags, rest = parser.parse_known_args(argv)
  own = vars(flags)
  size = str(own.pop("batch_size"))
  sys.argv = ["lm-eval", "run", "--model", "synpo_jax", "--batch_size", size]
  sys.argv += ["--model_args", json.dumps(own), *rest]
  harness = HarnessCLI()
  with one_line(), stopping.in_one_line(""):
    harness.execute(harness.parse_args())


if __name__ == "__main__":
  main()
