"""What a name that is not known may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
  """The known names most like this one, the likest first; else all of them."""
  known = list(known)
  return ", ".join(difflib.get_close_matches(name, known) or known)


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
  """Raises ValueError, one line with the nearest names, unless it is known.

  what: of what kind it is a name, as the line begins: "loss", "model".
  """
  known = list(known)
  if name not in known:
    raise ValueError(
      f"{what}={name}: no such {what.rpartition('.')[2]}; "
      f"nearest: {nearest(name, known)}"
    )
