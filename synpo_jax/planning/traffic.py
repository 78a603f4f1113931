"""What instructions of a compiled program read and write in large memory."""

import re

from synpo_jax.planning.hlo import Op, Program

# Instructions that move nothing, or whose parts are counted on their own.
FREE = {
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota",
  "after-all", "partition-id", "replica-id", "opt-barrier", "domain",
  "while", "conditional", "call", "async-start", "async-update",
}  # fmt: skip
NAMES_ONLY = ("AllocateBuffer", "ConcatBitcast")  # custom calls of TPUs
PIECES = ("dynamic-slice", "slice", "gather")


def of(program: Program, ops: dict[str, Op], op: Op) -> float:
  """Bytes that one instruction moves; arrays in on-chip memory are free.

  An instruction that takes a piece of an array reads the piece, and one that
  updates a piece in place writes the piece: a scan's layer does not pay for
  the stack of all layers.
  """
  if op.opcode in FREE or op.opcode.endswith("-done") or _names_only(op):
    return 0.0
  if op.opcode == "dynamic-update-slice":
    return 2 * _slow(ops[op.operands[1]])
  if op.opcode == "fusion":
    return _fusion(program, ops, op)
  taken = [array for name in op.operands for array in ops[name].arrays]
  made = _made(op, taken)
  if op.opcode.removesuffix("-start") in PIECES:
    source = _bytes(taken[0])
    return sum(min(source, array.bytes) + _bytes(array) for array in made)
  return sum(map(_bytes, [*taken, *made]))


def _names_only(op) -> bool:
  """Whether a custom call reserves memory or names it anew, no more."""
  return op.opcode == "custom-call" and any(
    f'custom_call_target="{target}"' in op.text for target in NAMES_ONLY
  )


def _made(op, taken) -> tuple:
  """An instruction's results; most that only start something name their
  operands too."""
  if op.opcode == "copy-start":
    return op.arrays[:1]
  if op.opcode.endswith("-start") and op.opcode != "all-reduce-start":
    return op.arrays[len(taken) :]
  return op.arrays


def _bytes(array) -> float:
  return 0.0 if array.fast else array.bytes


def _slow(op) -> float:
  return sum(map(_bytes, op.arrays))


def _fusion(program, ops, op) -> float:
  inner = _called(program, op)
  users = _users(inner)
  total = 0.0
  for parameter in inner.values():
    if parameter.opcode == "parameter":
      given = ops[op.operands[int(parameter.text)]]
      total += min(_slow(given), _read(program, parameter, users))
  return total + _written(program, op, inner)


def _called(program, op) -> dict[str, Op]:
  return program.computations[re.search(r"calls=%?([\w.\-]+)", op.text)[1]]


def _users(computation) -> dict[str, list[Op]]:
  """The instructions that take a value, by its name."""
  users: dict[str, list[Op]] = {}
  for user in computation.values():
    for operand in dict.fromkeys(user.operands):
      users.setdefault(operand, []).append(user)
  return users


def _read(program, value, users) -> float:
  """Bytes of a fusion's input that it reads; pieces where it slices."""
  total = 0.0
  for user in users.get(value.name, ()):
    if user.opcode == "bitcast":
      total += _read(program, user, users)
    elif user.opcode == "fusion":  # one in the other: TPUs slice a stack so
      inner = _called(program, user)
      for parameter in inner.values():
        if parameter.opcode == "parameter":
          if user.operands[int(parameter.text)] == value.name:
            total += _read(program, parameter, _users(inner))
    elif user.opcode in PIECES and user.operands[0] == value.name:
      total += sum(array.bytes for array in user.arrays)
    elif user.opcode == "dynamic-update-slice":
      if user.operands[0] != value.name:
        total += sum(array.bytes for array in value.arrays)
    else:
      return sum(array.bytes for array in value.arrays)
  return total


def _written(program, op, inner) -> float:
  """Bytes of a fusion's results; of updates in place, the updates."""
  root = list(inner.values())[-1]
  parts = root.operands if root.opcode == "tuple" else (root.name,)
  total = 0.0
  for part, array in zip(parts, op.arrays, strict=False):
    scope, made = _maker(program, inner, part)
    if made.opcode == "dynamic-update-slice":
      update = scope[made.operands[1]]
      total += 0.0 if array.fast else sum(a.bytes for a in update.arrays)
    else:
      total += _bytes(array)
  return total


def _maker(program, scope, name) -> tuple[dict[str, Op], Op]:
  """What makes a value, behind bitcasts and fusions; and where it stands."""
  made = scope[name]
  while made.opcode in ("bitcast", "fusion"):
    if made.opcode == "fusion":
      scope = _called(program, made)
      made = list(scope.values())[-1]
    else:
      made = scope[made.operands[0]]
  return scope, made
