"""How the terms of a choice turn into the odds of each node to be drawn next.

A policy is a pure function of the table, so it can be asked what it would have
done in any round of a stored tree.
"""

from collections.abc import Callable

from jaxtyping import Float
import numpy as np

from poise_jax.discovery.parents import acquisition, draws

# Table, weights, indices chosen so far -> probability of each node to be next;
# all 0 if the rule wants no more.
Policy = Callable[
    [acquisition.Table, acquisition.Weights, tuple[int, ...]], np.ndarray
]


def epistemic(
    table: acquisition.Table,
    weights: acquisition.Weights,
    chosen: tuple[int, ...],
) -> Float[np.ndarray, "N"]:
  """The rule of the paper, by lot: odds by s(d), less for a branch in use."""
  if len(chosen) == len(table.ids):
    return np.zeros(len(table.ids))
  preferences = acquisition.score(table.terms, weights)
  used = [table.branches[i] for i in chosen]
  crowding = np.asarray([used.count(branch) for branch in table.branches])
  return draws.odds(
      preferences - weights.branch_penalty * crowding,
      chosen,
      temperature=weights.temperature,
      uniform_share=weights.uniform_share,
  )


def greedy(
    table: acquisition.Table,
    weights: acquisition.Weights,
    chosen: tuple[int, ...],
) -> Float[np.ndarray, "N"]:
  """The best posterior means, wherever they are, but for the uniform share."""
  if len(chosen) == len(table.ids):
    return np.zeros(len(table.ids))
  return draws.odds(
      table.terms["shrunken"],
      chosen,
      temperature=0.0,
      uniform_share=weights.uniform_share,
  )


def uniform(
    table: acquisition.Table,
    weights: acquisition.Weights,
    chosen: tuple[int, ...],
) -> Float[np.ndarray, "N"]:
  """Every node alike; `weights` do not matter."""
  left = np.ones(len(table.ids))
  left[list(chosen)] = 0.0
  return left / max(left.sum(), 1.0)


def best_of_n(
    table: acquisition.Table,
    weights: acquisition.Weights,
    chosen: tuple[int, ...],
) -> Float[np.ndarray, "N"]:
  """Always the root and only the root: N independent tries, no evolution."""
  odds = np.zeros(len(table.ids))
  odds[table.root] = float(table.root not in chosen)
  return odds


POLICIES = {
    "epistemic": epistemic,
    "greedy": greedy,
    "uniform": uniform,
    "best_of_n": best_of_n,
}
