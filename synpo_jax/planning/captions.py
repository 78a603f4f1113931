"""The captioning of a pair run, planned: memory, and how many grow at once."""

from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from synpo_jax.data import prompts
from synpo_jax.generation import footprint, rooms, shots
from synpo_jax.generation.decode_loop import Choice
from synpo_jax.generation.footprint import GIB, Need, Plan
from synpo_jax.generation.sampling import Sampling
from synpo_jax.generation.schedule import Lengths, Room
from synpo_jax.models import seeing, sharding
from synpo_jax.pairing import captioners
from synpo_jax.planning import targets
from synpo_jax.planning.abstract_step import TEXT_TOKENS, video_tokens
from synpo_jax.runtime import hosts
from synpo_jax.weights import config_reading, loading

LETTERS = 3  # of a question, for a token; more tokens than tokenizers make
NO_END = 2  # a token; which one, is no matter of memory


class Stage(NamedTuple):
  """A stage as it was compiled: what it needs for a number of videos."""

  name: str
  batch_size: int
  room: Room
  most: Lengths
  need: Need
  usable: int | float

  @property
  def fits(self) -> bool:
    return self.need.peak <= self.usable


def judge(console: Console, c, topology: str) -> tuple[list[dict], bool]:
  """Prints what both captioning stages of a pair run need on a slice.

  Videos at once are halved until they fit, as a run does. Returns a row for
  each number tried, and whether the config as it is fits. Raises ValueError,
  in a line, for what cannot be planned.
  """
  target = targets.make(topology)
  usable = target.slice.per_device("usable")
  if target.estimate:
    console.print(f"estimate: compiled for {target.estimate}", soft_wrap=True)
  rows, fits = [], True
  for name in captioners.STAGES:
    tried = list(tries(c, name, target.devices, usable))
    rows += [as_dict(topology, stage) for stage in tried]
    fits &= tried[0].fits
    for stage in tried:
      console.print(table(stage))
      console.print(verdict(stage), soft_wrap=True)
  return rows, fits


def tries(c, name: str, devices, usable: int | float):
  """Yields a stage for as many videos as asked, then for half, until one fits.

  devices: may not exist.
  """
  plan, ask = abstract(c, name, devices)
  most = lengths(c, plan, ask)
  videos = captioners.placing(c, name)["batch_size"]
  while videos:
    hosts.say(f"compiling {name}, {videos} videos at once")
    room = rooms.plan(most, plan.mesh, videos, ask)
    need = footprint.need(plan, room, most, usable)
    stage = Stage(name, videos, room, most, need, usable)
    yield stage
    videos = 0 if stage.fits else videos // 2


def abstract(c, name: str, devices) -> tuple[Plan, shots.Ask]:
  """A stage's captioner as shapes on a mesh, and what it is asked."""
  asked = c[name].to_dict()
  del asked["frames"]
  ask = shots.Ask(seed=c.seed, **asked)
  mesh = sharding.make_mesh(**c.placing.mesh, devices=devices)
  source = c.model.checkpoint or c.arch.to_dict()
  sizes = config_reading.captioner_config(source)
  if c.model.kept_ratio is not None:
    sizes = sizes.with_kept_ratio(c.model.kept_ratio)
  sizes = seeing.follow(sizes, c.model.pixels.to_dict())
  if c.model.base == "int8":
    sizes = sizes.with_int8_base()
  dtype = loading.choose_dtype(c.model.dtype)
  model = loading.on_mesh(sizes, mesh, dtype, c.placing.attention)
  choice = Choice(
    Sampling(ask.temperature, ask.top_k, ask.top_p),
    (NO_END,),
    ask.contrast_cutoff,
  )
  frames = c.placing.frame_buckets
  frames = rooms.FRAMES if isinstance(frames, int) else max(frames)
  plan = Plan(
    model,
    loading.abstract_variables(model, mesh),
    mesh,
    choice,
    c.placing.prefix_buckets,
    frames,
    c.model.kv == "int8",
  )
  return plan, ask


def lengths(c, plan: Plan, ask) -> Lengths:
  """As `rooms.lengths`, without a tokenizer: more rather than less."""
  first = TEXT_TOKENS + video_tokens(plan.model.config, plan.frames)
  first += len(ask.question) // LETTERS
  if not ask.retrospective:
    return Lengths(first, 0)
  words = prompts.retrospective("A", question=ask.question, caution=ask.caution)
  return rooms.behind(first, first + len(words) // LETTERS, ask)


def table(stage: Stage) -> Table:
  """GiB on each device."""
  shown = Table(f"{stage.name}: a device holds", "GiB")
  need = stage.need
  rows = {"weights": need.weights, "keys and values of prompts": need.prompts}
  rows |= {"keys and values of rows": need.own}
  rows |= {f"at once, to {name}": size for name, size in need.peaks.items()}
  for name, size in rows.items():
    shown.add_row(name, f"{size / GIB:.2f}")
  shown.add_row("peak", f"{need.peak / GIB:.2f}", style="bold")
  shown.add_row("usable", f"{stage.usable / GIB:.2f}")
  return shown


def verdict(stage: Stage) -> str:
  """Whether it fits, in a line."""
  room, most = stage.room, stage.most
  key = "parts" if stage.name == "clips" else "placing.batch_size"
  what = (
    f"{stage.name}: {key}={stage.batch_size}, {room.rows} "
    f"captions at once, prompts of up to {most.prompt} tokens and answers "
    f"of up to {room.most}"
  )
  if stage.fits:
    return f"{what}: fits"
  least = "" if stage.need.peaks else ", without compiling"
  return f"{what}: does not fit{least}"


def as_dict(topology: str, stage: Stage) -> dict:
  """A try for JSON: bytes of a device, tokens, pages."""
  row = {"topology": topology, "stage": stage.name, "fits": stage.fits}
  row |= {"batch_size": stage.batch_size, "room": stage.room._asdict()}
  row |= {"lengths": stage.most._asdict(), "usable": stage.usable}
  return row | {"need": stage.need._asdict() | {"peak": stage.need.peak}}
