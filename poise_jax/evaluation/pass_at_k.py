"""The unbiased pass@k estimator, and how sure it is."""

import numbers

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
    TypeError: if `n` or `k` is not a whole number.
    ValueError: unless 1 <= k <= n and 0 <= correct <= n.
  """
  for name, value in (("n", n), ("k", k)):
    if not isinstance(value, numbers.Integral):
      raise TypeError(f"`{name}` must be a whole number, got {value!r}")
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


def standard_error(estimates: NDArray[np.floating]) -> float | None:
  """Standard error of the mean of estimates over problems.

    SE = sd(estimates) / √P

  It covers both sources of chance, which problems were asked and which
  completions were drawn for them: the estimate of one problem varies by both.

  Args:
    estimates: one a problem, such as `pass_at_k` gives.

  Returns:
    The error, None for fewer than two problems.
  """
  if len(estimates) < 2:
    return None
  return float(np.std(estimates, ddof=1) / np.sqrt(len(estimates)))


def sampling_error(
    correct: NDArray[np.integer] | NDArray[np.floating], n: int, k: int
) -> float:
  """Standard error of the mean from drawing completions alone.

  That of other completions for the same problems: how far two evaluations of
  one policy lie apart. It is the jackknife over the samples of each problem,

    Var = (n-1)/n Σ_i (θ_(i) - mean θ_(.))²,

  where θ_(i) leaves out sample i: with c right samples, c of them give
  pass@k(c - 1, n - 1) and n - c give pass@k(c, n - 1).

  Args:
    correct: number of right samples of each problem; at least one problem.
    n: samples drawn for each problem.
    k: samples allowed.

  Raises:
    TypeError: as `pass_at_k`.
    ValueError: unless 1 <= k < n: a single draw of k samples says nothing
      about its own variance.
  """
  if not k < n:
    raise ValueError(f"`k` must be less than `n`, got {k} of {n}; draw more")
  pass_at_k(correct, n, k)
  correct = np.asarray(correct, np.float64)
  less_right = pass_at_k(np.maximum(correct - 1, 0), n - 1, k)
  less_wrong = pass_at_k(np.minimum(correct, n - 1), n - 1, k)
  # Two values, c and n - c times: Σ (θ - mean)² = c (n - c) / n · gap².
  gap = less_right - less_wrong
  variance = (n - 1) / n * correct * (n - correct) / n * gap**2
  return float(np.sqrt(variance.sum()) / correct.size)
