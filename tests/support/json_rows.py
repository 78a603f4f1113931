"""What a command wrote, a row a line."""

import json
import pathlib


def read(path) -> list[dict]:
  return [
    json.loads(line) for line in pathlib.Path(path).read_text().split("\n")[:-1]
  ]
