"""The closed vocabulary of the synthetic world and a tokenizer for it.

python -m synpo_jax.world.vocabulary --out=tokenizer

Byte-level BPE, so that any text can be written, but trained on the world's
own words alone, so that each of them is one token.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from synpo_jax.data import prompts
from synpo_jax.world import scene, telling
from synpo_jax.world.chance import pick
from synpo_jax.world.scene import Event, Facts, Thing

SPECIAL = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2; padding is <unk>
CAPTIONS = 400  # enough to hold every wording


def corpus() -> list[str]:
  """Every prompt, and captions enough to hold every word and wording."""
  requests = [text for texts in prompts.VDC.values() for text in texts]
  requests += [prompts.CAUTION, prompts.retrospective("A", caution=True)]
  texts = [f"USER: \n{text}\n ASSISTANT:" for text in requests]
  for seed in range(CAPTIONS):
    rng = np.random.default_rng([seed, 20250606])
    facts = _anything(rng)
    told = [
      s for kind in telling.KINDS for s in telling.sentences(facts, rng, kind)
    ]
    texts += [*told, " " + " ".join(told)]  # at the start, and further on
  return texts


def _anything(rng: np.random.Generator) -> Facts:
  """Facts at random, whether or not a clip could show them."""
  background = pick(rng, list(scene.BACKGROUNDS))
  things = tuple(
    Thing(
      pick(rng, scene.SHAPES),
      pick(rng, list(scene.COLOURS)),
      pick(rng, list(scene.RADIUS)),
      pick(rng, [None, *scene.ZONES]),
    )
    for _ in range(3)
  )
  where = {
    "move": list(scene.DIRECTIONS),
    "turn": list(scene.STEPS),
    "enter": list(scene.SIDES),
    "leave": list(scene.SIDES),
    "colour": list(scene.COLOURS),
  }
  events = tuple(
    Event(kind, int(rng.integers(2)), pick(rng, where.get(kind, [None])), 2)
    for kind in rng.permutation(list(scene.EVENTS)).tolist()[:4]
  )
  tone = pick(rng, scene.BACKGROUNDS[background])
  camera = pick(rng, scene.CAMERAS)
  still = (2,) if rng.random() < 0.5 else (1, 2)
  return Facts(background, tone, camera, things, events, still)


def words(texts: list[str]) -> list[str]:
  """The distinct words of some texts, in lower case, sorted."""
  by_text = (re.findall(r"[a-z]+", text.lower()) for text in texts)
  return sorted(set().union(*by_text))


def make_tokenizer(folder: str | Path) -> int:
  """Writes tokenizer.json and its config; returns the number of entries.

  `transformers.AutoTokenizer.from_pretrained(folder)` loads the result:
  <s> is 1, </s> is 2, <unk> (also padding) is 0, and nothing is added to a
  text that was not in it, be it a space or a special token.
  """
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=4096,  # never reached: training ends when words are whole
    min_frequency=1,
    special_tokens=list(SPECIAL),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(corpus(), trainer)
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer.save(str(folder / "tokenizer.json"))
  settings = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<unk>",
    "model_max_length": 4096,
    "clean_up_tokenization_spaces": False,
  }
  path = folder / "tokenizer_config.json"
  path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
  return tokenizer.get_vocab_size()


def main() -> None:
  """Writes a tokenizer of the world as it is told today."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", required=True, help="folder to write into")
  args = parser.parse_args()
  print(f"{make_tokenizer(args.out)} entries in {args.out}")


if __name__ == "__main__":
  main()
