"""How many examples a property is tried with."""

import hypothesis


def most(cases: int) -> hypothesis.settings:
  """Of 1,000 examples this many; fewer, in proportion, at each save."""
  of_all = hypothesis.settings.default.max_examples
  return hypothesis.settings(max_examples=max(1, cases * of_all // 1000))
