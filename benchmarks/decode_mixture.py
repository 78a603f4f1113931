"""Captions of all sorts of lengths, as videos have them: refilled or not.

Lengths are drawn (lognormal, like the 230 +- 90 tokens of the paper's
captions, scaled to what a machine can do) and imposed on all sides alike: a
row ends where its length says, whatever it wrote.
"""

import numpy as np

from benchmarks.decode_task import (
  DRAW,
  NO_TOKEN,
  SHAPES,
  Task,
  timed,
  torch_model,
)

MEAN, DEVIATION, CAP = 230, 90, 800  # tokens, before they are scaled


def drawn(task: Task) -> np.ndarray:
  """Lengths [videos, candidates] in tokens; `task.new` is their mean."""
  scale = task.new / MEAN
  spread = np.log1p((DEVIATION / MEAN) ** 2)
  shape = task.videos, task.candidates
  found = np.random.default_rng(0).lognormal(
    np.log(MEAN) - spread / 2, spread**0.5, shape
  )
  return np.clip(found * scale, 1, cap(task)).astype(int)


def cap(task: Task) -> int:
  """The most tokens of a caption."""
  return round(CAP * task.new / MEAN)


def prompts(task: Task) -> np.ndarray:
  """[videos, P], int64."""
  return np.random.default_rng(1).integers(3, 40000, (task.videos, task.prompt))


def load(task: Task):
  """(model, variables) of ours."""
  import jax.numpy as jnp

  from synpo_jax.models import initial
  from synpo_jax.models.captioner import Captioner
  from synpo_jax.weights import config_reading, folders

  sizes = config_reading.captioner_config(task.checkpoint or SHAPES)
  model = Captioner(sizes)
  if task.checkpoint:
    params = folders.load(task.checkpoint, sizes, dtype=jnp.float32)
  else:
    params = initial.params(model, 0, dtype=jnp.float32)
  return model, {"params": params}


def refilled(task: Task) -> list[float]:
  """Rows that end leave their places to rows that wait."""
  from synpo_jax.generation import decode, engine, schedule
  from synpo_jax.generation.decode_loop import Choice
  from synpo_jax.generation.sampling import Sampling

  model, variables = load(task)
  wanted, ids = drawn(task), prompts(task)

  class Imposed(engine.Engine):
    """Ends rows where their lengths say."""

    def fill(self, rows, width, pages):
      tokens, logps = super().fill(rows, width, pages)
      for row, new in zip(rows, tokens, strict=True):
        number = row.task.content.about
        left = wanted[number, row.candidate] - len(row.tokens)
        if left <= len(new):
          new[left - 1] = NO_TOKEN
      return tokens, logps

  rows, C = task.together * task.candidates, task.candidates
  pages = -(-task.prompt // 128)
  room = schedule.Room(
    rows,
    C,
    1,
    cap(task),
    32,
    128,
    (2 * task.together + 1) * pages,
    rows * -(-int(1.5 * task.new + 32) // 32) + -(-cap(task) // 32),
  )

  def work():
    choice = Choice(Sampling(**DRAW), (NO_TOKEN,), None)
    most = schedule.Lengths(task.prompt, 0)
    grower = Imposed(model, variables, None, room, choice, 128, most)
    waiting = iter(range(task.videos))

    def ahead():
      number = next(waiting, None)
      if number is None:
        return None
      *prompt, last = ids[number].tolist()
      [keys] = np.asarray(decode.key_data(0, [f"{number}"]))
      tails = [[last]] * C
      return engine.task(
        engine.Content([prompt], tails, None, keys, about=number)
      )

    done = list(schedule.run(ahead, grower, room, (NO_TOKEN,)))
    assert len(done) == task.videos

  return timed(work, task.repeats)


def lockstep(task: Task) -> list[float]:
  """The state before: batches of videos, ended rows dropped by halves."""
  import jax.numpy as jnp

  from synpo_jax.generation import decode
  from synpo_jax.generation.decode_loop import Prompts
  from synpo_jax.generation.sampling import Sampling

  model, variables = load(task)
  wanted, ids = drawn(task), prompts(task)
  drop = decode._drop_ended

  def work():
    for start in range(0, task.videos, task.together):
      part = slice(start, start + task.together)
      ends = wanted[part].reshape(-1)

      def imposed(state, rows, shards, ends=ends):
        done = jnp.asarray(ends[rows] <= int(state.step))
        return drop(state._replace(done=done), rows, shards)

      decode._drop_ended = imposed
      prefix = ids[part].astype(np.int32)
      decode.generate(
        model,
        variables,
        Prompts(prefix, np.ones(prefix.shape, bool)),
        decode.row_keys(0, [f"{n}" for n in range(*part.indices(len(ids)))]),
        candidates=task.candidates,
        max_new_tokens=int(ends.max()),
        sampling=Sampling(**DRAW),
        eos_ids=(NO_TOKEN,),
      )

  return timed(work, task.repeats)


def generated(task: Task) -> list[float]:
  """Transformers' generate on PyTorch, in the same batches of videos."""
  import torch
  import transformers

  model = torch_model(task.checkpoint)
  wanted, ids = drawn(task), prompts(task)

  class Ends(transformers.StoppingCriteria):
    """Ends each row where its length says."""

    def __init__(self, lengths):
      self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids, scores, **kwargs):
      return self.lengths <= input_ids.shape[1] - task.prompt

  def work():
    for start in range(0, task.videos, task.together):
      part = slice(start, start + task.together)
      ends = wanted[part].reshape(-1)
      prompt = torch.tensor(ids[part])
      model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        num_return_sequences=task.candidates,
        max_new_tokens=int(ends.max()),
        eos_token_id=None,
        stopping_criteria=transformers.StoppingCriteriaList([Ends(ends)]),
        pad_token_id=0,
        **DRAW,
      )

  return timed(work, task.repeats)


KINDS = {f.__name__: f for f in (refilled, lockstep, generated)}
