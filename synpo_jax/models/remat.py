"""Which values of a layer the backward pass finds saved, by policy."""

from collections.abc import Callable

import jax

ATTENTION_NAMES = ("q", "k", "v", "attended")
REMAT = {  # which values of a layer the backward pass finds saved
  "full": (),
  "save_attention": ATTENTION_NAMES,
  # kept: by dropout; inner: x @ a of the adapters
  "save_dots": (*ATTENTION_NAMES, "middle", "gate", "up", "kept", "inner"),
}


def policy(remat: str) -> Callable:
  """What `jax.checkpoint` saves under a policy other than "none".

  Raises ValueError for one that is not in REMAT.
  """
  if remat not in REMAT:
    known = ", ".join(("none", *REMAT))
    raise ValueError(f"remat {remat!r} is not one of {known}")
  return jax.checkpoint_policies.save_only_these_names(*REMAT[remat])
