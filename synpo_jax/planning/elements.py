"""Operations on single elements in compiled programs: work of vector units."""

from synpo_jax.planning.hlo import Op

# Arithmetic, one operation an element; what only moves or names is left out.
ARITHMETIC = {
  "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "convert",
  "cosine", "count-leading-zeros", "divide", "erf", "exponential",
  "exponential-minus-one", "floor", "is-finite", "log", "log-plus-one",
  "logistic", "maximum", "minimum", "multiply", "negate", "not", "or",
  "popcnt", "power", "reduce-precision", "remainder", "rng",
  "round-nearest-afz", "round-nearest-even", "rsqrt", "select", "shift-left",
  "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "sqrt",
  "subtract", "tan", "tanh", "xor",
}  # fmt: skip


def operations(ops: dict[str, Op], op: Op) -> float:
  """How many an instruction does; of numbers that are no array, none."""
  if op.opcode in ARITHMETIC:
    return float(op.arrays[0].size) if op.arrays[0].shape else 0.0
  if op.opcode in ("reduce", "reduce-window"):
    return float(ops[op.operands[0]].arrays[0].size)
  if op.opcode == "rng-bit-generator":
    return float(op.arrays[-1].size)
  return 0.0


def random(ops: dict[str, Op], op: Op) -> float:
  """Those of them that make random numbers: all on unsigned words.

  JAX's generators are the only part of a step that computes with uint32.
  """
  is_random = "u32" in [array.dtype for array in op.arrays]
  return operations(ops, op) if is_random else 0.0
