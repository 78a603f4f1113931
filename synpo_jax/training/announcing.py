"""What a run says at its start: model, mesh, data, time."""

from synpo_jax.data import accounts
from synpo_jax.models import attention, dropout, lora
from synpo_jax.runtime import hosts
from synpo_jax.training import packing
from synpo_jax.weights import loading


def announce(opened, variables, data, settings):
  """Says what is trained, on what and with what.

  settings: the config's `data` section.
  """
  mesh, model, _ = opened
  hosts.say(f"model: {loading.describe(variables)}; {describe_mesh(mesh)}")
  backend = model.attention
  backend = attention.describe(backend, model.config.decoder, model.dtype)
  hosts.say(f"attention: {backend}")
  if model.lora:
    hosts.say(
      f"adapter: {lora.describe(model.lora, model.config, model.split)}"
    )
  if model.lora and model.lora.dropout:
    hosts.say(f"dropout: {dropout.describe(model.lora.dropout)}")
  for line in data.forms:
    hosts.say(line)
  counts, updates = accounts.summary(data.counts), f"{data.updates} updates"
  hosts.say(f"data: {counts}; {updates}, shapes of batches: {data.shapes}")
  asked = settings.batch_size * settings.accumulation
  if told := packing.describe(data.batches, asked):
    hosts.say(f"packing: {told}")
  if time := describe_time(model.config, data.frames):
    hosts.say(f"time: {time}")


def describe_time(config, frames) -> str | None:
  """How Qwen2.5-VL counts the time of videos, and what it is in these.

  One constant serves all clips: tokens do not say how far apart frames are.
  """
  if frames is None or config.tower is None:
    return None
  if not config.connector.positions_per_second:
    return None
  step = config.frames_per_step
  spans = [frames.seconds(n) * step for n in range(len(frames))]
  return (
    f"each {step} frames count as {config.connector.seconds_per_step:g} s in "
    f"every clip (seconds_per_step of config.json); in these they span "
    f"{min(spans):.3g} to {max(spans):.3g} s"
  )


def describe_mesh(mesh) -> str:
  """The mesh in words."""
  axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
  return f"{mesh.size} {mesh.devices.flat[0].device_kind} as {axes}"
