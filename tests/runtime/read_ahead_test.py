"""Items are loaded ahead, but not further, and come in order."""

import threading

from synpo_jax.runtime.read_ahead import read_ahead

READERS = 2


def test_items_come_in_order_though_a_later_one_is_loaded_first():
  second = threading.Event()

  def load(item):
    if item == 0:
      assert second.wait(10)
    if item == 1:
      second.set()
    return item * item

  loading = read_ahead(range(5), load, READERS)
  loaded = [(item, future.result()) for item, future in loading]
  assert loaded == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]


def test_no_more_is_taken_than_the_readers_can_be_ahead():
  taken = []

  def items():
    for number in range(9):
      taken.append(number)
      yield number

  for count, _ in enumerate(read_ahead(items(), abs, READERS), 1):
    assert len(taken) == min(9, count + READERS)


def test_an_items_fault_is_its_own():
  loading = read_ahead("1a2", int, READERS)
  faults = {item: future.exception() for item, future in loading}
  assert list(faults) == ["1", "a", "2"]
  assert faults["1"] is None and faults["2"] is None
  assert isinstance(faults["a"], ValueError)
