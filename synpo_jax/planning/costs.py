"""What a compiled program costs on one device; loops count as they run."""

import math
import re
from typing import NamedTuple

from synpo_jax.planning import elements, hlo, products, traffic

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)


class Totals(NamedTuple):
  """FLOPs of matrix products, bytes of memory traffic, kernels, links.

  kernels: how often each custom kernel runs, by its name. received: bytes
  that arrive over links, by kind of collective. vector: operations on single
  elements, of which `random` make random numbers.
  """

  flops: float = 0.0
  traffic: float = 0.0
  kernels: dict[str, float] = {}
  received: dict[str, float] = {}
  vector: float = 0.0
  random: float = 0.0

  def plus(self, other: "Totals") -> "Totals":
    """Both together."""
    pairs = zip(self, other, strict=True)
    return Totals(
      *(added(a, b) if isinstance(a, dict) else a + b for a, b in pairs)
    )

  def times(self, runs: int) -> "Totals":
    """As often as a loop runs."""
    return Totals(
      *(
        {k: n * runs for k, n in a.items()} if isinstance(a, dict) else a * runs
        for a in self
      )
    )


class _Region(NamedTuple):
  """Totals of a computation; collectives apart until all of it is known.

  The parts of an asynchronous collective (its start, what overlaps with it,
  its end) all hold the same instruction; its channel tells that it is one,
  but for those of one computation, which are several: what `jax.shard_map`
  was told to exchange is all on channel 1.
  It may start before a loop and end after it, and its parts in the loop then
  hold it too: `_joined` takes it as often as it starts.
  """

  totals: Totals
  channels: dict[str, tuple[str, float]]


def count(text: str) -> Totals:
  """Totals of one device running an HLO module, given as its text.

  FLOPs are those of dots and convolutions: two per multiply-add. Traffic sums
  what instructions read and write in the large memory, as if nothing but a
  fusion saved any; it is an estimate.
  """
  program = hlo.parse(text)
  region = _region(program, program.entry, {})
  received = {}
  for kind, size in region.channels.values():
    received[kind] = received.get(kind, 0.0) + size
  return region.totals._replace(received=received)


def _joined(a: dict, b: dict) -> dict:
  """Collectives of two parts of a program; one in both runs the fewer times."""
  return a | {
    k: min(a.get(k, v), v, key=lambda pair: pair[1]) for k, v in b.items()
  }


def _region(program, name, done) -> _Region:
  """Totals of a computation and all it calls; `done` remembers them."""
  if name not in done:
    ops = program.computations[name]
    total, channels, own = Totals(), {}, {}
    for op in ops.values():
      part = _operation(program, ops, op, name, done)
      total = total.plus(part.totals)
      if op.opcode.removesuffix("-start") in COLLECTIVES:
        own |= {_key(op, own, key): v for key, v in part.channels.items()}
      else:
        channels = _joined(channels, part.channels)
    channels = _joined(channels, own)
    done[name] = _Region(total, channels)
  return done[name]


def _key(op, taken: dict, channel: str) -> str:
  """What a collective is known by: its name, if its channel is another's."""
  return f"{channel}/{op.name}" if channel in taken else channel


def added(a: dict, b: dict) -> dict:
  """The sums of two dicts of numbers."""
  return {k: a.get(k, 0.0) + b.get(k, 0.0) for k in {**a, **b}} if b else a


def _operation(program, ops, op, inside, done) -> _Region:
  """Totals of one instruction, with what it calls."""
  if op.opcode == "while":
    return _loop(program, ops, op, done)
  if op.opcode == "conditional":
    branches = [_region(program, name, done) for name in called(op)]
    return max(branches, key=lambda region: region.totals.flops)
  total, channels = _own(program, ops, op), {}
  kind = op.opcode.removesuffix("-start")
  if kind in COLLECTIVES:
    channel = re.search(r"channel_id=(\d+)", op.text)
    key = channel[1] if channel else f"{inside}/{op.name}"
    channels[key] = collective(ops, op, inside)
  for name in called(op):
    part = _region(program, name, done)
    inner = part.totals
    if op.opcode == "fusion":  # whose parts stay on the chip
      inner = inner._replace(traffic=0.0)
    total = total.plus(inner)
    channels = _joined(channels, part.channels)
  return _Region(total, channels)


def _own(program, ops, op) -> Totals:
  """Totals of one instruction, without what it calls."""
  return Totals(
    flops=products.flops(ops, op),
    traffic=traffic.of(program, ops, op),
    kernels=_kernel(op) if op.opcode == "custom-call" else {},
    vector=elements.operations(ops, op),
    random=elements.random(ops, op),
  )


def _loop(program, ops, op, done) -> _Region:
  """A loop's body, as often as it runs."""
  body, trips = _attribute(op, "body"), trip_count(program, ops, op)
  total, channels = _region(program, body, done)
  return _Region(
    total.times(trips),
    {key: (kind, size * trips) for key, (kind, size) in channels.items()},
  )


def called(op) -> list[str]:
  """Computations that run when an instruction does."""
  if op.opcode == "conditional":
    listed = re.search(r"branch_computations=\{([^}]*)\}", op.text)
    pair = r"(?:true|false)_computation=%?([\w.\-]+)"
    return (
      re.findall(r"%([\w.\-]+)", listed[1])
      if listed
      else re.findall(pair, op.text)
    )
  if op.opcode == "call":
    return [_attribute(op, "to_apply")]
  found = re.search(r"\bcalls=%?([\w.\-]+)", op.text)
  return [found[1]] if found else []


def _attribute(op, name) -> str:
  found = re.search(rf"\b{name}=%?([\w.\-]+)", op.text)
  if not found:
    raise ValueError(f"{op.opcode} {op.name} has no {name}")
  return found[1]


def trip_count(program, ops, op) -> int:
  """How often a loop runs: noted by the compiler, or counter < constant.

  The compiler unrolls loops: a counter need not advance by one. Raises
  ValueError for a loop whose end depends on data.
  """
  noted = re.search(r'known_trip_count[^}]*?"n":"(\d+)"', op.text)
  if noted:
    return int(noted[1])
  condition = _attribute(op, "condition")
  test = program.computations[condition]
  ends = [int(c.text) for c in test.values() if _is_integer(c)]
  counter = [o for o in test.values() if o.opcode == "get-tuple-element"]
  if len(ends) != 1 or len(counter) != 1:
    raise ValueError(f"loop {op.name}: no counter is compared in {condition}")
  index = int(re.search(r"index=(\d+)", counter[0].text)[1])
  body = program.computations[_attribute(op, "body")]
  following = body[_root(body).operands[index]]
  advance = _offset(program, body, following, {})
  if advance < 1:
    raise ValueError(f"loop {op.name}: its counter does not advance")
  return -(-(ends[0] - _start(ops, op, index)) // advance)


def _root(ops):
  return list(ops.values())[-1]


def _offset(program, ops, op, given) -> int:
  """What is added to a loop's counter (0), or a constant's value.

  given: offsets of the parameters of a fusion that this is in.
  """
  if _is_integer(op):
    return int(op.text)
  if op.opcode in ("get-tuple-element", "parameter"):
    return given.get(op.name, 0)
  parts = [_offset(program, ops, ops[name], given) for name in op.operands]
  if op.opcode in ("copy", "bitcast", "add"):
    return sum(parts)
  if op.opcode != "fusion":
    raise ValueError(f"a loop's counter becomes {op.opcode} {op.name}")
  inner = program.computations[called(op)[0]]
  names = [o.name for o in inner.values() if o.opcode == "parameter"]
  names.sort(key=lambda name: int(inner[name].text))
  given = dict(zip(names, parts, strict=True))
  return _offset(program, inner, _root(inner), given)


def _is_integer(op) -> bool:
  return op.opcode == "constant" and re.fullmatch(r"-?\d+", op.text) is not None


def _start(ops, op, index) -> int:
  """A loop's counter before it runs: 0 unless a constant says otherwise."""
  state = ops.get(op.operands[0])
  if state is None or state.opcode != "tuple":
    return 0
  first = ops[state.operands[index]]
  while first.opcode in ("copy", "bitcast"):
    first = ops[first.operands[0]]
  return int(first.text) if _is_integer(first) else 0


def collective(ops, op, inside) -> tuple[str, float]:
  """Kind of a collective, and the bytes a device receives by the best ring."""
  kind = op.opcode.removesuffix("-start")
  sent = sum(a.bytes for name in op.operands for a in ops[name].arrays)
  if kind == "collective-permute":
    return kind, sent
  devices = group_size(op.text)
  share = 1 - 1 / devices
  if kind == "all-gather":
    return kind, sent * devices * share
  if kind == "all-reduce" and not inside.startswith("all-reduce-scatter"):
    return kind, 2 * sent * share
  if kind == "all-reduce":  # a fusion that keeps one piece of the sum
    kind = "reduce-scatter"
  return kind, sent * share


def group_size(text: str) -> int:
  """Devices that exchange with each other, from `replica_groups`."""
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
  if listed:
    return len(listed[1].split(","))
  tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", text)
  if tiled:
    return int(tiled[2])
  named = re.search(r"replica_groups=@?\w*\[([^\]]*)\] \{([^}]*)\}", text)
  if not named:
    raise ValueError(f"no replica groups in {text[:200]!r}")
  sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
  parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
  return math.prod(int(part or sizes[axis]) for axis, part in parts)


def _kernel(op) -> dict[str, float]:
  """A custom kernel: Pallas names the instruction, cuDNN the target.

  Splash calls its backward kernel dkv also where it makes dq as well, in
  parts: an array with an axis more than dv, the last. Here that is dqkv.
  """
  target = re.search(r'custom_call_target="([^"]+)"', op.text)
  if target and target[1] == "tpu_custom_call":
    name = re.sub(r"(\.\w+)*$", "", op.name)
    axes = [len(array.shape) for array in op.arrays]
    return {name.replace("dkv", "dqkv" if max(axes) > axes[-1] else "dkv"): 1.0}
  if target and target[1].startswith("__cudnn"):
    return {target[1]: 1.0}
  return {}
