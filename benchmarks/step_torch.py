"""The same step in PyTorch: our own, plain, and TRL's trainers.

python -m benchmarks.step_torch TASK          answers `child.serve`'s lines

Needs no JAX. `torch_*` follow the official recipe: a pair is two sequences,
full logits, log-softmax and gather; DPO scores its reference by the same model
with adapters switched off. `trl_*` call the trainers' own training_step.
"""

import peft
import torch
import torch.nn.functional as F
import transformers

from benchmarks import child, torch_parts, workload

RECIPE = workload.RECIPE


def sequences(task: workload.Task):
  """ids [2B, T], chosen before rejected, and labels with -100 on prompts."""
  prompts, captions = map(torch.tensor, workload.pair(task))
  halves = [torch.cat([prompts, captions[:, c]], 1) for c in (0, 1)]
  ids = torch.cat(halves).to(task.device)
  labels = ids.clone()
  labels[:, : prompts.shape[1]] = -100
  return ids, labels


def token_logps(model, ids, labels):
  """Float32 log-prob of every caption token [2B, T - 1], and which count."""
  mask = torch.ones_like(ids)
  out = model(input_ids=ids, attention_mask=mask, use_cache=False)
  logps = torch.log_softmax(out.logits[:, :-1].float(), dim=-1)
  targets = labels[:, 1:]
  counts = targets != -100
  picked = logps.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
  return torch.where(counts, picked, 0.0), counts


def synpo_loss(model, ids, labels):
  """(mean loss over pairs, mean log-prob of each sequence [2B])."""
  logps, counts = token_logps(model, ids, labels)
  lengths = counts.sum(-1)
  means = logps.sum(-1) / lengths
  chosen, rejected = means.exp().chunk(2)
  average = torch.where(counts, logps.exp(), 0.0).sum(-1) / lengths
  gap = RECIPE["alpha"] * (chosen - rejected)
  loss = -torch.sigmoid(gap) - RECIPE["beta"] * average.chunk(2)[0]
  return loss.mean(), means.detach()


def dpo_loss(model, ids, labels):
  """As `synpo_loss`; the reference is scored first."""
  with torch.no_grad(), model.disable_adapter():
    reference = token_logps(model, ids, labels)[0].sum(-1)
  logps, counts = token_logps(model, ids, labels)
  chosen, rejected = (logps.sum(-1) - reference).chunk(2)
  loss = -F.logsigmoid(RECIPE["dpo_beta"] * (chosen - rejected))
  return loss.mean(), (logps.sum(-1) / counts.sum(-1)).detach()


def make_plain(task: workload.Task):
  """Our step in PyTorch."""
  folder = f"{task.folder}/adapter"
  config = peft.PeftConfig.from_pretrained(folder)
  config.lora_dropout = task.dropout
  model = peft.PeftModel.from_pretrained(
    torch_parts.base_model(task), folder, is_trainable=True, config=config
  )
  if task.checkpointing:
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(dict(use_reentrant=False))
  model.train()
  learns = [p for p in model.parameters() if p.requires_grad]
  optimizer = torch.optim.AdamW(
    learns, RECIPE["lr"], weight_decay=RECIPE["weight_decay"], fused=True
  )
  ids, labels = sequences(task)
  loss_fn = {"torch_synpo": synpo_loss, "torch_dpo": dpo_loss}[task.impl]

  def step():
    optimizer.zero_grad()
    loss, means = loss_fn(model, ids, labels)
    loss.backward()
    norm = torch_parts.grad_norm(learns)
    optimizer.step()
    device = torch_parts.finish(task)
    chosen, rejected = means.chunk(2)
    return device | dict(
      loss=loss.item(),
      grad_norm=norm.item(),
      chosen_logp=chosen.mean().item(),
      rejected_logp=rejected.mean().item(),
    )

  return step


def make(task: workload.Task):
  """Returns (a function that makes one update, facts), for `child.serve`."""
  transformers.utils.logging.set_verbosity_error()
  said = f"torch {torch.__version__}, transformers {transformers.__version__}"
  said += f", peft {peft.__version__}"
  if task.impl.startswith("torch_"):
    return make_plain(task), {"versions": said}
  from benchmarks import step_trl

  return step_trl.make(task), {"versions": f"{said}, trl {step_trl.VERSION}"}


if __name__ == "__main__":
  child.serve(make)
