"""Between which values the constants of the catalogue have a meaning.

A name means the same in every entry, so one table serves all. Bounds belong to
the range. What must be more than 0 is bounded by `TINY`, because a smaller
number may be 0 in float32; what has no largest value in principle is bounded
by `HUGE` or less, below which losses stay finite in float32.
"""

from collections.abc import Mapping
from typing import NamedTuple

TINY = 1e-12
HUGE = 1e6


class Bound(NamedTuple):
  """The range of a constant.

  Attributes:
    low: smallest value allowed.
    high: largest value allowed.
    reason: why not less, or more.
  """

  low: float
  high: float
  reason: str


_CLIP = Bound(0.0, HUGE, "the clip range includes 1, where it is on-policy")
_CAP = Bound(1.0, 1e9, "it is a ratio, and on-policy that is 1")
_DIVISOR = Bound(TINY, HUGE, "it divides, or keeps a divisor from 0")
_WEIGHT = Bound(0.0, HUGE, "it is a weight; the sign is in the equation")
_FRACTION = Bound(0.0, 1.0, "it is a fraction")
_PUSH = Bound(-HUGE, 0.0, "it pushes away")
_POWER = 4.0  # (10,000 tokens)^4 is 1e16.
# In nats. The entropy over a million tokens is 14, and exp(5 * 15) is finite.
_ENTROPY = Bound(0.0, 15.0, "no vocabulary has more entropy than 15 nats")

BOUNDS: Mapping[str, Bound] = {
    "advantage_clip": _WEIGHT._replace(reason="it bounds a magnitude"),
    "alpha_uniform": _WEIGHT,
    "anchor_mix": _FRACTION,
    "clip_eps_high": _CLIP,
    "clip_eps_low": _CLIP,
    "correct_weight": _WEIGHT,
    "cov_fraction": _FRACTION,
    "cov_high": Bound(-HUGE, HUGE, "a covariance has either sign"),
    "cov_low": Bound(-HUGE, HUGE, "a covariance has either sign"),
    "damping": _DIVISOR,
    "ddof": Bound(0.0, 1.0, "0 is the population form, 1 the sample form"),
    "delta": _CAP,
    "difficulty_coef": _WEIGHT,
    "dual_clip": _CAP,
    "entropy_coef": _WEIGHT,
    "entropy_coef_delta": _WEIGHT._replace(reason="it is a step size"),
    "entropy_coef_max": _WEIGHT,
    "entropy_epsilon": _DIVISOR,
    "entropy_fraction": _FRACTION,
    "entropy_rate": Bound(0.0, 5.0, "it stands in an exponent, in 1/nat"),
    "entropy_target": _ENTROPY,
    "entropy_target_end": _ENTROPY,
    "entropy_target_start": _ENTROPY,
    "epsilon": _DIVISOR,
    "eta": _DIVISOR,
    "failed_advantage": _PUSH,
    "format_coef": _WEIGHT,
    "format_penalty": _WEIGHT,
    "format_reward": _WEIGHT,
    "invalid_advantage": _PUSH,
    "k": Bound(1.0, HUGE, "a set holds at least one completion"),
    "k_neg": _WEIGHT._replace(reason="it is a power of W, 0 at W = 0"),
    "k_pos": _WEIGHT._replace(reason="it is a power of W, 0 at W = 0"),
    "kappa": Bound(-HUGE, HUGE, "its sign chooses sure or unsure failures"),
    "kl_coef": _WEIGHT,
    "kl_horizon": Bound(1.0, 1e12, "it counts completions"),
    "kl_target": _DIVISOR,
    "lambda_neg": Bound(TINY, HUGE, "else W has no bound from above"),
    "lambda_pos": Bound(TINY, HUGE, "else W has no bound from above"),
    "length_coef": _WEIGHT,
    "length_constant": Bound(1.0, 1e9, "it is a budget in tokens"),
    "length_decay": Bound(0.0, _POWER, "it is the power of a length"),
    "length_high": Bound(1.0, HUGE, "the mean length has the divisor 1"),
    "length_low": Bound(TINY, 1.0, "the mean length has the divisor 1"),
    "length_power": Bound(-_POWER, _POWER, "it is the power of a length"),
    "off_policy_threshold": Bound(0.0, HUGE, "it is a divergence in nats"),
    "other_weight": _WEIGHT,
    "prior_failures": Bound(TINY, HUGE, "a Beta prior has no other values"),
    "prior_successes": Bound(TINY, HUGE, "a Beta prior has no other values"),
    "ratio_cap": _CAP,
    "sampler_cap": _CAP,
    "sampler_high": _CAP,
    "sampler_low": _FRACTION._replace(reason="on-policy the ratio is 1"),
    "sigma_fixed": _DIVISOR,
    "sigma_floor": _DIVISOR,
    "tau_negative": _DIVISOR,
    "tau_positive": _DIVISOR,
    "threshold": Bound(0.0, HUGE, "it is a divergence in nats"),
    "threshold_high": _FRACTION._replace(reason="it is a probability"),
    "threshold_low": _FRACTION._replace(reason="it is a probability"),
    "wrong_advantage": _PUSH,
}


def check(name: str, value: float) -> str:
  """Says what is wrong with a value of a constant; empty if nothing is.

  Args:
    name: of a constant, a key of `BOUNDS`.
    value: finite.
  """
  low, high, reason = BOUNDS[name]
  if low <= value <= high:
    return ""
  return f"must be in [{low:g}, {high:g}] ({reason}), got {value!r}"
