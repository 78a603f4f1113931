"""The folders that tries start from, and what the first runs left in them."""

import contextlib
import json
import pathlib
import random
import shutil
import sys

from benchmarks.torture.commands import CLIPS, COMMANDS, Command
from benchmarks.torture.processes import finish, start, wait_for
from synpo_jax.runtime import journal, shipped
from synpo_jax.world import folder as world

LEFT = ("*.safetensors", "config.json", "tokenizer*.json", "*/*")


class Bench:
  """A folder with an uninterrupted run of every command that is asked for."""

  def __init__(self, workdir: pathlib.Path, mark: str):
    self.workdir, self.mark, self.whole = workdir.absolute(), mark, {}

  def path(self, name: str) -> pathlib.Path:
    """The folder of a command's uninterrupted run."""
    return self.workdir / "whole" / name

  def prepare(self, names) -> None:
    """Runs the commands that have not been run yet, one after another."""
    with self.rows("whole") as (self.whole, append):
      for name in _in_order(names):
        if name not in self.whole:
          append({"id": name, **self._run_whole(name)})

  @contextlib.contextmanager
  def rows(self, name: str):
    """Yields (rows, append) of a journal whose rows carry the mark.

    Raises ValueError for rows of another seed or another program.
    """
    with journal.extend(self.workdir / f"{name}.jsonl") as (rows, append):
      if any(row["mark"] != self.mark for row in rows.values()):
        raise ValueError(
          f"{self.workdir}: its rows are of another seed or another version of "
          "the program; choose another --workdir, or delete that one"
        )
      yield rows, lambda row: append(row | {"mark": self.mark})

  def _run_whole(self, name: str) -> dict:
    command, folder = COMMANDS[name], self.path(name)
    shutil.rmtree(folder, ignore_errors=True)
    if command.after:
      shutil.copytree(self.path(command.after), folder, symlinks=True)
    else:
      self._make_inputs(folder)
    print(f"{name}, uninterrupted", file=sys.stderr, flush=True)
    process = start(command, folder)
    begun = wait_for(process, folder, command.begins)
    if command.ends:
      span = wait_for(process, folder, command.ends)
    done = finish(process, folder)
    if done.code != 0:
      raise ValueError(f"{folder}: {name} failed: {done.said[-500:]}")
    if not command.ends:
      span = done.seconds
    return {
      "begins": begun,
      "span": span,
      "result": command.result(folder),
    }

  def _make_inputs(self, folder: pathlib.Path) -> None:
    """A small world whose clips all folders share, and the captioner."""
    made = self.workdir / "world"
    world.write_world(made, clips=CLIPS, seed=0, heldout=0)
    shutil.copytree(made, folder / "world", ignore=lambda *_: ["clips", "lock"])
    (folder / "world" / "clips").symlink_to(made / "clips")
    source = shipped.find("synpo_jax/assets/tiny")
    for path in (path for glob in LEFT for path in source.glob(glob)):
      target = folder / "captioner" / path.relative_to(source)
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, target)

  def fresh(self, name: str, folder: pathlib.Path) -> Command:
    """A folder in which a command has not begun yet; returns the command."""
    command = COMMANDS[name]
    for part in command.needs:
      source = self.path(name) / part
      shutil.copytree(source, folder / part, symlinks=True)
    return command

  def used(self, name: str, folder: pathlib.Path) -> Command:
    """A folder in which a command has ended; returns the command."""
    shutil.copytree(self.path(name), folder, symlinks=True, dirs_exist_ok=True)
    return COMMANDS[name]

  def result(self, name: str, folder: pathlib.Path) -> dict:
    """What a command left in a folder, in JSON."""
    return json.loads(json.dumps(COMMANDS[name].result(folder)))

  def is_same(self, name: str, folder: pathlib.Path) -> bool:
    """Whether a command left what the uninterrupted one did."""
    try:
      return self.result(name, folder) == self.whole[name]["result"]
    except (ValueError, LookupError, OSError):
      return False

  def moment(self, name: str, rng: random.Random) -> float:
    """A random time within the uninterrupted command's work, in seconds."""
    return rng.uniform(0.0, self.whole[name]["span"])


def _in_order(names):
  """The commands, each behind the one that it goes on from."""
  names = set(names) | {COMMANDS[name].after for name in names}
  return [name for name in COMMANDS if name in names]
