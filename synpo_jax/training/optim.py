"""The optimiser: AdamW under a linear warm-up and a linear decay."""

import optax


def lr_factor(update, warmup, total):
  """Share of the peak rate at `update` 0, 1, ...; 0 again at `total`.

  Rises as update / warmup, then falls as (total - update) / (total - warmup),
  so the first update of a run with a warm-up has rate 0 (official release).
  """
  schedule = optax.join_schedules(
    [
      optax.linear_schedule(0.0, 1.0, max(1, warmup)),
      optax.linear_schedule(1.0, 0.0, max(1, total - warmup)),
    ],
    [warmup],
  )
  return schedule(update)


def make(*, lr, warmup_frac, weight_decay, b1, b2, eps, clip_norm, updates):
  """AdamW for a run of `updates` real updates, and its rate per update.

  clip_norm: largest global gradient norm; None leaves gradients alone.
  Returns (optax transformation, function of the update number -> rate).
  """
  if updates < 1:
    raise ValueError(f"a run needs at least one update, got {updates}")
  warmup = int(warmup_frac * updates)

  def rate(update):
    return lr * lr_factor(update, warmup, updates)

  adamw = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
  if clip_norm is None:
    return adamw, rate
  return optax.chain(optax.clip_by_global_norm(clip_norm), adamw), rate
