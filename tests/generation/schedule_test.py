"""The schedule of refill alone, with a device that only counts."""

import numpy as np
import pytest

from synpo_jax.generation import schedule
from synpo_jax.generation.prompt_batches import rung
from tests.support.decoding import EOS

SMALL = schedule.Room(
  rows=5,
  candidates=3,
  streams=1,
  most=13,
  block=4,
  page=4,
  prompt_pages=20,
  own_pages=24,
)


class Counting:
  """Grows rows to given lengths, and counts what a device would compute."""

  def __init__(self, room, wanted):
    self.room, self.wanted = room, wanted
    self.computed, self.most, self.used = 0, 0, set()

  def read(self, tasks, rows):
    """Takes note that no page is in two hands."""
    self.used |= {(page, t.content) for t in tasks for page in t.pages[0]}

  def fill(self, rows, width, pages):
    assert len(rows) <= width <= self.room.rows
    held = [n for row in rows for n in (*row.tail[0], *row.grown[0])]
    held += [n for (n,) in pages]
    assert len(held) == len(set(held)) <= self.room.own_pages
    left = [
      self.wanted[row.task.content, row.candidate] - len(row.tokens)
      for row in rows
    ]
    size = self.room.block
    self.computed += width * min(max(left), size)
    self.most = max(self.most, len(rows))
    tokens = [[EOS if n == end - 1 else 9 for n in range(size)] for end in left]
    return tokens, [[0.0] * size] * len(rows)


def lengths(rng, shape, mean, deviation, most):
  """Lognormal numbers of tokens, none above `most`."""
  spread = np.log1p((deviation / mean) ** 2)
  drawn = rng.lognormal(np.log(mean) - spread / 2, spread**0.5, shape)
  return np.clip(drawn.astype(int), 1, most)


def simulated(wanted, room, prompt=1796, tail=0):
  """What is computed for captions of these lengths, by rows and steps."""
  device, videos = Counting(room, wanted), iter(range(len(wanted)))

  def ahead():
    number = next(videos, None)
    if number is None:
      return None
    return schedule.Task(number, [prompt], [tail + 1] * room.candidates)

  done = list(schedule.run(ahead, device, room, (EOS,)))
  assert sorted(one.content for one in done) == [*range(len(wanted))]
  for one in done:
    found = [len(one.done[c].tokens) for c in range(room.candidates)]
    assert found == wanted[one.content].tolist()
  return device


@pytest.mark.parametrize("tail", [0, 300])
def test_little_is_computed_that_is_not_needed(tail):
  """230 +- 90 tokens and a cap of 800: 1.98 before rows were refilled."""
  wanted = lengths(np.random.default_rng(0), (100, 10), 230, 90, 800)
  own = 160 * (350 + 2 * tail) // 32
  room = schedule.Room(160, 10, 1, 800, 32, 128, 28 * 15, own)
  device = simulated(wanted, room, tail=tail)
  assert device.most <= 160
  ratio = device.computed / wanted.sum()
  print(f"tails of {tail}: {ratio:.3f} rows computed for each needed")
  assert ratio <= 1.15


def test_a_row_that_finds_no_page_begins_anew():
  """The fewest pages that a room may have: rows take turns, none is lost."""
  wanted = lengths(np.random.default_rng(1), (9, 3), 30, 20, 64)
  room = schedule.Room(9, 3, 1, 64, 4, 8, 12, 22)
  device = simulated(wanted, room, prompt=9, tail=5)
  assert device.computed > wanted.sum()


def test_a_prompt_that_no_room_is_for_is_refused():
  wanted = np.ones((1, 3), int)
  with pytest.raises(ValueError, match="raise placing.batch_size"):
    simulated(wanted, SMALL, prompt=4 * 21)


def test_lengths_that_are_compiled_are_few():
  rungs = [rung(n, 64) for n in range(1, 4097)]
  assert all(r >= n for n, r in enumerate(rungs, 1))
  assert sorted(set(rungs)) == [
    64 * n for n in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
  ]
  assert rung(5, (4, 6)) == 6
