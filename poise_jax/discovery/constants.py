"""The numeric constants of the mechanisms: ranges, scales and what they do."""

from collections.abc import Mapping
import math
from typing import NamedTuple


class Constant(NamedTuple):
  """A numeric constant of a mechanism.

  Attributes:
    words: what it is.
    low: smallest value allowed.
    high: largest value allowed.
    default: value when its mechanism is first switched on.
    larger: metric -> +1 or -1, the expected change with a larger value.
    log: whether it is tuned on a logarithmic scale (then `low` > 0).
    neutral: value at which the mechanism vanishes, None if there is none.
  """

  words: str
  low: float
  high: float
  default: float
  larger: Mapping[str, int]
  log: bool = True
  neutral: float | None = None


# Defaults are chosen to act: with 0/1 rewards and groups of eight the deviation
# of a mixed group is at least 0.33 and a normalised advantage at most 2.65, so
# a floor of 0.1 or a bound of 3 would change nothing.
CONSTANTS: Mapping[str, Constant] = {
    "invalid_advantage": Constant(
        "the advantage of unparsable answers",
        -5.0,
        -0.05,
        -1.0,
        {"valid_rate": -1},
        log=False,
    ),
    "format_penalty": Constant(
        "the penalty for unparsable answers",
        0.02,
        2.0,
        0.3,
        {"valid_rate": 1, "response_length": -1},
        neutral=0.0,
    ),
    "format_weight": Constant(
        "the weight of the format stream",
        0.02,
        2.0,
        0.3,
        {"valid_rate": 1},
        neutral=0.0,
    ),
    "prior_successes": Constant(
        "the optimism of the baseline", 0.05, 10.0, 1.0, {"entropy": 1}
    ),
    "prior_failures": Constant(
        "the pessimism of the baseline", 0.05, 10.0, 1.0, {"entropy": -1}
    ),
    "sigma_floor": Constant(
        "the floor under the scale", 0.01, 1.0, 0.4, {"kl": -1}
    ),
    "sigma_fixed": Constant("the constant scale", 0.1, 2.0, 0.5, {"kl": -1}),
    "failure_valid": Constant(
        "the advantage of parsable answers in failed groups",
        -2.0,
        -0.02,
        -0.2,
        {"entropy": -1},
        log=False,
    ),
    "failure_invalid": Constant(
        "the advantage of unparsable answers in failed groups",
        -4.0,
        -0.05,
        -0.8,
        {"valid_rate": -1},
        log=False,
    ),
    "failure_damping": Constant(
        "the weight of failed groups",
        0.02,
        1.0,
        0.3,
        {"valid_rate": 1},
        neutral=1.0,
    ),
    "uniform_weight": Constant(
        "the weight of uniform groups", 0.02, 1.0, 0.3, {"kl": 1}, neutral=1.0
    ),
    "difficulty_gain": Constant(
        "the extra weight of hard prompts",
        0.1,
        4.0,
        1.0,
        {"kl": 1},
        neutral=0.0,
    ),
    "efficiency_coef": Constant(
        "the reward for brevity",
        0.01,
        1.0,
        0.1,
        {"response_length": -1},
        neutral=0.0,
    ),
    "overlength_coef": Constant(
        "the penalty for excess length",
        0.02,
        2.0,
        0.3,
        {"response_length": -1},
        neutral=0.0,
    ),
    "temper_span": Constant(
        "the leniency towards long failures",
        1.05,
        4.0,
        2.0,
        {"response_length": 1},
        neutral=1.0,
    ),
    "clip_eps": Constant("the clip range", 0.003, 0.6, 0.2, {"kl": 1}),
    # Neutral at the value of clip_eps; `grammar` knows.
    "clip_eps_high": Constant(
        "the upper clip range", 0.003, 1.0, 0.28, {"entropy": 1, "kl": 1}
    ),
    "dual_clip": Constant("the bound on bad tokens", 1.2, 10.0, 2.0, {"kl": 1}),
    # The default is the completion budget of the embedded task.
    "length_constant": Constant(
        "the constant length divisor", 8.0, 65536.0, 31.0, {"kl": -1}
    ),
    "kl_coef": Constant(
        "the pull towards the reference",
        1e-4,
        0.3,
        0.01,
        {"kl": -1},
        neutral=0.0,
    ),
    "entropy_coef": Constant(
        "the bonus for entropy", 1e-5, 0.05, 0.003, {"entropy": 1}, neutral=0.0
    ),
    "advantage_limit": Constant(
        "the bound on the advantage", 0.5, 10.0, 2.0, {"kl": 1}, neutral=1e6
    ),
}


def position(name: str, value: float) -> float:
  """Where a constant lies in its range, on its own scale: 0 low, 1 high."""
  constant = CONSTANTS[name]
  low, high = constant.low, constant.high
  if constant.log:
    return math.log(value / low) / math.log(high / low)
  return (value - low) / (high - low)


def at_position(name: str, place: float) -> float:
  """Value of a constant at a place in its range, to three digits.

  The inverse of `position` up to rounding; `place` is clipped to [0, 1].

  Args:
    name: a constant.
    place: 0 for its lower end, 1 for its upper end.

  Returns:
    A value inside the range.
  """
  constant = CONSTANTS[name]
  low, high = constant.low, constant.high
  place = min(max(place, 0.0), 1.0)
  if constant.log:
    value = low * (high / low) ** place
  else:
    value = low + place * (high - low)
  return min(max(float(f"{value:.3g}"), low), high)
