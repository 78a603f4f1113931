"""The step as TRL's DPOTrainer and CPOTrainer make it.

Everything is at the trainers' defaults but for what the comparison fixes:
float32, no gradient checkpointing (faster), no truncation, the recipe's rate
and decay, the official DPO beta, and for SimPO no extra likelihood term
(cpo_alpha=0); and the adapter's dropout, which they would switch off, stays on.
So there is no padding-free batch and no packing, and the reference is the model
with its adapter disabled, every step.
"""

import datasets
import peft
import safetensors.torch
import tokenizers
import transformers
import trl

from benchmarks import torch_parts, workload

VERSION = trl.__version__
RECIPE = workload.RECIPE
COMMON = dict(
  output_dir=str(workload.FILES / "trl"),
  per_device_train_batch_size=1,
  learning_rate=RECIPE["lr"],
  weight_decay=RECIPE["weight_decay"],
  lr_scheduler_type="constant",
  gradient_checkpointing=False,
  disable_dropout=False,
  report_to="none",
  disable_tqdm=True,
  save_strategy="no",
)


def word(number: int) -> str:
  """How a token is written in the texts that trainers take."""
  return "</s>" if number == workload.EOS else f"t{number}"


def tokenizer(vocab: int):
  """Words `t0`, `t1` ... to ids, one token each."""
  words = {word(i): i for i in range(vocab)}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "t0"))
  made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, eos_token="</s>", pad_token="t0", unk_token="t0"
  )


def rows(task: workload.Task):
  """The pairs as a dataset of texts."""

  def text(ids):
    return " ".join(map(word, ids))

  prompts, captions = workload.pair(task)
  return datasets.Dataset.from_list(
    [
      dict(prompt=text(p) + " ", chosen=text(c[0]), rejected=text(c[1]))
      for p, c in zip(prompts, captions, strict=True)
    ]
  )


def adapter(task: workload.Task):
  """(LoRA config, its tensors under the names that PEFT's folders have)."""
  folder = f"{task.folder}/adapter"
  config = peft.LoraConfig.from_pretrained(folder)
  config.lora_dropout = task.dropout
  config.inference_mode = False
  file = f"{folder}/adapter_model.safetensors"
  return config, safetensors.torch.load_file(file)


def make_trainer(task: workload.Task, config):
  """The trainer that an implementation names, with the model in it."""
  common = COMMON | dict(
    per_device_train_batch_size=task.pairs,
    use_cpu=task.device == "cpu",
    bf16=task.dtype == "bfloat16",
    gradient_checkpointing=task.checkpointing,
    max_length=sum(task.shape),
  )
  words = tokenizer(workload.SIZES[task.size]["vocab_size"])
  given = dict(
    model=torch_parts.base_model(task),
    train_dataset=rows(task),
    processing_class=words,
    peft_config=config,
  )
  if task.impl == "trl_dpo":
    args = trl.DPOConfig(beta=RECIPE["dpo_beta"], **common)
    return trl.DPOTrainer(args=args, **given)
  from trl.experimental.cpo import CPOConfig, CPOTrainer

  args = CPOConfig(loss_type="simpo", cpo_alpha=0.0, **SIMPO, **common)
  return CPOTrainer(args=args, **given)


SIMPO = dict(beta=2.0, simpo_gamma=0.5)


def make(task: workload.Task):
  """Returns a function that makes one update, for `child.serve`."""
  config, tensors = adapter(task)
  trainer = make_trainer(task, config)
  loaded = peft.set_peft_model_state_dict(trainer.model, tensors)
  if loaded.unexpected_keys:
    raise ValueError(f"adapter: {loaded.unexpected_keys[:3]} have no place")
  trainer.create_optimizer()
  trainer.current_gradient_accumulation_steps = 1
  batch = next(iter(trainer.get_train_dataloader()))
  learns = [p for p in trainer.model.parameters() if p.requires_grad]
  first = [True]

  def step():
    trainer.optimizer.zero_grad()
    loss = trainer.training_step(trainer.model, batch)
    out = dict(loss=loss.item()) | logps(trainer, task)
    if first:  # only for the comparison of implementations; not timed
      out["grad_norm"] = torch_parts.grad_norm(learns).item()
      first.clear()
    trainer.optimizer.step()
    return out | torch_parts.finish(task)

  return step


def logps(trainer, task) -> dict[str, float]:
  """Mean log-prob of the captions' tokens, from what the trainer logged."""
  if task.impl == "trl_dpo":
    found = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    length = task.shape.response  # DPO logs sums
  else:
    found = {k: v[-1] for k, v in trainer._stored_metrics["train"].items()}
    length = 1
  return {
    f"{name}_logp": float(found[f"logps/{name}"]) / length
    for name in ("chosen", "rejected")
  }
