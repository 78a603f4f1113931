"""FLOPs of matrix products in compiled programs: two per multiply-add."""

import math
import re

from synpo_jax.planning.hlo import Op


def flops(ops: dict[str, Op], op: Op) -> float:
  """FLOPs of one instruction; 0 for what is no product.

  ops: the instructions of its computation, which hold its operands.
  """
  if op.opcode == "dot":
    contracted = _numbers(op.text, r"lhs_contracting_dims=\{([\d,]*)\}")
    return _dot(ops, op, contracted)
  if op.opcode == "convolution":
    return _convolution(ops, op)
  if op.opcode == "custom-call" and 'target="__cublas' in op.text:
    listed = re.search(r'"lhs_contracting_dimensions":\s*\[([^\]]*)\]', op.text)
    return _dot(ops, op, [int(n) for n in re.findall(r"\d+", listed[1])])
  return 0.0


def _dot(ops, op, contracted) -> float:
  left = ops[op.operands[0]].arrays[0].shape
  return 2.0 * op.arrays[0].size * math.prod(left[i] for i in contracted)


def _numbers(text, pattern) -> list[int]:
  found = re.search(pattern, text)
  return [int(n) for n in found[1].split(",") if n] if found else []


def _convolution(ops, op) -> float:
  """As dots are on TPUs too; batch dimensions are windows with holes."""
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", op.text)
  left, right, out = labels[1], labels[2], labels[3]
  lhs = ops[op.operands[0]].arrays[0].shape
  rhs = ops[op.operands[1]].arrays[0].shape
  made = op.arrays[0].shape
  groups = re.search(r"batch_group_count=(\d+)", op.text)
  total = 2.0 * rhs[right.index("i")] * made[out.index("f")]
  total *= lhs[left.index("b")] / (int(groups[1]) if groups else 1)
  window = _window(op.text, sum(label.isdigit() for label in right))
  for place, axis in enumerate(sorted(c for c in right if c.isdigit())):
    total *= _meetings(
      lhs[left.index(axis)],
      rhs[right.index(axis)],
      made[out.index(axis)],
      *(values[place] for values in window),
    )
  return total


def _window(text, axes) -> list[list[int]]:
  """Stride, low padding, dilation of left and right, for each axis."""
  found = re.search(r"window=\{([^}]*)\}", text)
  fields = dict(re.findall(r"(\w+)=(\S+)", found[1])) if found else {}

  def read(name, default):
    if name not in fields:
      return [default] * axes
    return [int(part.split("_")[0]) for part in fields[name].split("x")]

  names = ("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1)
  return [read(*name) for name in names]


def _meetings(left, right, out, stride, pad, left_holes, right_holes) -> int:
  """Pairs of an output and a kernel position that meet a real input."""
  extent = (left - 1) * left_holes + 1
  count = 0
  for position in range(out):
    first = position * stride - pad
    for k in range(right):
      place = first + k * right_holes
      count += 0 <= place < extent and place % left_holes == 0
  return count
