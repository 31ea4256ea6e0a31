"""What a few seeds say about each of many candidates: a two-way shrinkage.

Candidate c scored y_cs with seed s. Seeds are shared (same prompts, same
sampling keys), so some are lucky for everybody:

    y_cs = M + a_c + b_s + e_cs
    a_c ~ N(0, t²),   b_s ~ N(0, ρ v),   e_cs ~ N(0, (1 - ρ) v_c)

with ρ the correlation of two candidates' scores across seeds. The best of many
noisy means is mostly luck; the posterior mean of a_c is not, and it compares
candidates with different seeds fairly, which differences to the root do not:
each of those carries the root's own luck.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np


class Noise(NamedTuple):
  """What is known of the noise before a campaign.

  Attributes:
    sd: of one candidate's score from seed to seed, in points.
    correlation: ρ of two candidates' scores across seeds, in [0, 1).
    dof: weight of `sd` beside the campaign's own seeds, degrees of freedom.
  """

  sd: float
  correlation: float = 0.1
  dof: float = 8.0

  @property
  def paired_variance(self) -> float:
    """Of the difference of two candidates with one seed, 2 (1 - ρ) sd²."""
    return 2 * (1 - self.correlation) * self.sd**2


class Posterior(NamedTuple):
  """Of each candidate, NaN for one without seeds.

  Attributes:
    mean: posterior mean of M + a_c, in points.
    sd: posterior standard deviation of a_c, for b_s as estimated.
    noise: pooled sd of a score from seed to seed, as estimated.
  """

  mean: Float[np.ndarray, "C"]
  sd: Float[np.ndarray, "C"]
  noise: float


_OWN_DOF = 4.0  # weight of the pooled variance in a candidate's own
_SPREAD_FLOOR = 1.0  # least t² / v: some candidates do differ
_LOWEST = 4.0  # noise sd below the median at which scores are cut off


def posterior(scores: Float[np.ndarray, "C S"], noise: Noise) -> Posterior:
  """Shrinks the candidates' means towards what they have in common.

  v is pooled over candidates, with `noise` as a prior, and moderated by each
  one's own seeds: v_c counts four degrees of freedom of v. t² is the variance
  of the means beyond their noise, at least v. Scores more than 4 noise sd
  below the median of their seed count as that: a candidate that collapsed
  would otherwise inflate t² and with it everybody's luck.

  Args:
    scores: in points, NaN where not measured.
    noise: known before.

  Returns:
    The posterior, all NaN if there is no score at all.
  """
  seen = ~np.isnan(scores)
  counts = seen.sum(1)
  there = counts > 0
  mean, sd = np.full((2, len(scores)), np.nan)
  if not there.any():
    return Posterior(mean, sd, noise.sd)
  used = seen.any(0)
  y, seen = scores[there][:, used], seen[there][:, used]
  counts = counts[there]
  least = np.median(y[seen]) - _LOWEST * noise.sd
  y = np.where(seen, np.maximum(y, least), 0.0)
  own = (np.where(seen, y - (y.sum(1) / counts)[:, None], 0.0) ** 2).sum(1)
  pooled = (noise.dof * noise.sd**2 + own.sum()) / (
      noise.dof + (counts - 1).sum()
  )
  moderated = (_OWN_DOF * pooled + own) / (_OWN_DOF + counts - 1)
  residual = (1 - noise.correlation) * moderated
  means = y.sum(1) / counts
  spread = max(
      float(means.var()) - float((moderated / counts).mean()),
      _SPREAD_FLOOR * pooled,
  )
  shrink = spread / (spread + residual / counts)
  level, luck = _common(y, seen, shrink, residual, noise.correlation * pooled)
  rest = np.where(seen, y - level - luck, 0.0).sum(1) / counts
  mean[there] = level + shrink * rest
  sd[there] = np.sqrt(shrink * residual / counts)
  return Posterior(mean, sd, float(np.sqrt(pooled)))


def _common(
    y: Float[np.ndarray, "C S"],
    seen: Bool[np.ndarray, "C S"],
    shrink: Float[np.ndarray, "C"],
    residual: Float[np.ndarray, "C"],
    luck_variance: float,
) -> tuple[float, Float[np.ndarray, "S"]]:
  """Estimates M and b_s with the a_c integrated out.

  Given a_c's prior, the precision of a candidate's scores is
  (I - 1 1ᵀ λ_c / n_c) / v_c over its seeds; M has a flat prior.
  """
  counts = seen.sum(1)
  count = seen.shape[1]
  design = np.eye(count, count + 1, 1)
  design[:, 0] = 1.0
  weights = seen / residual[:, None]
  inner = (
      np.diag(weights.sum(0))
      - (seen * (shrink / counts / residual)[:, None]).T @ seen
  )
  kept = y - (shrink * y.sum(1) / counts)[:, None]
  target = design.T @ (weights * kept).sum(0)
  normal = design.T @ inner @ design
  prior = np.full(count + 1, 1 / max(luck_variance, 1e-12 + 1e-9 * residual[0]))
  prior[0] = 0.0
  solved = np.linalg.solve(normal + np.diag(prior), target)
  return float(solved[0]), solved[1:]
