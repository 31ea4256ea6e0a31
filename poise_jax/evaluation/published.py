"""What can be said of two rows of a published table: counts, no problems.

A table says how many problems each of two policies solved, and not which. So
their difference has the interval of two independent shares, and of the paired
test only the range over all ways the two might overlap is known.
"""

from typing import NamedTuple

from poise_jax.evaluation import mcnemar, proportions, statistics


class Claim(NamedTuple):
  """Two counts on one set, as shares of 1.

  Attributes:
    name: of the set.
    count: problems in it.
    before: solved by the first.
    after: solved by the second.
    newcombe: interval of after - before, taken as independent.
    agresti_caffo: likewise, by another method.
    least_p: McNemar's p-value if the two overlap as much as they can.
    most_p: if as little as they can.
  """

  name: str
  count: int
  before: int
  after: int
  newcombe: statistics.Interval
  agresti_caffo: statistics.Interval
  least_p: float
  most_p: float


def claim(name: str, count: int, before: int, after: int) -> Claim:
  """Works out what two published counts support.

  Args:
    name: of the set.
    count: problems in it.
    before: solved by the first.
    after: solved by the second.

  Raises:
    ValueError: unless both lie in 0..count.
  """
  counts = (after, count, before, count)
  shared = range(max(0, before + after - count), min(before, after) + 1)
  p_values = [mcnemar.p_value(after - s, before - s) for s in shared]
  return Claim(
      name,
      count,
      before,
      after,
      proportions.newcombe(*counts),
      proportions.agresti_caffo(*counts),
      min(p_values, default=1.0),
      max(p_values, default=1.0),
  )


def sentence(claim: Claim) -> str:
  """Says it in words, in points of 100."""
  low, high = claim.newcombe.low, claim.newcombe.high
  apart = "0 lies within" if low <= 0 <= high else "0 lies outside of"
  verdict = {
      (True, True): "significant at 5 % however the two overlap",
      (True, False): "significant at 5 % only if the two overlap enough",
      (False, False): "not significant at 5 % however the two overlap",
  }[claim.least_p <= 0.05, claim.most_p <= 0.05]
  return (
      f"{claim.name}: {claim.before}/{claim.count} against"
      f" {claim.after}/{claim.count} is {100 * claim.newcombe.mean:+.1f} points,"
      f" 95 % [{100 * low:.1f}, {100 * high:.1f}] for independent problems"
      f" ({apart} it); paired p-value {claim.least_p:.3g} to"
      f" {claim.most_p:.3g}, {verdict}."
  )
