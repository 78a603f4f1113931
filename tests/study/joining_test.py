"""A projector that says in words what the tower sees."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import warm_start
from synpo_jax.data import text
from synpo_jax.models import connectors
from synpo_jax.models.config import ConnectorConfig
from synpo_jax.runtime import shipped
from synpo_jax.study import joining, seeing
from synpo_jax.weights.config_reading import tower_config
from synpo_jax.world import patches, rendering, staging

WIDTH = 24
SIZES = warm_start.TOWER | dict(
  image_size=32,
  hidden_size=16,
  intermediate_size=16,
  num_hidden_layers=3,
  num_attention_heads=2,
)


@pytest.fixture(scope="module")
def tokenizer():
  return text.load_tokenizer(shipped.find("synpo_jax/assets/tiny"))


@pytest.fixture(scope="module")
def tables(tokenizer):
  table = np.random.default_rng(0).normal(size=(740, WIDTH))
  return joining.word_tables(tokenizer, table.astype(np.float32))


@pytest.fixture(scope="module")
def config():
  tower = tower_config(SIZES, feature_layer=-2)
  decoder = types.SimpleNamespace(width=WIDTH)
  connector = ConnectorConfig("aurora")
  return types.SimpleNamespace(
    tower=tower, connector=connector, decoder=decoder
  )


@pytest.fixture(scope="module")
def album():
  scenes = [staging.sample(seed) for seed in range(2)]
  frames = [[rendering.picture(scene, 0.0, 32)] for scene in scenes]
  labels = [[patches.labels(scene, 0.0, 4)] for scene in scenes]
  return seeing.Album(np.array(frames), np.array(labels, np.int8))


@pytest.fixture(scope="module")
def tower(config):
  pixels = jnp.zeros((1, 32, 32, 3))
  tower = joining.vit.Tower(config.tower)
  return tower.init(jax.random.key(0), pixels)["params"]


def test_every_value_of_a_label_has_words_of_its_own(tokenizer, tables):
  assert {name: len(words) for name, words in joining.WORDS.items()} == (
    patches.VALUES
  )
  said = [word for words in joining.WORDS.values() for word in words if word]
  assert len(set(said)) == len(said)
  table = np.arange(740.0)[:, None]
  found = joining.word_tables(tokenizer, table)
  assert found["shape"][0] == 0
  ids = tokenizer.encode(" circle", add_special_tokens=False)
  assert found["shape"][1] == np.mean(ids)


def test_zeros_miss_all_of_what_is_to_be_said(config, tower, tables, album):
  """Whatever is shown: the error is in units of what zeros would have."""
  connector = connectors.Connector(config.connector, WIDTH, jnp.float32)
  loss = jax.jit(joining.make_loss(config.tower, connector, tables))
  nothing = jnp.zeros((1, 1, 1, config.tower.width))
  blank = jax.tree.map(
    jnp.zeros_like, connector.init(jax.random.key(0), nothing)["params"]
  )
  frames, labels = album.frames[:, 0], album.labels[:, 0]
  assert abs(loss(blank, tower, frames, labels) - 1.0) < 1e-6


def test_a_projector_learns_what_patches_show(config, tower, tables, album):
  """Two pictures are soon known by heart."""
  c = types.SimpleNamespace(**warm_start.words())
  c.updates, c.pictures, c.optim.lr = 60, 2, 3e-2
  made = joining.teach(c, config, tower, tables, album, seed=0)
  connector = connectors.Connector(config.connector, WIDTH, jnp.float32)
  loss = jax.jit(joining.make_loss(config.tower, connector, tables))
  frames, labels = album.frames[:, 0], album.labels[:, 0]
  assert loss(made, tower, frames, labels) < 0.3
