"""Who descends from whom: pure functions on ids and the parents of each.

A node's place (line, branch, depth) follows its first parent; descent counts
through any. A parent that is not listed, such as one that diverged, is not
part of the tree: what was made from it starts a branch of its own.
"""

from collections.abc import Mapping, Sequence

Parents = Mapping[str, Sequence[str]]


def children(parents: Parents) -> dict[str, tuple[str, ...]]:
  """Id -> ids of its direct children, in the order in which they are listed."""
  below: dict[str, tuple[str, ...]] = {node: () for node in parents}
  for node, above in parents.items():
    for parent in dict.fromkeys(above):
      if parent in below:
        below[parent] = (*below[parent], node)
  return below


def descendants(
    below: Mapping[str, Sequence[str]], node: str
) -> dict[str, int]:
  """Every node below `node`, the nearest first, with its depth below it.

  Args:
    below: id -> ids of direct children; a node without any may be absent.
    node: where to start; not itself among the result.

  Returns:
    id -> number of edges on the shortest way down, at least 1.
  """
  depths = {node: 0}
  queue = [node]
  for current in queue:
    for child in below.get(current, ()):
      if child not in depths:
        depths[child] = depths[current] + 1
        queue.append(child)
  del depths[node]
  return depths


def ancestors(parents: Parents, node: str) -> frozenset[str]:
  """Every listed node that `node` descends from, through any parent."""
  found: set[str] = set()
  queue = [node]
  for current in queue:
    new = [p for p in parents[current] if p in parents and p not in found]
    found.update(new)
    queue.extend(new)
  return frozenset(found - {node})


def relatives(
    parents: Parents, below: Mapping[str, Sequence[str]]
) -> dict[str, frozenset[str]]:
  """Id -> its ancestors and descendants: the nodes of its own line."""
  return {
      node: ancestors(parents, node) | set(descendants(below, node))
      for node in parents
  }


def line(parents: Parents, node: str) -> tuple[str, ...]:
  """The listed nodes from the top down to `node`, along first parents."""
  path = [node]
  while (above := tuple(parents[path[-1]])[:1]) and above[0] in parents:
    path.append(above[0])
  return tuple(reversed(path))


def depth(parents: Parents, node: str) -> int:
  """Generations between a node and the top of its line."""
  return len(line(parents, node)) - 1


def branch(parents: Parents, node: str) -> str:
  """The child of the root that a node descends from.

  The root is a branch of its own, and so is a node whose parent is not listed.
  """
  path = line(parents, node)
  return path[0] if len(path) == 1 or parents[path[0]] else path[1]


def root(parents: Parents) -> str:
  """The first node without parents; failing that, the first of all.

  Raises:
    ValueError: if there is no node.
  """
  if not parents:
    raise ValueError("`parents` must list at least the root, got no node")
  return next((n for n, above in parents.items() if not above), [*parents][0])
