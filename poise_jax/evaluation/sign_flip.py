"""The permutation test of paired scores: flip the sign of each difference.

If two policies are equally good at every problem, a difference is as likely as
its opposite. No distribution is assumed.
"""

from jaxtyping import Float
import numpy as np

EXACT = 16  # up to so many differences, all 2^n sign patterns are counted
_CHUNK = 1 << 22


def p_value(
    differences: Float[np.ndarray, "P"],
    *,
    seed: int = 0,
    permutations: int = 20_000,
) -> float:
  """Two-sided p-value for the sum of paired differences being 0.

    p = share of sign patterns s with |Σ s_i d_i| >= |Σ d_i|

  counted over all patterns for few differences that are not 0, else over
  random ones with the seen one among them, (1 + hits) / (1 + permutations),
  which keeps the level of the test.

  Args:
    differences: one a problem; for a weighted sum over sets, scaled by the
      weight and size of its set.
    seed: of the random patterns.
    permutations: how many of them.

  Returns:
    1 where no difference is other than 0.

  Raises:
    ValueError: if a difference is not finite.
  """
  if not np.isfinite(differences).all():
    raise ValueError(f"`differences` must be finite, got {differences}")
  moved = differences[differences != 0]
  if not moved.size:
    return 1.0
  # Sums in another order differ in their last bits, but are ties.
  bound = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
  if moved.size <= EXACT:
    patterns = np.arange(1 << moved.size)[:, None] >> np.arange(moved.size)
    sums = (1 - 2 * (patterns & 1)) @ moved
    return float(np.mean(np.abs(sums) >= bound))
  rng = np.random.default_rng(seed)
  hits, rows = 0, max(1, _CHUNK // moved.size)
  for first in range(0, permutations, rows):
    shape = (min(rows, permutations - first), moved.size)
    signs = 1.0 - 2.0 * rng.integers(2, size=shape, dtype=np.int8)
    hits += int(np.sum(np.abs(signs @ moved) >= bound))
  return (1 + hits) / (1 + permutations)
