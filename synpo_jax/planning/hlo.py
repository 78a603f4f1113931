"""The text of a compiled program (HLO) as instructions in computations."""

import math
import re
from typing import NamedTuple

BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
  "s32": 32, "u32": 32, "s64": 64, "u64": 64, "f16": 16, "bf16": 16,
  "f32": 32, "f64": 64, "c64": 64, "c128": 128,
  "f8e4m3fn": 8, "f8e5m2": 8,
}  # fmt: skip


class Array(NamedTuple):
  """An array type; `fast` where it lies in on-chip memory."""

  dtype: str
  shape: tuple[int, ...]
  fast: bool

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def bytes(self) -> float:
    return self.size * BITS.get(self.dtype, 0) / 8


class Op(NamedTuple):
  """An instruction: what it makes (several for a tuple) and takes."""

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  text: str  # attributes, metadata, backend config; a constant's value


class Program(NamedTuple):
  """Computations by name, instructions in order; and the first to run."""

  computations: dict[str, dict[str, Op]]
  entry: str


_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")


def parse(text: str) -> Program:
  """The instructions of an HLO module's text."""
  computations, entry, current = {}, "", {}
  for line in text.splitlines():
    header = _COMPUTATION.match(line)
    if header:
      current = computations[header[2]] = {}
      entry = header[2] if header[1] else entry
      continue
    found = _INSTRUCTION.match(line)
    if found:
      op = _instruction(found[1], re.sub(r"/\*.*?\*/", "", found[2]))
      current[op.name] = op
  if not entry:
    raise ValueError("no ENTRY computation in the compiled program's text")
  return Program(computations, entry)


def _instruction(name, text) -> Op:
  kind, rest = _type_and_rest(text)
  opcode, rest = rest.split("(", 1)
  end = _closing(rest)
  arrays = tuple(
    Array(dtype, _dims(dims), "S(1)" in (layout or ""))
    for dtype, dims, layout in _ARRAY.findall(kind)
  )
  operands = tuple(_NAME.findall(rest[:end]))
  if opcode in ("constant", "parameter"):
    return Op(name, opcode, arrays, (), rest[:end])
  return Op(name, opcode, arrays, operands, rest[end + 1 :])


def _dims(text) -> tuple[int, ...]:
  return tuple(int(d.lstrip("<=")) for d in text.split(",") if d)


def _type_and_rest(text) -> tuple[str, str]:
  if not text.startswith("("):
    return tuple(text.split(" ", 1))
  end = _closing(text[1:]) + 2
  return text[:end], text[end + 1 :]


def _closing(text) -> int:
  """Where the bracket that is open before `text` closes."""
  depth = 1
  for place in re.finditer(r"[()]", text):
    depth += 1 if place[0] == "(" else -1
    if not depth:
      return place.start()
  raise ValueError(f"unbalanced brackets in {text[:80]!r}")
