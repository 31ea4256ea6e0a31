"""The first gate: an allow-list over the parsed text of a source.

It keeps out what has no business in a loss, with a hint for the author. It is
not what the trainer's safety rests on: the jail holds without it.
"""

import ast
from collections.abc import Callable, Iterator
import difflib
import functools
import math
import warnings

from poise_jax.candidates import findings, limits, loops, scope

MAX_NODES = 20_000
MAX_DEPTH = 100
MAX_INTEGER = 2**31 - 1
MAX_POWER = 64
MAX_FINDINGS = 8

_SCOPE_HINT = (
    "without imports there are: jnp, jax.nn, jax.lax, the atoms"
    f" {', '.join(scope.ATOM_MODULES)}, and the builtins"
    f" {', '.join(sorted(scope.BUILTINS))}"
)

_STATEMENTS = (
    ast.FunctionDef,
    ast.Return,
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Delete,
    ast.For,
    ast.If,
    ast.Expr,
    ast.Pass,
    ast.Assert,
)
_EXPRESSIONS = (
    ast.BoolOp,
    ast.NamedExpr,
    ast.BinOp,
    ast.UnaryOp,
    ast.Lambda,
    ast.IfExp,
    ast.Dict,
    ast.ListComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.Compare,
    ast.Call,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.Constant,
    ast.Attribute,
    ast.Subscript,
    ast.Starred,
    ast.Name,
    ast.List,
    ast.Tuple,
    ast.Slice,
)
_PARTS = (
    ast.Module,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.expr_context,
    ast.comprehension,
    ast.arguments,
    ast.arg,
    ast.keyword,
    # Inside of statements that are refused as a whole.
    ast.alias,
    ast.withitem,
    ast.ExceptHandler,
)
_TOP_LEVEL = (ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.Expr, ast.Pass)

_Fault = tuple[str, str, str | Callable[[], str]]


def check(source: str) -> tuple[findings.Finding, ...]:
  """Lists what the syntax of `source` breaks, in the order of its lines.

  Returns:
    At most eight findings, all of level contract; none if the text may go on
    to the jail. Never raises.
  """
  try:
    tree = _parse(source)
  except findings.RefusedError as error:
    return (error.finding,)
  faults = [
      (getattr(node, "lineno", 0), getattr(node, "col_offset", 0), fault)
      for node, fault in _faults(tree)
  ]
  found: dict[findings.Finding, None] = {}
  for line, _, (rule, message, hint) in sorted(
      faults, key=lambda fault: (*fault[:2], *fault[2][:2])
  ):
    where = f"line {line}: " if line else ""
    # Only now, as it takes time: a text may have thousands of faults.
    advice = hint if isinstance(hint, str) else hint()
    found[findings.contract(rule, where + message, advice)] = None
    if len(found) == MAX_FINDINGS:
      break
  return tuple(found)


def _parse(source: str) -> ast.Module:
  """Parses a text of bounded size into a tree of bounded size."""
  with findings.refusing(
      "encoding", "not text", "write the source as plain UTF-8"
  ):
    size = len(source.encode("utf-8"))
  if size > limits.SOURCE_BYTES:
    raise findings.RefusedError(
        "source-size",
        f"the source has {size} bytes, the limit is {limits.SOURCE_BYTES}",
        "keep the constants, init and loss; drop the rest",
    )
  too_deep = findings.RefusedError(
      "nesting",
      f"expressions are nested deeper than {MAX_DEPTH}",
      "name the intermediate results",
  )
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      tree = ast.parse(source)
  except (RecursionError, MemoryError) as error:
    raise too_deep from error
  except (SyntaxError, ValueError) as error:
    line = getattr(error, "lineno", None)
    where = f"line {line}: " if line else ""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    raise findings.RefusedError(
        "parse", where + message, "write valid Python 3.11"
    ) from error
  level: list[ast.AST] = [tree]
  nodes = depth = 0
  while level:
    nodes, depth = nodes + len(level), depth + 1
    if depth > MAX_DEPTH:
      raise too_deep
    level = [child for node in level for child in ast.iter_child_nodes(node)]
  if nodes > MAX_NODES:
    raise findings.RefusedError(
        "source-size",
        f"the source has {nodes} syntax nodes, the limit is {MAX_NODES}",
        "use array operations instead of written-out repetition",
    )
  return tree


def _faults(tree: ast.Module) -> Iterator[tuple[ast.AST, _Fault]]:
  """Applies every rule to every node."""
  bound = _bound_names(tree)
  for node in tree.body:
    if not isinstance(node, _TOP_LEVEL):
      yield node, (
          "top-level",
          f"{_words(node)} outside a function",
          "at the top level only constants and functions may stand",
      )
  for node in ast.walk(tree):
    if not isinstance(node, _STATEMENTS + _EXPRESSIONS + _PARTS):
      yield node, (
          "construct",
          f"{_words(node)} is not allowed",
          "write plain functions of arrays: assignments, if on constants,"
          " bounded for, calls. " + _SCOPE_HINT,
      )
    rules = (_attribute, _target, _literal, _arithmetic, _text)
    faults = (_name(node, bound), *(rule(node) for rule in rules))
    yield from ((node, fault) for fault in faults if fault)
  yield from ((node, loops.FAULT) for node in loops.unbounded(tree))


def _name(node: ast.AST, bound: frozenset[str]) -> _Fault | None:
  """Refuses names that nobody defined, and names with double underscores."""
  if isinstance(node, (ast.FunctionDef, ast.arg)):
    name = node.name if isinstance(node, ast.FunctionDef) else node.arg
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
      return "construct", "decorators are not allowed", "call the function"
  elif isinstance(node, ast.Name):
    name = node.id
  else:
    return None
  if name.startswith("__"):
    return "dunder", f"name `{name}`", "do not use double underscores"
  if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
    if name not in bound | scope.ROOTS | scope.BUILTINS:
      return "scope", f"name `{name}` is not defined", _SCOPE_HINT
  elif name in scope.ROOTS:
    return "scope", f"`{name}` may not be redefined", "choose another name"
  return None


def _attribute(node: ast.AST) -> _Fault | None:
  """Refuses attributes outside the lists of `scope`."""
  if not isinstance(node, ast.Attribute):
    return None
  if node.attr.startswith("_"):
    message = f"attribute `{node.attr}`"
    return "dunder", message, "do not use names that start with underscores"
  owner = _dotted(node.value)
  if owner in scope.NAMESPACES:
    name, allowed = f"{owner}.{node.attr}", _names()
  else:
    name, allowed = node.attr, scope.METHODS | scope.BATCH_FIELDS
  if name in allowed:
    return None
  suggest = functools.partial(_suggest, name, allowed)
  return "scope", f"`{name}` is not available", suggest


def _suggest(name: str, allowed: frozenset[str]) -> str:
  """Says what may have been meant."""
  close = difflib.get_close_matches(name[:80], sorted(allowed), n=3)
  hint = f"did you mean {' or '.join(close)}? " if close else ""
  return hint + _SCOPE_HINT


def _target(node: ast.AST) -> _Fault | None:
  """Refuses assignment to attributes."""
  if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
    return (
        "construct",
        f"attribute `{node.attr}` may not be assigned",
        "return new values instead of changing old ones",
    )
  return None


def _literal(node: ast.AST) -> _Fault | None:
  """Refuses literals other than text and numbers of ordinary size."""
  if not isinstance(node, ast.Constant):
    return None
  value = node.value
  if isinstance(value, (bytes, complex)):
    kind = type(value).__name__
    return "literal", f"a {kind} literal is not allowed", "use real numbers"
  if isinstance(value, int) and abs(value) > MAX_INTEGER:
    return "literal", "an integer beyond 32 bits", "use a float literal"
  if isinstance(value, float) and not math.isfinite(value):
    return "literal", "a float literal that overflows", "use jnp.inf"
  return None


def _arithmetic(node: ast.AST) -> _Fault | None:
  """Refuses Python arithmetic that can make huge values from small text."""
  if not isinstance(node, ast.BinOp):
    return None
  sides = (node.left, node.right)
  if isinstance(node.op, (ast.LShift, ast.RShift)):
    return "arithmetic", "bit shifts are not allowed", "multiply or divide"
  if isinstance(node.op, ast.Pow):
    exponent = node.right
    constant = isinstance(exponent, ast.Constant)
    large = constant and not _below(exponent.value, MAX_POWER)
    if large or (isinstance(exponent, ast.BinOp) and _is_constant(exponent)):
      message = f"an exponent that is not a number up to {MAX_POWER}"
      return "arithmetic", message, "write the value out, or use jnp.power"
  if isinstance(node.op, (ast.Mult, ast.Mod)):
    containers = (ast.List, ast.Tuple, ast.JoinedStr)
    if any(isinstance(s, containers) or _is_text(s) for s in sides):
      message = "repeating or formatting text and tuples with operators"
      return "arithmetic", message, "use jnp.full or an f-string"
  return None


def _text(node: ast.AST) -> _Fault | None:
  """Refuses format specifications."""
  if isinstance(node, ast.FormattedValue):
    if node.format_spec is not None or node.conversion != -1:
      message = "format specifications are not allowed"
      return "construct", message, "write {name} without : and !"
  return None


def _bound_names(tree: ast.Module) -> frozenset[str]:
  """Collects every name that the source itself defines."""
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      names.add(node.id)
    elif isinstance(node, ast.FunctionDef):
      names.add(node.name)
    elif isinstance(node, ast.arg):
      names.add(node.arg)
  return frozenset(names)


def _dotted(node: ast.expr) -> str | None:
  """Spells `a.b.c`, or None if the chain does not start at a name."""
  if isinstance(node, ast.Name):
    return node.id
  if isinstance(node, ast.Attribute):
    start = _dotted(node.value)
    return start and f"{start}.{node.attr}"
  return None


@functools.cache
def _names() -> frozenset[str]:
  """Remembers the allowed dotted names."""
  return scope.dotted_names()


def _is_constant(node: ast.expr) -> bool:
  """Tells whether an expression is arithmetic on literals alone."""
  parts = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)
  return all(isinstance(n, parts) for n in ast.walk(node))


def _is_text(node: ast.expr) -> bool:
  return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _below(value: object, bound: int) -> bool:
  return isinstance(value, (int, float)) and abs(value) <= bound


def _words(node: ast.AST) -> str:
  """Names a construct for people."""
  names = {
      "Import": "an import",
      "ImportFrom": "an import",
      "ClassDef": "a class",
      "While": "a while loop",
      "With": "a with block",
      "Try": "a try block",
      "Raise": "a raise statement",
      "Global": "a global statement",
      "Nonlocal": "a nonlocal statement",
      "Set": "a set, whose order varies,",
      "SetComp": "a set, whose order varies,",
  }
  kind = type(node).__name__
  return names.get(kind, f"`{kind}`")
