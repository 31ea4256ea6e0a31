"""Changes of a candidate's text that leave the rest of it as it was written.

Comments and layout stay, except in the statements that change. All take a
source that passed the syntax gate.
"""

import ast
from collections.abc import Collection, Iterator, Mapping

_TABLES = ("HPARAMS", "NEUTRAL")


def constants(source: str, table: str) -> dict[str, float]:
  """The entries of HPARAMS or NEUTRAL that are written out as numbers."""
  node = _table(ast.parse(source), table)
  found = {}
  for key, value in () if node is None else _items(node.value):
    try:
      found[key] = float(ast.literal_eval(value))
    except (ValueError, TypeError):
      continue
  return found


def with_constants(source: str, changes: Mapping[str, float]) -> str:
  """Writes other values into HPARAMS.

  Raises:
    ValueError: if HPARAMS does not define one of them as a number.
  """
  known = constants(source, "HPARAMS")
  if unknown := sorted(set(changes) - set(known)):
    raise ValueError(
        f"`changes` must name numbers of HPARAMS, {sorted(known)}, got"
        f" {unknown}"
    )
  if not changes:
    return source
  statement = _table(ast.parse(source), "HPARAMS")
  for i, (key, _) in enumerate(_items(statement.value)):
    if key in changes:
      statement.value.values[i] = ast.Constant(float(changes[key]))
  return replaced(source, {statement: _dict(statement)})


def replaced(source: str, changes: Mapping[ast.stmt, str | None]) -> str:
  """Writes other text in the place of statements.

  A block of which nothing is left becomes `pass`.

  Args:
    source: the text.
    changes: statements of its tree to new text, without indentation; None cuts
      them out, with the comments right above. None is inside of another one,
      and none shares a line with other statements, see `normalised`.
  """
  lines = source.splitlines(keepends=True)
  out: dict[int, str] = {}
  for node, text in changes.items():
    first, last = node.lineno - 1, node.end_lineno
    indent = " " * node.col_offset
    if text is None:
      while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    out |= dict.fromkeys(range(first, last), "")
    if text is not None:
      rows = [indent + row + "\n" for row in text.rstrip("\n").split("\n")]
      out[first] = "".join(rows)
  gone = {node.lineno for node, text in changes.items() if text is None}
  for block in _blocks(ast.parse(source)):
    if {statement.lineno for statement in block} <= gone:
      start = block[0].lineno - 1
      out[start] = " " * block[0].col_offset + "pass\n"
  return "".join(out.get(i, line) for i, line in enumerate(lines))


def normalised(source: str) -> str:
  """The same text if each statement has its own lines, else written anew."""
  lines = source.splitlines()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.stmt):
      before = lines[node.lineno - 1].encode()[: node.col_offset]
      after = lines[node.end_lineno - 1].encode()[node.end_col_offset :]
      rest = after.decode().strip()
      if before.strip() or (rest and not rest.startswith("#")):
        return ast.unparse(ast.parse(source)) + "\n"
  return source


def swept(source: str) -> str:
  """Leaves out what nothing reads: assignments, functions and constants.

  What it computes does not change; whoever relies on that compares the two.
  """
  source = normalised(source)
  while True:
    tree = ast.parse(source)
    if dead := dict.fromkeys(_dead(tree)):
      source = replaced(source, dead)
    elif unread := _unread(tree):
      source = replaced(source, _without_entries(tree, unread))
    else:
      return source


def bound_names(statement: ast.stmt) -> set[str]:
  """Names that an assignment binds; empty if it also writes into something."""
  if isinstance(statement, ast.Assign):
    targets = statement.targets
  elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
    targets = [statement.target]
  else:
    return set()
  leaves = [
      leaf
      for target in targets
      for leaf in (
          target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
      )
  ]
  if all(isinstance(leaf, ast.Name) for leaf in leaves):
    return {leaf.id for leaf in leaves}
  return set()


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
  """The lists of statements inside of others."""
  for node in ast.walk(tree):
    for field in ("body", "orelse"):
      block = getattr(node, field, None)
      if isinstance(block, list) and block and node is not tree:
        yield block


def _dead(tree: ast.Module) -> Iterator[ast.stmt]:
  """Statements that only bind names which nothing reads; the outermost."""
  read = {
      node.id
      for node in ast.walk(tree)
      if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
  } | {*_TABLES, "DECLARES", "init", "loss"}
  pending: list[ast.AST] = [tree]
  while pending:
    node = pending.pop(0)
    bound = bound_names(node) if isinstance(node, ast.stmt) else set()
    if isinstance(node, ast.FunctionDef):
      bound = {node.name}
    if bound and not bound & read:
      yield node
    else:
      pending += ast.iter_child_nodes(node)


def _unread(tree: ast.Module) -> set[str]:
  """Constants that no function asks for; none if one may ask for all."""
  functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
  nodes = [node for f in functions for node in ast.walk(f)]
  asked = [
      node.slice.value
      for node in nodes
      if isinstance(node, ast.Subscript)
      and isinstance(node.value, ast.Name)
      and node.value.id == "hparams"
      and isinstance(node.slice, ast.Constant)
  ]
  uses = sum(isinstance(n, ast.Name) and n.id == "hparams" for n in nodes)
  table = _table(tree, "HPARAMS")
  if uses > len(asked) or table is None:
    return set()
  return {key for key, _ in _items(table.value)} - set(asked)


def _without_entries(
    tree: ast.Module, names: Collection[str]
) -> dict[ast.stmt, str | None]:
  """HPARAMS and NEUTRAL without some constants."""
  changes: dict[ast.stmt, str | None] = {}
  for name in _TABLES:
    statement = _table(tree, name)
    if statement is None:
      continue
    kept = [(k, v) for k, v in _items(statement.value) if k not in names]
    statement.value.keys = [ast.Constant(key) for key, _ in kept]
    statement.value.values = [value for _, value in kept]
    empty = not kept and name == "NEUTRAL"
    changes[statement] = None if empty else _dict(statement)
  return changes


def _table(tree: ast.Module, name: str) -> ast.Assign | ast.AnnAssign | None:
  """The statement that binds a name to a dict of named entries."""
  found = None
  for node in tree.body:
    if bound_names(node) == {name}:
      found = node
  if found is None or not isinstance(found.value, ast.Dict):
    return None
  plain = len(list(_items(found.value))) == len(found.value.keys)
  return found if plain else None


def _items(table: ast.Dict) -> Iterator[tuple[str, ast.expr]]:
  """Entries with a text for a key."""
  for key, value in zip(table.keys, table.values, strict=True):
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
      yield key.value, value


def _dict(statement: ast.Assign | ast.AnnAssign) -> str:
  """An assignment of a dict, an entry a line."""
  (name,) = bound_names(statement)
  rows = [
      f'    "{key}": {ast.unparse(value)},\n'
      for key, value in _items(statement.value)
  ]
  return "".join([f"{name} = {{\n", *rows, "}"]) if rows else f"{name} = {{}}"
