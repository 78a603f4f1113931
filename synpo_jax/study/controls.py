"""What the captioner that was not trained gives when it is merely nudged.

A gain of training counts only as far as it is above all of these. Every
control is {video: caption}, to be scored as any other captions are.
"""

import re
from collections.abc import Mapping, Sequence

from synpo_jax.generation import batch_captions
from synpo_jax.generation.sampling import Sampling
from synpo_jax.world.reading import read_facts

Captions = dict[str, str]
BEGINNING = "The background is"
SENTENCE = "The camera stays still."
SAMPLING = Sampling(temperature=0.9, top_k=32, top_p=0.95)


def write(
  model,
  variables,
  data,
  before: Mapping[str, str],
  after: Mapping[str, str],
  *,
  candidates: int,
  **settings,
) -> dict[str, Captions]:
  """Control -> captions of the videos of `before`, by the untrained model.

  Args:
    variables: of the model before training.
    data: batches of the videos, their order that of `before`.
    before, after: greedy captions of the untrained and the trained model.
    candidates: captions sampled per video, as `SAMPLING` says.
    settings: tokenizer, end, mesh and max_new_tokens of
      `batch_captions.greedy`.
  """
  most = len(before)
  forced = batch_captions.greedy(
    model, variables, data, most=most, beginning=BEGINNING, **settings
  )
  drawn = batch_captions.sampled(
    model,
    variables,
    data,
    most=most,
    seed=0,
    candidates=candidates,
    sampling=SAMPLING,
    **settings,
  )
  texts = {video: [words for words, _ in drawn[video]] for video in before}
  return {
    "forced beginning": {video: forced[video] for video in before},
    "constant sentence": constant_sentence(before),
    "equal length": equal_length(before, texts, after),
    f"best of {candidates} by S": {
      video: best_by_certainty(drawn[video]) for video in before
    },
  }


def constant_sentence(captions: Mapping[str, str]) -> Captions:
  """`SENTENCE` added to captions that do not speak of the camera."""
  return {
    video: caption
    if read_facts(caption).camera is not None
    else f"{caption} {SENTENCE}".strip()
    for video, caption in captions.items()
  }


def best_by_certainty(drawn: Sequence[tuple[str, float]]) -> str:
  """The caption with the highest S, the first of several."""
  return max(drawn, key=lambda pair: pair[1])[0]


def equal_length(
  captions: Mapping[str, str],
  others: Mapping[str, Sequence[str]],
  like: Mapping[str, str],
) -> Captions:
  """Captions with as many words, on average, as those of `like`.

  A caption that is long enough is cut between sentences; else the nearest in
  words of it and the `others` of its video is taken. What one video has too
  many or too few is made up for by the next. Where no caption is long enough
  the mean stays short: compare `words`.
  """
  found, owed = {}, 0
  for video, caption in captions.items():
    wanted = _words(like[video]) + owed
    options = [caption, *others[video]]
    if _words(caption) >= wanted:
      options = _cuts(caption)
    found[video] = min(options, key=lambda text: abs(_words(text) - wanted))
    longest = max(map(_words, options))
    owed = min(wanted, longest) - _words(found[video])
  return found


def _words(text: str) -> int:
  return len(text.split())


def _cuts(caption: str) -> list[str]:
  """The caption whole, and ended after each of its sentences."""
  ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", caption)]
  return [caption, *(caption[:end] for end in ends[:-1])]
