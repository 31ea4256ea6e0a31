"""The terms of the parent score, and the score itself.

    s(d) = w_pareto U_pareto + w_perf U_perf + w_div U_div + w_gp α_GP(d)

The form is that of POISE section 3.2 (https://arxiv.org/abs/2603.23951); the
paper names its terms without defining them, and the definitions, weights and
constants here are ours. All rest on posterior means. α_GP counts only while
the Gaussian process predicts better than knowing nothing (see `trust`).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import features, pareto, potential, tree, trust
from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import posterior as posteriors


@dataclasses.dataclass
class Weights:
  """Weights and constants of the choice.

  Attributes:
    pareto: weight of the rank among the problem sets, or the objective's terms.
    performance: weight of the posterior mean of U.
    diversity: weight of the distance to other candidates.
    potential: weight of the Gaussian process on descendant gain.
    branch_penalty: subtracted for each parent already chosen from the same
      branch below the root.
    noise_variance: s², variance of U from one seed to the next.
    neighbours: nearest nodes that U_div averages over.
    top_k: descendants that the gain averages over.
    discount: weight of a gain for each generation it took.
    gain_scale: gain, in points, at which the target saturates.
    exploration: standard deviations added to the predicted gain.
    temperature: difference of scores at which the odds are e to 1.
    uniform_share: part of the probability that is spread evenly.
    gp_margin: standard errors by which the Gaussian process has to beat its
      rivals to count; -1e9 lets it count whenever it can be fitted.
  """

  pareto: float = 0.25
  performance: float = 0.30
  diversity: float = 0.15
  potential: float = 0.30
  branch_penalty: float = 0.1
  noise_variance: float = 4.0
  neighbours: int = 3
  top_k: int = 3
  discount: float = 0.85
  gain_scale: float = 2.5
  exploration: float = 1.0
  temperature: float = 0.03
  uniform_share: float = 0.05
  gp_margin: float = 1.0


class Table(NamedTuple):
  """All that a choice rests on, one entry a node.

  Attributes:
    ids: of the nodes.
    branches: the branch below the root that each belongs to.
    root: index of the root.
    terms: term name -> value of each node.
  """

  ids: tuple[str, ...]
  branches: tuple[str, ...]
  root: int
  terms: dict[str, np.ndarray]


def performance(
    scores: Float[np.ndarray, "N"], *, min_range: float = 0.0
) -> Float[np.ndarray, "N"]:
  """U_perf: scores on [0, 1], the lower end at their 10th percentile.

  Args:
    scores: posterior mean of U of each node.
    min_range: smallest range that is stretched to the unit interval, so that
      pure noise is not; the best node has 1 in any case.

  Returns:
    1 for the best node, 0 at and below the percentile; all 1 if all equal.
  """
  low, high = np.percentile(scores, 10), scores.max()
  span = max(high - low, min_range)
  if span <= 0:
    return np.ones_like(scores)
  return np.clip(1 - (high - scores) / span, 0, 1)


def diversity(
    apart: Float[np.ndarray, "N N"],
    child_counts: Sequence[int],
    *,
    neighbours: int,
) -> Float[np.ndarray, "N"]:
  """U_div: mean distance to the nearest nodes, divided by 1 + #children.

  Args:
    apart: distances, each in [0, 1].
    child_counts: number of direct children of each node.
    neighbours: how many nearest nodes count; fewer if there are fewer.

  Returns:
    One number in [0, 1] a node; 0 for a node alone.
  """
  count = len(apart)
  if count == 1:
    return np.zeros(1)
  others = apart[~np.eye(count, dtype=bool)].reshape(count, count - 1)
  nearest = np.sort(others, axis=1)[:, :neighbours]
  return nearest.mean(axis=1) / (1 + np.asarray(child_counts))


def gains(
    parents: tree.Parents,
    scores: Mapping[str, float],
    variances: Mapping[str, float],
    weights: Weights,
    among: Callable[[str], bool] = lambda node: True,
) -> dict[str, potential.Gain]:
  """Id -> discounted gain of each node that has descendants.

  Args:
    parents: id -> parents; those without a score are passed through.
    scores: posterior mean of U of each scored node.
    variances: posterior variance of it.
    weights: K, γ and β.
    among: which descendants count; all by default.
  """
  below = tree.children(parents)
  found = {}
  for node, score in scores.items():
    depths = tree.descendants(below, node)
    gain = potential.descendant_gain(
        score,
        variances[node],
        [
            potential.Relative(scores[c], variances[c], depth)
            for c, depth in depths.items()
            if c in scores and among(c)
        ],
        top_k=weights.top_k,
        discount=weights.discount,
        gain_scale=weights.gain_scale,
    )
    if gain is not None:
      found[node] = gain
  return found


def tabulate(
    nodes: Sequence[nodes_lib.Node],
    weights: Weights,
    *,
    objective: objectives.Objective = objectives.DEFAULT,
    scale_of: Mapping[str, float] | None = None,
    distance: nodes_lib.Distance = nodes_lib.distance,
) -> tuple[Table, trust.Verdict]:
  """Every term of the score of every node, and the verdict on the process.

  Args:
    nodes: as in `select`.
    weights: as in `select`.
    objective: as in `select`.
    scale_of: as in `select`.
    distance: as in `select`.
  """
  parents = nodes_lib.parents(nodes)
  below = tree.children(parents)
  known = posteriors.of(nodes, weights.noise_variance, objective, scale_of)
  apart = nodes_lib.distances(nodes, distance)
  gain_of = gains(
      parents,
      dict(zip(parents, known.mean.tolist(), strict=True)),
      dict(zip(parents, known.variance.tolist(), strict=True)),
      weights,
  )
  terms, judged = _learned(nodes, known, apart, gain_of, weights)
  terms |= {
      "raw": known.raw,
      "shrunken": known.mean,
      "violation": known.violation,
      "pareto": pareto.strength(known.columns, known.violation),
      "performance": performance(
          known.mean, min_range=weights.noise_variance**0.5
      ),
      "diversity": diversity(
          apart,
          [len(below[node]) for node in parents],
          neighbours=weights.neighbours,
      ),
  }
  terms["score"] = score(terms, weights)
  branches = tuple(tree.branch(parents, node) for node in parents)
  return Table(tuple(parents), branches, posteriors.root(nodes), terms), judged


def _learned(
    nodes: Sequence[nodes_lib.Node],
    known: posteriors.Posterior,
    apart: np.ndarray,
    gain_of: Mapping[str, potential.Gain],
    weights: Weights,
) -> tuple[dict[str, np.ndarray], trust.Verdict]:
  """What the Gaussian process adds to the table, and whether it may count."""
  parents = nodes_lib.parents(nodes)
  row_of = {node: row for row, node in enumerate(parents)}
  family = tree.relatives(parents, tree.children(parents))
  inputs = features.matrix(nodes, known.mean, known.columns, apart)
  labelled, told = [row_of[n] for n in gain_of], [*gain_of.values()]
  judged = trust.judge(
      inputs,
      labelled,
      told,
      [{row_of[n] for n in family[node]} for node in parents],
      margin=weights.gp_margin,
  )
  seen = potential.predict(inputs, labelled, told)
  bound = seen.mean + weights.exploration * seen.sd
  span = float(np.ptp(bound))
  label, noise = np.full((2, len(nodes)), np.nan)
  for row, gain in zip(labelled, told, strict=True):
    label[row], noise[row] = gain
  terms = {
      "gp_mean": seen.mean,
      "gp_sd": seen.sd,
      "potential": (bound - bound.min()) / (span or 1.0),
      "potential_counts": np.full(len(nodes), float(judged.trusted)),
      "descendant_gain": label,
      "gain_noise": noise,
  }
  return terms, judged


def score(
    terms: Mapping[str, np.ndarray], weights: Weights
) -> Float[np.ndarray, "N"]:
  """s(d) from its terms; that of the process only where it counts."""
  return (
      weights.pareto * terms["pareto"]
      + weights.performance * terms["performance"]
      + weights.diversity * terms["diversity"]
      + weights.potential * terms["potential_counts"] * terms["potential"]
  )
