"""Is one no worse than the other, but for a margin? Asked after every pair.

Differences of pairs come one by one. Two hypotheses are tested at once, that
the mean is -margin or less, and that it is 0 or more, each by evidence that may
be looked at after every pair (`confidence_sequences`).
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np

from poise_jax.evaluation import confidence_sequences

Verdict = Literal["not worse", "worse", "open"]


@dataclasses.dataclass(frozen=True)
class Rule:
  """What is declared before the first pair is measured.

  Attributes:
    margin: by how much the new one may be worse and still pass, above 0, in
      the units of the differences.
    alpha: largest chance of "not worse" where it is worse by the margin or
      more, and of "worse" where it is not worse at all.
    max_pairs: measured at most; "open" then.
    scale: effects that evidence looks out for, in standard deviations of a
      difference. Any value keeps `alpha`; 1 is quick where the margin is about
      a standard deviation.
    prior: of the variance of a difference; with one, `alpha` holds on average
      over variances drawn from it.
  """

  margin: float
  alpha: float = 0.05
  max_pairs: int = 16
  scale: float = 1.0
  prior: confidence_sequences.Prior = confidence_sequences.NO_PRIOR

  def __post_init__(self):
    for name in ("margin", "scale"):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(
            f"`{name}` must be positive and finite, got {getattr(self, name)}"
        )
    if not 0 < self.alpha < 1:
      raise ValueError(f"`alpha` must lie in (0, 1), got {self.alpha}")
    if self.max_pairs < 1:
      raise ValueError(f"`max_pairs` must be at least 1, got {self.max_pairs}")


class Result(NamedTuple):
  """What a comparison came to.

  Attributes:
    verdict: "not worse", "worse", or "open" where pairs ran out.
    differences: new minus old, one a pair, as far as it went.
  """

  verdict: Verdict
  differences: tuple[float, ...]


def verdict(differences: Sequence[float], rule: Rule) -> Verdict:
  """What the pairs seen so far allow to say; "not worse" goes first.

    not worse:  √n (x̄ + margin) / s̃ >= b_n      worse:  -√n x̄ / s̃ >= b_n

  with b_n from `confidence_sequences.boundary` at level `alpha`.
  """
  n, prior = len(differences), rule.prior
  if n == 0:
    return "open"
  mean, dof = math.fsum(differences) / n, n - 1 + prior.dof
  bound = confidence_sequences.boundary(
      n, rule.alpha, scale=rule.scale, dof=prior.dof
  )
  if math.isinf(bound):
    return "open"
  own = math.fsum((x - mean) ** 2 for x in differences)
  error = math.sqrt((own + prior.dof * prior.variance) / dof / n)
  if mean + rule.margin >= bound * error:
    return "not worse"
  return "worse" if mean < 0 and -mean >= bound * error else "open"


def run(
    rule: Rule, difference: Callable[[int], float], seeds: Iterable[int]
) -> Result:
  """Measures pair after pair, and stops as soon as it is decided.

  Args:
    rule: margin, level and length.
    difference: seed to new minus old; minus infinity, where the new one broke
      down, is "worse" at once.
    seeds: in the order to use them; no more than `rule.max_pairs` are taken.

  Raises:
    ValueError: if a difference is NaN or plus infinity.
  """
  seen: list[float] = []
  for seed, _ in zip(seeds, range(rule.max_pairs), strict=False):
    value = difference(seed)
    if value == -math.inf:
      return Result("worse", tuple(seen))
    if not math.isfinite(value):
      raise ValueError(
          f"`difference` must be a number or -inf, got {value} for seed {seed};"
          " score a run that broke down by the lowest score there is"
      )
    seen.append(value)
    found = verdict(seen, rule)
    if found != "open":
      return Result(found, tuple(seen))
  return Result("open", tuple(seen))


def pairs_needed(rule: Rule, deviation: float) -> int | None:
  """Pairs after which some half of the programs that lose nothing have passed.

  Those after which pairs with a mean of exactly 0 and this deviation pass.

  Args:
    rule: the rule.
    deviation: standard deviation of a difference.

  Returns:
    None if `rule.max_pairs` are too few.
  """
  for n in range(2, rule.max_pairs + 1):
    even = np.linspace(-1.0, 1.0, n)
    pairs = deviation * even / np.std(even, ddof=1)
    if verdict(pairs.tolist(), rule) == "not worse":
      return n
  return None
