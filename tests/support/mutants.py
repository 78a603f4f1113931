"""A module's mutants: its source with one expression changed, one at a time."""

import ast
import copy
from typing import NamedTuple

OTHER = {  # what stands for an operator
  ast.Lt: (ast.LtE, ast.GtE),
  ast.LtE: (ast.Lt, ast.Gt),
  ast.Gt: (ast.GtE, ast.LtE),
  ast.GtE: (ast.Gt, ast.Lt),
  ast.Eq: (ast.NotEq,),
  ast.NotEq: (ast.Eq,),
  ast.Is: (ast.IsNot,),
  ast.IsNot: (ast.Is,),
  ast.In: (ast.NotIn,),
  ast.NotIn: (ast.In,),
  ast.Add: (ast.Sub,),
  ast.Sub: (ast.Add,),
  ast.Mult: (ast.Div,),
  ast.Div: (ast.Mult,),
  ast.FloorDiv: (ast.Div,),
  ast.Mod: (ast.FloorDiv,),
  ast.Pow: (ast.Mult,),
  ast.BitAnd: (ast.BitOr,),
  ast.BitOr: (ast.BitAnd,),
  ast.And: (ast.Or,),
  ast.Or: (ast.And,),
}
TWINS = (
  *(("int", "round"), ("floor", "ceil"), ("min", "max"), ("any", "all")),
  *(("minimum", "maximum"), ("argmin", "argmax"), ("zeros", "ones")),
)
NAMES = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}
TOLD = ("print", "say", "warn")  # what they are given is for people


class Mutant(NamedTuple):
  """A module's source with one expression changed."""

  line: int
  change: str
  source: str


def mutants(source: str) -> list[Mutant]:
  """All mutants of a module, in the order of its lines.

  Strings, messages, annotations and imports stay as they are.
  """
  found, seen = [], {ast.dump(ast.parse(source))}
  for node in _changeable(ast.parse(source)):
    for other in _others(node):
      before = ast.get_source_segment(source, node)
      after = ast.unparse(other)
      changed = _spliced(source, node, f"({after})")
      dumped = ast.dump(ast.parse(changed))
      if dumped not in seen:
        seen.add(dumped)
        change = " ".join(f"{before} -> {after}".split())
        found.append(Mutant(node.lineno, change, changed))
  return sorted(found, key=lambda mutant: mutant.line)


def _changeable(node):
  """The expressions below a node that may be changed."""
  for name, value in ast.iter_fields(node):
    if name in ("annotation", "returns", "decorator_list"):
      continue
    for child in value if isinstance(value, list) else [value]:
      if not isinstance(child, ast.AST) or isinstance(
        child, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom
      ):
        continue
      if isinstance(child, ast.Call) and _name(child.func) in TOLD:
        continue
      if isinstance(child, ast.expr):
        yield child
      yield from _changeable(child)


def _name(function) -> str:
  if isinstance(function, ast.Attribute):
    return function.attr
  return getattr(function, "id", "")


def _others(node):
  """What may stand in an expression's place."""

  def changed(**fields):
    other = copy.copy(node)
    for name, value in fields.items():
      setattr(other, name, value)
    return other

  match node:
    case ast.Compare(ops=[op]):
      yield from (changed(ops=[other()]) for other in OTHER[type(op)])
    case ast.BinOp(left=left, op=op):
      yield from (changed(op=other()) for other in OTHER.get(type(op), ()))
      yield left
    case ast.BoolOp(op=op, values=[first, *_]):
      yield from (changed(op=other()) for other in OTHER[type(op)])
      yield first
    case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
      yield operand
    case ast.IfExp(body=body, orelse=orelse):
      yield body
      yield orelse
    case ast.Constant(value=bool(value)):
      yield ast.Constant(not value)
    case ast.Constant(value=int(value) | float(value)):
      yield ast.Constant(value + 1)
      yield ast.Constant(value - 1)
    case ast.Call(func=function, args=args, keywords=keywords):
      if other := NAMES.get(_name(function)):
        renamed = copy.copy(function)
        setattr(renamed, "id" if hasattr(renamed, "id") else "attr", other)
        yield changed(func=renamed)
      if len(args) > 1:
        yield changed(args=args[:-1])
      for place in range(len(keywords)):
        yield changed(keywords=keywords[:place] + keywords[place + 1 :])


def _spliced(source: str, node, text: str) -> str:
  """The source with a node's text replaced; columns count UTF-8 bytes."""
  lines = source.encode().splitlines(keepends=True)
  first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
  middle = (
    first[: node.col_offset] + text.encode() + last[node.end_col_offset :]
  )
  whole = lines[: node.lineno - 1] + [middle] + lines[node.end_lineno :]
  return b"".join(whole).decode()
