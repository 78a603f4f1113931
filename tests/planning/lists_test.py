"""What is planned for a loss of lists."""

import json

import pytest

from configs import vdc
from synpo_jax.data import lists
from synpo_jax.models import sharding
from synpo_jax.planning import abstract_step


@pytest.mark.parametrize(
  "sizes, planned", [((3, 5), 5), ((2,), 2), ((0,), 2), ((), lists.MOST)]
)
def test_a_batch_has_the_longest_list_of_the_first_rows(
  tmp_path, sizes, planned
):
  """0: a pair. Where there is no file, as many captions as a row may have."""
  c = vdc.get_config("loss=plackett_luce")
  c.data.pairs = str(tmp_path / "lists.jsonl")
  rows = [
    {"captions": ["a"] * n, "scores": [1] * n} if n else {"chosen": "a"}
    for n in sizes
  ]
  if rows:
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "lists.jsonl").write_text(text)
  mesh = sharding.make_mesh(data=1, fsdp=1, model=8)
  shape = abstract_step.Shape(32, 16, 0)
  batch = abstract_step.abstract_batch(c, None, shape, mesh)
  leading = (c.data.accumulation, c.data.batch_size, planned)
  assert batch.response.shape == (*leading, 16)
  assert batch.scores.shape == batch.ref_logps.shape == leading
