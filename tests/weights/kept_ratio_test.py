"""The configs that caption leave token merging to the checkpoint."""

import json

import pytest

from configs import caption, eval_vdc, pairs, published
from synpo_jax.weights import config_reading


@pytest.mark.parametrize("recipe", (caption, eval_vdc, pairs))
def test_a_tower_without_token_merging_passes(recipe, tmp_path):
  assert recipe.get_config().model.kept_ratio is None
  model = published.arch("qwen2_5_vl_7b").to_dict()
  (tmp_path / "config.json").write_text(json.dumps(model.get("llm", model)))
  sizes = config_reading.captioner_config(tmp_path)
  with pytest.raises(ValueError, match="no tower whose tokens could be merged"):
    sizes.with_kept_ratio(0.1)
