"""The environment of the implementations that ours is compared with.

python benchmarks/peers.py setup      makes it, in runs/peers

PyTorch, Transformers, PEFT and TRL at the versions of requirements-peers.txt,
apart from ours, because TRL wants a newer Transformers.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE.parent / "runs" / "peers"
PYTHON = FOLDER / "bin" / "python"


def python(given: str | None) -> pathlib.Path:
  """The interpreter that runs the peers; FileNotFoundError says what to do."""
  path = pathlib.Path(given) if given else PYTHON
  if not path.exists():
    raise FileNotFoundError(
      f"{path}: no Python of the peers there; make it with `python "
      "benchmarks/peers.py setup`, name one with --peers-python=PATH, or "
      "leave PyTorch's rows out with --without-peers"
    )
  return path


def setup() -> None:
  """Makes the environment, or brings it up to date."""
  if not PYTHON.exists():
    subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
  pip = [PYTHON, "-m", "pip", "install", "-q", "-r"]
  subprocess.run([*pip, HERE / "requirements-peers.txt"], check=True)
  print(f"{PYTHON} is ready")


if __name__ == "__main__":
  if sys.argv[1:] != ["setup"]:
    sys.exit("error: write `python benchmarks/peers.py setup`")
  setup()
