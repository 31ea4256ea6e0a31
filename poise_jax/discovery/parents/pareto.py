"""Who is beaten by nobody: non-dominated sorting with constraints.

A node dominates another if it violates the constraints less, or equally little
and is nowhere worse and somewhere better. All columns are to be maximised;
`objective.columns` turns those round that are not.
"""

from jaxtyping import Bool, Float, Int
import numpy as np


def dominates(
    scores: Float[np.ndarray, "N M"],
    violations: Float[np.ndarray, "N"] | None = None,
) -> Bool[np.ndarray, "N N"]:
  """Whether the node of the row dominates that of the column.

  Args:
    scores: one row a node, one column a quantity to maximise.
    violations: how much each node violates the constraints, at least 0; none
      does if None.
  """
  as_good = (scores[:, None] >= scores[None]).all(axis=2)
  better = (scores[:, None] > scores[None]).any(axis=2)
  dominated = as_good & better
  if violations is None:
    return dominated
  less = violations[:, None] < violations[None]
  return less | (dominated & (violations[:, None] == violations[None]))


def fronts(dominated: Bool[np.ndarray, "N N"]) -> Int[np.ndarray, "N"]:
  """The front that each node lies on, from 1, by non-dominated sorting."""
  front = np.zeros(len(dominated), int)
  left, rank = np.ones(len(dominated), bool), 0
  while left.any():
    rank += 1
    beaten = dominated[left].any(axis=0)
    front[left & ~beaten] = rank
    left &= beaten
  return front


def strength(
    scores: Float[np.ndarray, "N M"],
    violations: Float[np.ndarray, "N"] | None = None,
) -> Float[np.ndarray, "N"]:
  """U_pareto: the front a node lies on, ordered within by what it dominates.

    U = 1/(k + 1) + share (1/k - 1/(k + 1))

  with k >= 1 the front and share that of the other nodes which it dominates. A
  node on front k thus always lies between 1/(k + 1) and 1/k.

  Args:
    scores: as in `dominates`.
    violations: as in `dominates`.

  Returns:
    One number in (0, 1] a node.
  """
  dominated = dominates(scores, violations)
  front = fronts(dominated)
  share = dominated.sum(axis=1) / max(len(scores) - 1, 1)
  return 1 / (front + 1) + share * (1 / front - 1 / (front + 1))
