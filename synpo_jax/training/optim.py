"""The optimiser: AdamW under a linear warm-up and a linear decay."""

import jax
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


def make(
  *,
  lr,
  lr_projector,
  lr_tower,
  warmup_frac,
  weight_decay,
  b1,
  b2,
  eps,
  clip_norm,
  updates,
):
  """AdamW for a run of `updates` real updates, and its rate per update.

  lr_projector, lr_tower: peak rates of what learns in these parts, None: lr.
  clip_norm: largest global gradient norm; None leaves gradients alone.
  Returns (optax transformation, function of the update number -> rate).
  """
  if updates < 1:
    raise ValueError(f"a run needs at least one update, got {updates}")
  warmup = int(warmup_frac * updates)

  def rate(update):
    return lr * lr_factor(update, warmup, updates)

  settings = dict(b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
  peaks = _given(dict(lr_projector=lr_projector, lr_tower=lr_tower))
  if peaks:

    def factor(update):
      return lr_factor(update, warmup, updates)

    tx = optax.chain(optax.adamw(factor, **settings), _by_part(lr, peaks))
  else:
    tx = optax.adamw(rate, **settings)
  if clip_norm is not None:
    tx = optax.chain(optax.clip_by_global_norm(clip_norm), tx)
  return tx, rate


def check_parts(section: dict, trained) -> None:
  """Raises ValueError for a rate of a part of which nothing learns.

  section: of the config. trained: {"lora" or "params": {part: ...}}.
  """
  learn = {part for tree in trained.values() for part in tree}
  for part, peak in _given(section).items():
    if part not in learn:
      raise ValueError(
        f"optim.lr_{part}={peak}, but nothing learns in the {part}; add it to "
        "lora.where, or set the rate to None"
      )


def _given(section) -> dict[str, float]:
  """Rates of parts, by part, that are not None."""
  rates = {part: section[f"lr_{part}"] for part in ("projector", "tower")}
  return {part: peak for part, peak in rates.items() if peak is not None}


def _by_part(lr, peaks) -> optax.GradientTransformation:
  """Multiplies updates by their part's peak rate, the second key of a path."""

  def scale(updates, _):
    return jax.tree.map_with_path(
      lambda path, x: x * peaks.get(path[1].key, lr), updates
    )

  return optax.stateless(scale)
