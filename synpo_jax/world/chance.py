"""One of many, by a generator of random numbers."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
  """One of the options, each as likely."""
  return options[int(rng.integers(len(options)))]
