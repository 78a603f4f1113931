"""Adapters that the study keeps: read as they were written, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synpo_jax.runtime import seal
from synpo_jax.study import cell, marking


def test_a_kept_adapter_is_what_was_written_or_refused(tmp_path, monkeypatch):
  blank = {"lora": {"a": jnp.zeros((2, 3))}}
  monkeypatch.setattr(cell, "fresh_adapter", lambda *_: blank)
  made = {"lora": {"a": jnp.arange(6.0).reshape(2, 3)}}
  path = tmp_path / "cells" / "adapter.msgpack"
  marking.kept(None, path, lambda: made)
  whole = path.read_bytes()

  def again():
    return marking.kept(None, path, lambda: pytest.fail("made anew"))

  jax.tree.map(np.testing.assert_array_equal, again(), made)
  for bit in range(8 * len(whole)):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    with pytest.raises(seal.Broken, match="adapter.msgpack: its checksum"):
      again()
  path.write_bytes(whole[:-1])
  with pytest.raises(seal.Broken, match="delete it and run again"):
    again()
