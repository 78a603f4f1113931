"""A judge for tests that replies by what it is asked."""

from synpo_jax.judging import judge
from synpo_jax.judging.replies import Unreadable


def scripted(answers):
  """An `ask` that replies by what it is asked; None is a failed call."""
  asked = []

  def ask(requests, on_answer):
    requests = list(requests)
    asked.append(requests)
    for request in reversed(requests):  # answers come in any order
      reply = answers(request)
      if reply is None:
        answer = judge.Answer(request.id, None, "unavailable: status 500")
      else:
        try:
          answer = judge.Answer(request.id, request.parse(reply), None)
        except Unreadable as error:
          answer = judge.Answer(request.id, None, f"unusable: {error}")
      on_answer(answer, judge.Usage())
    return judge.Usage(calls=len(requests), prompt_tokens=1)

  return ask, asked
