"""Pairs and lists that the study makes of judged candidates."""

import json
import pathlib

import numpy as np

from synpo_jax.data import lists, pairs
from synpo_jax.study import candidates, material
from synpo_jax.world import spoiling, staging, telling

RULE = dict(min_gap=0.01, length_ratio=2.0)


def test_lists_hold_the_pairs_and_what_was_judged_beside_them(tmp_path):
  """The same clips in the same order; a loss of pairs reads the same rows."""
  scenes, texts = {}, {}
  for seed in range(6):
    graph, rng = staging.sample(seed), np.random.default_rng(seed)
    spoilt = spoiling.spoil(graph.facts, rng, "attribute") or graph.facts
    told = [telling.tell(facts, rng) for facts in (spoilt, graph.facts)]
    scenes[graph.video] = graph
    texts[graph.video] = [told[0], told[0].upper(), told[1], "A circle."]
  ground = material.Ground(pathlib.Path(), scenes, {}, {}, {})
  given = ground, list(scenes), texts
  two = candidates.choose_pairs(*given, **RULE)
  every = candidates.choose_pairs(*given, **RULE, lists=True)
  assert [row["id"] for row in two] == [row["id"] for row in every] != []
  assert all("A circle." not in row["captions"] for row in every)
  read = {}
  for name, rows in (("pairs", two), ("lists", every)):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    read[name] = pairs.read_pairs(path).pairs
  for pair, same in zip(*read.values(), strict=True):
    assert pair[:6] == same[:6] and same.listed is not None
  assert len(pairs.read_pairs(path, captions=lists.MOST).pairs) == len(two)
