"""The unbiased pass@k estimator."""

import numpy as np
from numpy.typing import NDArray


def pass_at_k(
    correct: NDArray[np.integer] | NDArray[np.floating], n: int, k: int
) -> NDArray[np.float64]:
  """Estimates the chance that at least one of k samples is right.

    pass@k = 1 - C(n - c, k) / C(n, k)

  for a problem with c right among n samples; unbiased for k <= n, and 1 where
  fewer than k samples are wrong. With k = n it is whether any is right; with
  k = 1 it is c / n.

  See "Evaluating Large Language Models Trained on Code" by Chen et al.
  (https://arxiv.org/abs/2107.03374).

  Args:
    correct: number of right samples of each problem.
    n: samples drawn for each problem.
    k: samples allowed.

  Returns:
    One estimate a problem.

  Raises:
    ValueError: unless 1 <= k <= n and 0 <= correct <= n.
  """
  if not 1 <= k <= n:
    raise ValueError(f"`k` must lie in [1, n = {n}], got {k}")
  correct = np.asarray(correct, np.float64)
  if correct.size and not (0 <= correct.min() and correct.max() <= n):
    raise ValueError(f"`correct` must lie in [0, n = {n}], got {correct}")
  wrong = n - correct
  # C(n-c, k) / C(n, k) = prod_{i<k} (n - c - i) / (n - i), 0 once n - c < k.
  i = np.arange(k)
  factors = np.maximum(wrong[..., None] - i, 0) / (n - i)
  return 1 - factors.prod(axis=-1)
