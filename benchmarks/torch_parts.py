"""What every step in PyTorch begins and ends with."""

import os

import torch
import transformers

from benchmarks import workload


def base_model(task: workload.Task):
  """The frozen model, with the attention that PyTorch fuses.

  Of a GPU's memory it may take what the variable says that ours takes.
  """
  if task.device != "cpu":
    part = float(os.environ["XLA_CLIENT_MEM_FRACTION"])
    torch.cuda.set_per_process_memory_fraction(part)
  return transformers.AutoModelForCausalLM.from_pretrained(
    f"{task.folder}/base",
    dtype=getattr(torch, task.dtype),
    attn_implementation="sdpa",
  ).to(task.device)


def grad_norm(parameters):
  """Of all gradients together: what a log would show, as ours does."""
  return torch.nn.utils.get_total_norm([p.grad for p in parameters])


def finish(task: workload.Task) -> dict:
  """Waits for a device that works behind the caller's back; its most bytes."""
  if task.device == "cpu":
    return {}
  torch.cuda.synchronize()
  return {"device_bytes": torch.cuda.max_memory_allocated()}
