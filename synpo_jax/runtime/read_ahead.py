"""Items loaded by threads, ahead of whoever takes them, and in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from itertools import islice


def read_ahead(
  items: Iterable, load: Callable, readers: int
) -> Iterator[tuple]:
  """Yields (item, future of load(item)) in order, `readers` items ahead.

  Whoever takes a future's result gets the error of that item's load, and may
  go on with the next.
  """
  items, waiting = iter(items), deque()
  with futures.ThreadPoolExecutor(readers) as pool:
    while True:
      for item in islice(items, readers + 1 - len(waiting)):
        waiting.append((item, pool.submit(load, item)))
      if not waiting:
        return
      yield waiting.popleft()
