"""How good each candidate is taken to be: posterior means, never raw scores.

With x_i the mean of n_i seeds, s² the variance of one seed, M the campaign mean
and t² the variance between candidates,

    U_i = M + λ_i (x_i - M),    λ_i = t² / (t² + s² / n_i),

so a candidate with one lucky seed is pulled towards M more than one that was
measured five times; the scores on single sets are shrunk by the same λ_i. M
and t² = max(var(x) - s² mean(1/n), s²/100) are taken after raising scores
below their 10th percentile to it: a collapsed candidate would otherwise
inflate t² and with it everybody's λ.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import tree


def shrinkage(
    scores: Float[np.ndarray, "N"], seeds: Sequence[int], noise_variance: float
) -> tuple[float, np.ndarray]:
  """Campaign mean M and factors λ of the posterior means (see the module).

  Args:
    scores: mean U of each node.
    seeds: number of seeds behind each.
    noise_variance: s².

  Returns:
    (M, λ); λ is 1 throughout if there is no noise.
  """
  clipped = np.maximum(scores, np.percentile(scores, 10))
  own = noise_variance / np.asarray(seeds, float)
  between = max(float(np.var(clipped) - own.mean()), noise_variance / 100)
  total = between + own
  factors = np.divide(between, total, out=np.ones_like(own), where=total > 0)
  return float(clipped.mean()), factors


class Posterior(NamedTuple):
  """What is known of U, one entry a node.

  Attributes:
    raw: U of the means over seeds, less what constraints take (see `merit`).
    mean: posterior mean.
    variance: posterior variance.
    violation: points of violated constraints.
    columns: posterior means of what the Pareto front is made of, higher is
      better: the problem sets if Overall is the only term, else the terms.
  """

  raw: Float[np.ndarray, "N"]
  mean: Float[np.ndarray, "N"]
  variance: Float[np.ndarray, "N"]
  violation: Float[np.ndarray, "N"]
  columns: Float[np.ndarray, "N S"]


def merit(
    utility: Float[np.ndarray, "N"],
    violation: Float[np.ndarray, "N"],
    level: float,
    *,
    tolerance: float,
) -> Float[np.ndarray, "N"]:
  """U as far as constraints allow: gains cannot buy a violation.

    U' = U_root + max(g, 0) max(1 - v/τ, 0) + min(g, 0) - v,   g = U - U_root

  A candidate that breaks constraints by more than noise is worse than the root
  however much it gains elsewhere. Up to τ the credit fades, as half of those
  that change nothing would miss a limit set at the root by chance.

  Args:
    utility: U.
    violation: v, points of violated constraints.
    level: U of the root.
    tolerance: τ, sd of U from seed to seed; with 0 any violation is one.
  """
  rise = utility - level
  if tolerance > 0:
    credit = np.maximum(1 - violation / tolerance, 0.0)
  else:
    credit = (violation == 0).astype(float)
  return level + np.where(rise > 0, rise * credit, rise) - violation


def of(
    nodes: Sequence[nodes_lib.Node],
    noise_variance: float,
    objective: objectives.Objective = objectives.DEFAULT,
    scale_of: Mapping[str, float] | None = None,
) -> Posterior:
  """Posterior of every node's U under an objective; see the module.

  A term that is a weighted mean of several metrics varies less from seed to
  seed than Overall, if they are on a common scale and not one; s² is kept for
  it, which shrinks rather too much.

  Args:
    nodes: the scored candidates, the root among them.
    noise_variance: s², variance of U from one seed to the next.
    objective: what U is.
    scale_of: see `objective.utility`.
  """
  base = nodes[root(nodes)].measured
  measured = [node.measured for node in nodes]
  utility = [objectives.utility(objective, m, base, scale_of) for m in measured]
  broken = [
      objectives.violations(objective, m, base, scale_of) for m in measured
  ]
  violation = np.asarray([sum((b.points for b in own), 0.0) for own in broken])
  raw = merit(
      np.asarray(utility),
      violation,
      objectives.utility(objective, base, base, scale_of),
      tolerance=noise_variance**0.5,
  )
  seeds = [node.seeds for node in nodes]
  centre, factors = shrinkage(raw, seeds, noise_variance)
  if objective.terms == objectives.DEFAULT.terms and nodes[0].set_scores:
    names = sorted(nodes[0].set_scores)
    rows = [[node.set_scores[name] for name in names] for node in nodes]
  else:
    rows = [objectives.columns(objective, m) for m in measured]
  columns = np.asarray(rows, float)
  middle = columns.mean(axis=0)
  return Posterior(
      raw,
      centre + factors * (raw - centre),
      factors * noise_variance / np.asarray(seeds, float),
      violation,
      middle + factors[:, None] * (columns - middle),
  )


def root(nodes: Sequence[nodes_lib.Node]) -> int:
  """Index of the root."""
  ids = [node.id for node in nodes]
  return ids.index(tree.root(nodes_lib.parents(nodes)))
