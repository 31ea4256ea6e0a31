"""Family relations: pure functions on lists of candidates.

A candidate may have several parents; its place in the tree (depth, ancestors,
branch) follows the first, most important one. Lists are in order of index, so
parents come before their children.
"""

from collections.abc import Mapping, Sequence

from poise_jax.archive import records


def parents(
    candidates: Sequence[records.Candidate],
) -> dict[str, tuple[str, ...]]:
  """Maps each id to the ids of its parents, most important first.

  Raises:
    ValueError: if a parent does not come before its child.
  """
  above: dict[str, tuple[str, ...]] = {}
  for candidate in candidates:
    missing = [parent for parent in candidate.parents if parent not in above]
    if missing:
      raise ValueError(
          "`candidates` must list parents before their children, got"
          f" {candidate.id} before {missing[0]}: pass a whole campaign by index"
      )
    above[candidate.id] = candidate.parents
  return above


def children(
    candidates: Sequence[records.Candidate],
) -> dict[str, tuple[str, ...]]:
  """Maps each id to the ids of its children, in order of index."""
  below: dict[str, tuple[str, ...]] = {}
  for child, above in parents(candidates).items():
    below[child] = ()
    for parent in above:
      below[parent] = (*below[parent], child)
  return below


def ancestors(
    candidates: Sequence[records.Candidate], candidate_id: str
) -> tuple[str, ...]:
  """Lists the path from the root to a candidate, both included."""
  above = parents(candidates)
  path = [candidate_id]
  while above[path[0]]:
    path.insert(0, above[path[0]][0])
  return tuple(path)


def descendants(
    candidates: Sequence[records.Candidate], candidate_id: str
) -> dict[str, int]:
  """Maps every descendant to its distance below a candidate, nearest first.

  Descent counts through any parent; the distance is the shortest.
  """
  below = children(candidates)
  distance = {candidate_id: 0}
  queue = [candidate_id]
  for current in queue:
    for child in below[current]:
      if child not in distance:
        distance[child] = distance[current] + 1
        queue.append(child)
  del distance[candidate_id]
  return distance


def depth(candidates: Sequence[records.Candidate]) -> dict[str, int]:
  """Maps each id to its distance from its root, along first parents."""
  distance: dict[str, int] = {}
  for child, above in parents(candidates).items():
    distance[child] = distance[above[0]] + 1 if above else 0
  return distance


def branch(candidates: Sequence[records.Candidate], candidate_id: str) -> str:
  """Names the child of the root that a candidate descends from.

  A root is its own branch.
  """
  path = ancestors(candidates, candidate_id)
  return path[min(1, len(path) - 1)]


def best_by_depth(
    candidates: Sequence[records.Candidate], scores: Mapping[str, float]
) -> dict[int, str]:
  """Maps each depth to its best-scoring candidate, the earlier one if tied.

  Candidates without a score do not compete; a depth without scores is left
  out.
  """
  best: dict[int, str] = {}
  for candidate_id, level in depth(candidates).items():
    if candidate_id not in scores:
      continue
    champion = best.get(level)
    if champion is None or scores[candidate_id] > scores[champion]:
      best[level] = candidate_id
  return dict(sorted(best.items()))
