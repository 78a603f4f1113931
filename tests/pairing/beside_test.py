"""Judging beside captioning: what is told is judged, and holds nothing up."""

import threading

import pytest

from synpo_jax.pairing import beside


def test_rows_are_judged_while_others_are_written():
  """A row is judged before the next is told, and all before the end."""
  judged, came = [], threading.Event()

  def judge(rows):
    for row in rows:
      if row is not None:
        judged.append(row["id"])
        came.set()

  with beside.judging(judge) as tell:
    for number in range(3):
      came.clear()
      tell({"id": number})
      assert came.wait(10) and judged == [*range(number + 1)]
  assert judged == [0, 1, 2]


def test_captioning_waits_for_a_slow_judge_and_for_no_dead_one(
  monkeypatch, caplog
):
  monkeypatch.setattr(beside, "MOST", 2)
  let, judged = threading.Event(), []

  def slow(rows):
    assert let.wait(10)
    judged.extend(row for row in rows if row is not None)

  with beside.judging(slow) as tell:
    timer = threading.Timer(0.3, let.set)
    timer.start()
    for number in range(4):  # the third finds the queue full
      tell({"id": number})
    assert let.is_set()
  assert len(judged) == 4

  def dead(rows):
    raise ValueError("no server")

  with beside.judging(dead) as tell:
    for number in range(9):
      tell({"id": number})
  assert "ended, and begins again after it: no server" in caplog.text


def test_a_fault_of_captioning_ends_the_judge_too():
  ended = threading.Event()

  def judge(rows):
    for _ in rows:
      pass
    ended.set()

  with pytest.raises(ValueError, match="a video"), beside.judging(judge):
    raise ValueError("a video")
  assert ended.wait(10)
