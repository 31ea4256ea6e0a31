"""The statements and terms of a source that it may do without.

Statements: `x += term` and the like, a name bound anew (what it was before is
left), a branch, a loop, an assertion. Terms: an operand of a sum becomes 0, of
a product or quotient 1; `jnp.clip` and its like become what they guard, and
`jnp.where` one of its two sides. Not taken apart: `init`, metrics, indices,
conditions of branches.
"""

import ast
from collections.abc import Callable, Collection, Iterator, Mapping

from poise_jax.discovery.dissection import parts, source_text

_LONGEST = 60  # characters of code in the words for a part

# Calls that limit one argument by others, which are often plain numbers.
_GUARDS = frozenset("clip maximum minimum fmax fmin nan_to_num".split())
_NEUTRAL: Mapping[type[ast.operator], float] = {
    ast.Add: 0.0,
    ast.Sub: 0.0,
    ast.Mult: 1.0,
    ast.Div: 1.0,
}

# What is left of a node; the node is of a tree that is not used again.
_Edit = Callable[[ast.expr], ast.expr]


def decompose(source: str) -> parts.Decomposition:
  """Takes a source apart.

  Args:
    source: that passed the syntax gate.

  Returns:
    Its parts, in the order of the text. Not every program without some of them
    can be traced; that is for the gate to find out.
  """
  source = source_text.normalised(source)
  edits: dict[str, tuple[int, _Edit | None]] = {}
  for place, node, verb, edit in _found(ast.parse(source)):
    code = " ".join(ast.unparse(node).split())
    short = code if len(code) <= _LONGEST else code[: _LONGEST - 3] + "..."
    where = f"{node.lineno}:{node.col_offset}-{node.end_col_offset}"
    edits[f"{where} {verb} `{short}`"] = (place, edit)

  def without(names: Collection[str]) -> str:
    tree = ast.parse(source)
    order = list(ast.walk(tree))
    # Of two edits of one node, the first in the order of the text.
    chosen = {
        id(order[place]): edit
        for name, (place, edit) in reversed(edits.items())
        if name in names
    }
    return source_text.replaced(source, dict(_changes(tree, chosen)))

  return parts.Decomposition(
      "statement", tuple(parts.Part(name, name) for name in edits), without
  )


def _found(
    tree: ast.Module,
) -> Iterator[tuple[int, ast.AST, str, _Edit | None]]:
  """Place in the walk, node, verb and edit (None: cut) of every part."""
  places = {id(node): i for i, node in enumerate(ast.walk(tree))}
  for function in _functions(tree):
    arguments = function.args
    bound = {
        argument.arg
        for argument in (
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
        )
    }
    metrics = _metric_names(function)
    for statement in _statements(function.body):
      names = source_text.bound_names(statement)
      again = (
          isinstance(statement, ast.AugAssign)
          or bool(names)
          and (names <= bound)
      )
      bound |= names
      if names & metrics:
        continue
      if again or isinstance(statement, (ast.If, ast.For, ast.Assert)):
        yield places[id(statement)], statement, "without", None
      for node, verb, edit in _terms_of(statement):
        yield places[id(node)], node, verb, edit


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
  """Functions of a module that act in training."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and node.name != "init":
      yield node


def _statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
  """Statements in order, and those inside of branches and loops."""
  for statement in block:
    yield statement
    if isinstance(statement, (ast.If, ast.For)):
      yield from _statements([*statement.body, *statement.orelse])


def _metric_names(function: ast.FunctionDef) -> set[str]:
  """Names that are returned as metrics."""
  results = [s.value for s in ast.walk(function) if isinstance(s, ast.Return)]
  return {
      result.elts[2].id
      for result in results
      if function.name == "loss"
      and isinstance(result, ast.Tuple)
      and len(result.elts) == 3
      and isinstance(result.elts[2], ast.Name)
  }


def _terms_of(
    statement: ast.stmt,
) -> Iterator[tuple[ast.expr, str, _Edit]]:
  """Terms and guards in the expressions of a simple statement."""
  if not isinstance(
      statement, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)
  ):
    return
  pending: list[ast.AST] = [] if statement.value is None else [statement.value]
  while pending:
    node = pending.pop()
    yield from _terms(node)
    skipped = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(statement, ast.Return) and node is statement.value:
      # Of (loss, state, metrics) the last is no part of the algorithm.
      if isinstance(node, ast.Tuple) and len(node.elts) == 3:
        skipped = node.elts[2]
    children = list(ast.iter_child_nodes(node))
    pending += [child for child in reversed(children) if child is not skipped]


def _terms(node: ast.AST) -> Iterator[tuple[ast.expr, str, _Edit]]:
  """Operands that have a neutral element, and what a guard guards."""
  if isinstance(node, ast.BinOp) and type(node.op) in _NEUTRAL:
    value = _NEUTRAL[type(node.op)]
    for side in (node.left, node.right):
      if not (isinstance(side, ast.Constant) and side.value == value):
        yield side, f"{value:g} for", lambda _, value=value: _neutral(value)
  called = node.func if isinstance(node, ast.Call) else None
  if not isinstance(called, ast.Attribute):
    return
  numbers = [isinstance(a, ast.Constant) for a in node.args]
  if called.attr in _GUARDS and False in numbers:
    index = numbers.index(False)
    yield node, "unguarded", lambda node, index=index: node.args[index]
  elif called.attr == "where" and len(numbers) == 3:
    yield node, "first side of", lambda node: node.args[1]
    yield node, "second side of", lambda node: node.args[2]


def _neutral(value: float) -> ast.Constant:
  """A neutral element, marked as one."""
  return ast.Constant(value, kind="neutral")


def _changes(
    tree: ast.Module, edits: Mapping[int, _Edit | None]
) -> Iterator[tuple[ast.stmt, str | None]]:
  """Statements that change, the outermost only, and what becomes of them."""
  editor = _Editor(edits)

  def of(block: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str | None]]:
    for statement in block:
      if id(statement) in edits:
        yield statement, None
      elif isinstance(statement, (ast.If, ast.For)):
        yield from of([*statement.body, *statement.orelse])
      elif any(id(node) in edits for node in ast.walk(statement)):
        yield statement, ast.unparse(editor.visit(statement))

  for function in _functions(tree):
    yield from of(function.body)


class _Editor(ast.NodeTransformer):
  """Applies edits from the outside in, and leaves out neutral elements."""

  def __init__(self, edits: Mapping[int, _Edit | None]):
    self._edits = edits

  def visit(self, node: ast.AST) -> ast.AST:
    """Edits one node and all below it."""
    edit = self._edits.get(id(node))
    if edit is not None:
      kept = edit(node)
      return kept if _is_neutral(kept) else self.visit(kept)
    node = self.generic_visit(node)
    return _simplified(node) if isinstance(node, ast.BinOp) else node


def _is_neutral(node: ast.AST) -> bool:
  return isinstance(node, ast.Constant) and node.kind == "neutral"


def _simplified(node: ast.BinOp) -> ast.expr:
  """A sum or product without a neutral element that was put into it."""
  value = _NEUTRAL.get(type(node.op))
  left, right = (
      _is_neutral(side) and side.value == value
      for side in (node.left, node.right)
  )
  if right:
    return node.left
  if left and isinstance(node.op, (ast.Add, ast.Mult)):
    return node.right
  if left and isinstance(node.op, ast.Sub):
    return ast.UnaryOp(ast.USub(), node.right)
  return node
