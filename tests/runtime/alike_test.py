"""Processes of one run that were started otherwise are told apart."""

import pytest

from synpo_jax.runtime import alike

TABLE = {"seed": 0, "optim": {"lr": 1e-3}, "data": {"workers": 2, "pairs": "a"}}


def test_the_keys_in_which_processes_differ_are_named_with_both_values():
  other = TABLE | {"seed": 1, "data": {"workers": 8, "pairs": "b"}}
  free = ("data.workers",)
  assert alike.difference([TABLE, TABLE], free) is None
  assert alike.difference([TABLE, TABLE, other], free) == (
    "the processes differ in data.pairs ('a' in process 0, 'b' in process 2), "
    "seed (0 in process 0, 1 in process 2); start all with the same"
  )
  only_free = TABLE | {"data": {"workers": 8, "pairs": "a"}}
  assert alike.difference([TABLE, only_free], free) is None
  assert "data.workers (2 in" in alike.difference([TABLE, only_free])
  assert "absent" in alike.difference([TABLE, {"seed": 0}])


def test_all_processes_end_where_one_differs(monkeypatch):
  alike.check(TABLE)
  monkeypatch.setattr(alike, "gather", lambda table: [TABLE, table])
  alike.check(TABLE)
  with pytest.raises(ValueError, match="differ in seed .0 in .* 7 in process"):
    alike.check(TABLE | {"seed": 7})
