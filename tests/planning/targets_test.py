"""Devices that are not there, where the compiler for them is not either."""

import pytest

from synpo_jax.planning import targets


@pytest.mark.parametrize("cuda", ["cuda12", "cuda13"])
def test_a_plugin_without_its_libraries_is_named(monkeypatch, cuda):
  def describe(*args, **kwargs):
    raise RuntimeError("cuDNN not found.\nA trace of the plugin")

  there = f"jax_{cuda}_plugin"
  monkeypatch.setattr(
    targets.importlib.util, "find_spec", lambda name: name == there or None
  )
  monkeypatch.setattr(targets.topologies, "get_topology_desc", describe)
  with pytest.raises(ValueError) as caught:
    targets.make("h100:1")
  (line,) = str(caught.value).splitlines()
  assert line.startswith(f"topology=h100:1: {there} is installed, but cannot")
  assert "cuDNN not found" in line and f"pip install 'jax[{cuda}]'" in line
