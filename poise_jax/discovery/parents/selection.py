"""Choosing the parents of the next round, by lot with odds that are logged.

The terms are in `acquisition`. Every node keeps some chance of being drawn, so
that what another rule would have done can be estimated from the same tree (see
`replay`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import acquisition, draws, policies
from poise_jax.discovery.parents import nodes as nodes_lib

# What a caller makes.
Node = nodes_lib.Node
Weights = acquisition.Weights

# Prefix of the terms that hold the odds of each draw, from 1.
DRAWN = "propensity_"


class Selection(NamedTuple):
  """Parents, and what they were chosen by.

  Attributes:
    parents: ids, in the order in which they were drawn.
    terms: id -> term name -> value, for every node considered; what the table
      holds, and as `propensity_1`, `propensity_2` ... the probability of being
      the first draw, the second given the first, and so on.
    log: rule, weights, objective and the verdict on the Gaussian process,
      JSON-like.
  """

  parents: tuple[str, ...]
  terms: dict[str, dict[str, float]]
  log: dict[str, Any]

  @property
  def propensities(self) -> tuple[dict[str, float], ...]:
    """For each draw, id -> probability of it, given the draws before."""
    return tuple(
        {node: own[f"{DRAWN}{i + 1}"] for node, own in self.terms.items()}
        for i in range(len(self.parents))
    )


def select(
    nodes: Sequence[Node],
    *,
    count: int,
    weights: Weights,
    rng: np.random.Generator | None = None,
    objective: objectives.Objective = objectives.DEFAULT,
    scale_of: Mapping[str, float] | None = None,
    policy: policies.Policy = policies.epistemic,
    distance: nodes_lib.Distance = nodes_lib.distance,
) -> Selection:
  """Chooses the parents of a round.

  Equal inputs, the state of `rng` among them, give equal choices. Canaries and
  diverged candidates are for the caller to leave out.

  Args:
    nodes: the scored candidates, the root among them.
    count: parents wanted.
    weights: see `Weights`.
    rng: source of the draws. None takes the most probable node each time, the
      first in a tie; such a choice cannot be replayed by its propensities.
    objective: what to improve, and what to keep.
    scale_of: see `objective.utility`; needed where a metric's noise is known.
    policy: how the table turns into odds, see `policies`.
    distance: of two nodes, in [0, 1], for U_div and the Gaussian process.

  Returns:
    Up to `count` distinct parents (fewer if there are fewer nodes; the caller
    cycles through them), every term of every node as finite floats, and what
    to log. `descendant_gain` and `gain_noise` are there for nodes with
    descendants only.

  Raises:
    ValueError: if `nodes` is empty, `count` < 1, or a metric of the objective
      is missing.
  """
  if not nodes or count < 1:
    raise ValueError(
        "`nodes` must not be empty and `count` at least 1, got"
        f" {len(nodes)} nodes and count {count}"
    )
  table, judged = acquisition.tabulate(
      nodes, weights, objective=objective, scale_of=scale_of, distance=distance
  )
  drawn = draws.draw(lambda done: policy(table, weights, done), count, rng)
  terms = dict(table.terms)
  for i, row in enumerate(drawn.probabilities):
    terms[f"{DRAWN}{i + 1}"] = row
  logged = {
      node: {
          name: float(column[row])
          for name, column in terms.items()
          if np.isfinite(column[row])
      }
      for row, node in enumerate(table.ids)
  }
  log = {
      "rule": getattr(policy, "__name__", str(policy)),
      "weights": dataclasses.asdict(weights),
      "objective": objectives.to_json(objective),
      "scales": dict(scale_of or {}),
      "gp": judged._asdict(),
      "gp_weight": weights.potential if judged.trusted else 0.0,
      "by_lot": rng is not None,
  }
  return Selection(tuple(table.ids[i] for i in drawn.chosen), logged, log)
