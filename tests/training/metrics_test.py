"""How long updates take, and what of it was waiting."""

import pytest

from synpo_jax.training import metrics


def test_a_lap_is_the_time_since_the_last_one(monkeypatch):
  now = iter([10.0, 11.0, 11.5, 12.0, 15.0])
  monkeypatch.setattr(metrics.time, "monotonic", lambda: next(now))
  clock = metrics.Clock()  # 10
  assert clock.waiting(lambda x: x + 1, 1) == 2  # from 11 to 11.5
  assert clock.lap() == (2.0, 0.5)
  assert clock.lap() == (3.0, 0.0)
  assert metrics.rates(8.0, 100.0, (2.0, 0.5)) == pytest.approx(
    {"pairs_per_s": 4, "tokens_per_s": 50, "waiting_share": 0.25}
  )
