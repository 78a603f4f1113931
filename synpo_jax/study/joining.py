"""Joins a tower that sees to a language model that reads, by words.

Between the two stands a projector that nobody trained. It starts with making
of each visual token the embeddings of the words that say what the token's
patches show (`world.patches`), added up. No caption is read for it, and the
language model is not run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int8, UInt8

from synpo_jax.models import captioner, vit
from synpo_jax.models.connectors import Connector
from synpo_jax.runtime import progress
from synpo_jax.study import seeing
from synpo_jax.training import optim
from synpo_jax.world import patches, scene

# Label -> a word for each of its values; "" where the value says nothing. What
# has no name gets letters and numbers, which captions hold none of.
WORDS = {
  "shape": ("", *scene.SHAPES),
  "colour": ("", *scene.COLOURS),
  "size": ("", *scene.RADIUS),
  "column": ("", *"ABCDEFGHIJKL"),
  "row": (
    "",
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
  ),
  "ground": tuple(f"{tone} {kind}" for kind, tone in patches.GROUNDS),
  "pan": ("", *"MNOPQRS"),
  "zoom": ("", *"WXYZ"),
}


def word_tables(
  tokenizer, embeddings: Float[np.ndarray, "V D"]
) -> dict[str, Float[np.ndarray, "v D"]]:
  """Label -> of each value the mean embedding of its words' tokens."""

  def embed(words: str):
    if not words:
      return np.zeros(embeddings.shape[1], np.float32)
    ids = tokenizer.encode(f" {words}", add_special_tokens=False)
    return embeddings[ids].mean(axis=0)

  return {
    name: np.stack([embed(word) for word in words])
    for name, words in WORDS.items()
  }


def make_loss(tower_config, connector: Connector, tables):
  """Returns (projector, tower, frames, labels) -> squared error in units of
  what the words' embeddings vary by; 1 is what zeros would have.

  tables: `word_tables`'.
  """
  tower, first = vit.Tower(tower_config), int(tower_config.class_token)

  def loss(
    projector,
    weights,
    frames: UInt8[Array, "I Y X 3"],
    labels: Int8[Array, "I P 8"],
  ):
    pixels = captioner.normalise(frames, tower_config.mean, tower_config.std)
    x, _, slots = tower.apply({"params": weights}, pixels, method="trace")
    share_IPK = seeing.share(slots[:, first:] - first, x.shape[1])
    wanted = 0.0
    for index, (name, values) in enumerate(patches.VALUES.items()):
      held = jax.nn.one_hot(labels[..., index], values)
      wanted += jnp.einsum("ipk,ipv,vd->ikd", share_IPK, held, tables[name])
    wanted *= len(tables) ** -0.5  # as large as one word's embedding
    made = connector.apply({"params": projector}, x[:, None])
    missed = jnp.mean((made - wanted) ** 2)
    return missed / jnp.mean(wanted**2)

  return loss


def teach(c, config, tower, tables, album: seeing.Album, seed: int) -> dict:
  """The projector's weights, which say in words what the tower sees.

  Args:
    c: updates, pictures (of an update), optim (as configs/vdc.py's).
    config: the CaptionerConfig. tower: its tower's weights.
  """
  tx, _ = optim.make(**c.optim, updates=c.updates)
  connector = Connector(config.connector, config.decoder.width, jnp.float32)
  loss = make_loss(config.tower, connector, tables)

  @jax.jit
  def step(projector, opt, tower, frames, labels):
    value, grads = jax.value_and_grad(loss)(projector, tower, frames, labels)
    updates, opt = tx.update(grads, opt, projector)
    return optax.apply_updates(projector, updates), opt, value

  nothing = jnp.zeros((1, 1, 1, config.tower.width))
  projector = connector.init(jax.random.key(seed), nothing)["params"]
  opt = tx.init(projector)
  with progress.bar("projector", c.updates) as advance:
    for number in range(c.updates):
      picked = seeing.pick(album, seed, number, c.pictures)
      projector, opt, value = step(projector, opt, tower, *picked)
      advance(note=f"error {float(value):.3f}")
  return projector
