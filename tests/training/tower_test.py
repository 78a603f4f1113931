"""Which updates do without the weights of a frozen tower.

That these leave the devices, best_test.py shows on a run.
"""

from types import SimpleNamespace

import pytest

from synpo_jax.training import caches


@pytest.mark.parametrize(
  "features, split, read",
  [(True, None, "head"), (True, 2, "head tower"), (False, None, "head tower")],
)
def test_updates_keep_a_tower_that_they_read(features, split, read):
  """split: the first of its layers that has an adapter."""
  c = SimpleNamespace(cache=SimpleNamespace(features=features))
  model = SimpleNamespace(split=split, config=SimpleNamespace(tower=1))
  given = {"params": {"head": 1, "tower": {"a": 2}}, "lora": {}}
  frozen, aside = caches.lay_aside(c, model, given)
  assert " ".join(frozen["params"]) == read and "lora" in frozen
  assert aside == ({"a": 2} if read == "head" else {})
  assert "tower" in given["params"]
