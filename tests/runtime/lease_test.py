"""One writer of a place in a bucket, whoever dies."""

import json
import subprocess
import sys
import uuid

import pytest

from synpo_jax.runtime import buckets, holder, lease, one_writer


@pytest.fixture
def place(monkeypatch):
  monkeypatch.setattr(lease, "BEAT", 0.05)
  monkeypatch.setattr(lease, "WATCH", 0.5)
  return buckets.at(f"memory://{uuid.uuid4().hex}/run")


def test_a_second_writer_is_refused_in_one_line(place):
  with one_writer.held(place):
    with pytest.raises(ValueError, match=f"^{place} is held by process "):
      with one_writer.held(place):
        pass
    with one_writer.held(place, ".lock-1"):  # of another part
      pass
  with one_writer.held(place):
    pass


def test_one_of_two_that_start_together_wins(place, monkeypatch):
  own = lease._newest
  with one_writer.held(place):
    monkeypatch.setattr(lease, "_newest", lambda place: (None, {}))
    for path in place.files():
      (place / ".lock.000001").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="is held by process"):
      with one_writer.held(place):
        pass
    monkeypatch.setattr(lease, "_newest", own)


def write(place, **said):
  (place / ".lock.000007").write_text(json.dumps(said))


def test_an_owner_that_gives_no_sign_is_followed(place, capsys):
  write(place, process=1, host="far", machine="other")
  with one_writer.held(place):
    assert [x.name for x in place.files()] == [".lock.000008"]
  said = capsys.readouterr().err
  assert said.startswith(f"{place}: process 1 on far wrote here")


def test_a_process_of_this_machine_that_has_ended_is_followed_at_once(
  place, monkeypatch, capsys
):
  monkeypatch.setattr(lease, "WATCH", 1000.0)
  code = (
    "import json; from synpo_jax.runtime import lease; "
    "print(json.dumps(lease._describe()))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  write(place, **json.loads(done.stdout))
  with one_writer.held(place):
    pass
  assert not capsys.readouterr().err


def test_an_owner_that_slept_through_ends(place, monkeypatch):
  ended = []
  monkeypatch.setattr(lease.os, "_exit", lambda code: ended.append(code))
  with one_writer.held(place):
    write(place, **holder.describe(), token="another")
    while not ended:
      pass
  assert set(ended) == {1}
