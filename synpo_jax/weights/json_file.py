"""Reading a JSON file, with faults that name it."""

import json
import pathlib


def read(path: str | pathlib.Path) -> dict:
  """The object in a file.

  Raises FileNotFoundError or ValueError, one line that names the file.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path}: no such file")
  try:
    content = json.loads(path.read_text("utf-8"))
  except ValueError as error:  # of JSON, or of UTF-8
    raise ValueError(f"{path}: no JSON ({error}); fetch it again") from error
  if not isinstance(content, dict):
    raise ValueError(f"{path}: holds no JSON object")
  return content
