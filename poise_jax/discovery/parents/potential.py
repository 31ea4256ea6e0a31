"""What a node's descendants may still achieve: discounted gain and a GP.

A candidate that scores poorly may still be a good parent. The target learned
is what selecting a node has led to so far; the Gaussian process carries it
over to nodes that nobody has built on yet, with its uncertainty.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np
from sklearn import gaussian_process
from sklearn.gaussian_process import kernels

# Prior variance of a gain; gains lie in (-1, 1).
PRIOR_VARIANCE = 0.25
# Variance of a gain from one descendant to the next: which ones were made is
# chance, too.
SPREAD = 0.1


class Relative(NamedTuple):
  """An evaluated descendant.

  Attributes:
    score: posterior mean of its U.
    variance: posterior variance of its U.
    depth: generations below the node, at least 1.
  """

  score: float
  variance: float
  depth: int


class Gain(NamedTuple):
  """A discounted gain, and the variance of what it was measured with."""

  value: float
  variance: float


def descendant_gain(
    score: float,
    variance: float,
    below: Sequence[Relative],
    *,
    top_k: int,
    discount: float,
    gain_scale: float,
) -> Gain | None:
  """Discounted gain of the best descendants of a node, and how sure it is.

    y_d = mean_{c in top K} γ^depth(c, d) tanh((U(c) - U(d)) / β)
    var = Σ_c (∂y/∂U(c))² V(c) + (∂y/∂U(d))² V(d) + spread / K

  The top K are the descendants of highest U, the nearer one first in a tie;
  with fewer than K both run over those there are. The first two terms carry
  the seeds behind each score to first order, the third stands for the chance
  of which descendants were made.

  See POISE section 3.2 (https://arxiv.org/abs/2603.23951). K, γ and β are not
  given there, and noise is not treated.

  Args:
    score: posterior mean of U(d).
    variance: posterior variance V(d) of U(d).
    below: its evaluated descendants.
    top_k: K.
    discount: γ, in (0, 1].
    gain_scale: β, in points of U.

  Returns:
    A value in (-1, 1) with its variance, None without descendants.
  """
  best = sorted(below, key=lambda c: (-c.score, c.depth))[:top_k]
  if not best:
    return None
  value = slope = noise = 0.0
  for child in best:
    weight = discount**child.depth / len(best)
    bend = math.tanh((child.score - score) / gain_scale)
    steep = weight * (1 - bend**2) / gain_scale
    value += weight * bend
    slope += steep
    noise += steep**2 * child.variance
  noise += slope**2 * variance + SPREAD / len(best)
  return Gain(value, noise)


class Prediction(NamedTuple):
  """Gains as the process sees them, noise apart: one entry a node."""

  mean: Float[np.ndarray, "N"]
  sd: Float[np.ndarray, "N"]


def kernel(inputs: Float[np.ndarray, "N F"]) -> kernels.Kernel:
  """Matérn-5/2 of prior variance 0.25, its length the root of total variance.

  These are fixed: a few labelled nodes cannot fit them, and a fit that fails
  to converge would make selection erratic.

  Args:
    inputs: from `features.matrix`, all nodes.
  """
  length = math.sqrt(float(inputs.var(axis=0).sum())) or 1.0
  return kernels.ConstantKernel(PRIOR_VARIANCE) * kernels.Matern(
      length_scale=length, nu=2.5
  )


def predict(
    inputs: Float[np.ndarray, "N F"],
    labelled: Sequence[int],
    gains: Sequence[Gain],
) -> Prediction:
  """Gains of all nodes by a Gaussian process on those that are labelled.

  Prior mean 0, covariance of `kernel`, and each label with its own noise. A
  node far from all labelled ones keeps mean 0 and sd 0.5, so it is explored.

  Args:
    inputs: from `features.matrix`; finite.
    labelled: rows whose gain is known.
    gains: of these, in the same order.

  Returns:
    Mean and sd of every row; those of the prior if nothing is labelled.
  """
  if not labelled:
    prior = np.full(len(inputs), math.sqrt(PRIOR_VARIANCE))
    return Prediction(np.zeros(len(inputs)), prior)
  process = gaussian_process.GaussianProcessRegressor(
      kernel(inputs),
      alpha=np.asarray([gain.variance for gain in gains]),
      optimizer=None,
  )
  inputs = inputs if inputs.shape[1] else np.zeros((len(inputs), 1))
  process.fit(inputs[list(labelled)], [gain.value for gain in gains])
  mean, sd = process.predict(inputs, return_std=True)
  return Prediction(mean, sd)
