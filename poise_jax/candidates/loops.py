"""How often the loops of a source run, as far as its text tells."""

import ast
from collections.abc import Iterator

MAX_STEPS = 64
MAX_NESTED_STEPS = 1024

FAULT = (
    "loop",
    "a loop of unknown or large length",
    f"loop over a literal tuple or a range of at most {MAX_STEPS} (nested:"
    f" {MAX_NESTED_STEPS} in all), or use array operations or jax.lax.scan",
)


def unbounded(tree: ast.Module) -> Iterator[ast.AST]:
  """Lists the loops that are too long, or of a length the text hides.

  Bounded are: literal tuples and lists, module constants that are such,
  `range` of integer literals, `enumerate`, `reversed`, `sorted` and `zip` of
  bounded things, and `items`, `keys` and `values` of a dict.
  """
  return _visit(tree, 1, _literal_constants(tree))


def _visit(
    node: ast.AST, steps: int, constants: dict[str, int]
) -> Iterator[ast.AST]:
  """Multiplies the steps of nested loops on the way down."""
  iterables = []
  if isinstance(node, ast.For):
    iterables = [node.iter]
  elif hasattr(node, "generators"):
    iterables = [generator.iter for generator in node.generators]
  for iterable in iterables:
    count = _steps(iterable, constants)
    if count is None or count > MAX_STEPS:
      yield iterable
      return
    steps *= max(count, 1)
  if steps > MAX_NESTED_STEPS:
    yield node
    return
  for child in ast.iter_child_nodes(node):
    yield from _visit(child, steps, constants)


def _steps(node: ast.expr, constants: dict[str, int]) -> int | None:
  """Counts the elements of an iterable, if the text tells."""
  if isinstance(node, (ast.Tuple, ast.List)):
    starred = any(isinstance(e, ast.Starred) for e in node.elts)
    return None if starred else len(node.elts)
  if isinstance(node, ast.Name):
    return constants.get(node.id)
  if not isinstance(node, ast.Call):
    return None
  function, arguments = node.func, node.args
  if isinstance(function, ast.Attribute):
    # A dict: as long as the source that filled it.
    return 1 if function.attr in ("items", "keys", "values") else None
  if not isinstance(function, ast.Name):
    return None
  if function.id == "range":
    return _length([_integer(a) for a in arguments])
  if function.id in ("enumerate", "reversed", "sorted", "zip") and arguments:
    counts = [_steps(a, constants) for a in arguments]
    return None if None in counts else max(counts)
  return None


def _length(bounds: list[int | None]) -> int | None:
  """How many numbers `range(*bounds)` has; None if it is no such range.

    ⌈(stop - start) / stride⌉, at least 0

  Not by `len`, which raises where the text writes numbers beyond a word.
  """
  if not 1 <= len(bounds) <= 3 or None in bounds or 0 in bounds[2:]:
    return None
  bounds = [0, *bounds] if len(bounds) == 1 else bounds
  start, stop, stride = (*bounds, 1)[:3]
  return max(-((start - stop) // stride), 0)


def _literal_constants(tree: ast.Module) -> dict[str, int]:
  """Maps module constants that are literal tuples to their lengths."""
  return {
      target.id: len(statement.value.elts)
      for statement in tree.body
      if isinstance(statement, ast.Assign)
      and isinstance(statement.value, (ast.Tuple, ast.List))
      for target in statement.targets
      if isinstance(target, ast.Name)
  }


def _integer(node: ast.expr) -> int | None:
  """Reads an integer literal, negative ones too."""
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    value = _integer(node.operand)
    return None if value is None else -value
  is_integer = isinstance(node, ast.Constant) and type(node.value) is int
  return node.value if is_integer else None
