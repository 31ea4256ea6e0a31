"""What a node's descendants may still achieve: discounted gain and a GP.

A candidate that scores poorly may still be a good parent. The target learned
is what selecting a node has led to so far; the Gaussian process carries it
over to nodes that nobody has built on yet, with its uncertainty.
"""

from collections.abc import Mapping, Sequence
import math

import numpy as np
from sklearn import gaussian_process
from sklearn.gaussian_process import kernels


def descendants(
    children: Mapping[str, Sequence[str]], node: str
) -> dict[str, int]:
  """Every node below `node`, with its depth below it.

  Args:
    children: id -> ids of direct children; a node without any may be absent.
    node: where to start.

  Returns:
    id -> number of edges on the shortest way down, at least 1.
  """
  depths: dict[str, int] = {}
  frontier, depth = [node], 0
  while frontier:
    depth += 1
    below = [c for parent in frontier for c in children.get(parent, ())]
    frontier = [c for c in dict.fromkeys(below) if c not in depths]
    depths |= dict.fromkeys(frontier, depth)
  return depths


def descendant_gain(
    score: float,
    below: Sequence[tuple[float, int]],
    *,
    top_k: int,
    discount: float,
    gain_scale: float,
) -> float | None:
  """Discounted gain of the best descendants of a node.

    y_d = mean_{c in top K} γ^depth(c, d) tanh((U(c) - U(d)) / β)

  The top K are the descendants of highest U, the nearer one first in a tie;
  with fewer than K the mean runs over those there are.

  See POISE section 3.2 (https://arxiv.org/abs/2603.23951). K, γ and β are not
  given there.

  Args:
    score: U(d).
    below: (U(c), depth) of each evaluated descendant.
    top_k: K.
    discount: γ, in (0, 1].
    gain_scale: β, in points of U.

  Returns:
    A number in (-1, 1), None without descendants.
  """
  best = sorted(below, key=lambda c: (-c[0], c[1]))[:top_k]
  if not best:
    return None
  gains = [discount**d * math.tanh((u - score) / gain_scale) for u, d in best]
  return sum(gains) / len(gains)


def upper_confidence(
    features: np.ndarray,
    targets: Sequence[float | None],
    *,
    exploration: float,
    min_labelled: int = 4,
) -> np.ndarray:
  """Upper confidence bound of a Gaussian process on the labelled nodes.

    α(d) = μ(d) + κ σ(d)

  Matérn-5/2 kernel over standardised features with length scale √(number of
  features), prior sd 0.5 and noise variance 0.1 (targets lie in (-1, 1)).
  These are fixed: a few labelled nodes cannot fit them, and a fit that fails
  to converge would make selection erratic. An unlabelled node far from all
  labelled ones has mean 0 and sd 0.5, so it is explored.

  Args:
    features: one row a node; finite.
    targets: descendant gain of each node, None where there is none.
    exploration: κ.
    min_labelled: with fewer labels every node gets 0.

  Returns:
    One bound a node.
  """
  labelled = [i for i, y in enumerate(targets) if y is not None]
  if len(labelled) < min_labelled:
    return np.zeros(len(targets))
  centred = features - features.mean(axis=0)
  spread = features.std(axis=0)
  varying = spread > 1e-9
  inputs = centred[:, varying] / spread[varying]
  if not varying.any():
    inputs = np.zeros((len(targets), 1))
  kernel = kernels.ConstantKernel(0.25) * kernels.Matern(
      length_scale=math.sqrt(inputs.shape[1]), nu=2.5
  )
  process = gaussian_process.GaussianProcessRegressor(
      kernel, alpha=0.1, optimizer=None
  )
  process.fit(inputs[labelled], [targets[i] for i in labelled])
  mean, sd = process.predict(inputs, return_std=True)
  return mean + exploration * sd
