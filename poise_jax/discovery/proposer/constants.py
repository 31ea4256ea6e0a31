"""The numeric constants of the mechanisms: ranges, scales and what they do."""

from collections.abc import Mapping
import math

from poise_jax.discovery.proposer.slots import (
    advantage_constants,
    constant,
    policy_constants,
)

CONSTANTS: Mapping[str, constant.Constant] = {
    **advantage_constants.CONSTANTS,
    **policy_constants.CONSTANTS,
}


def position(name: str, value: float) -> float:
  """Where a constant lies in its range, on its own scale: 0 low, 1 high."""
  about = CONSTANTS[name]
  low, high = about.low, about.high
  if about.log:
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
  about = CONSTANTS[name]
  low, high = about.low, about.high
  place = min(max(place, 0.0), 1.0)
  if about.log:
    value = low * (high / low) ** place
  else:
    value = low + place * (high - low)
  return min(max(float(f"{value:.3g}"), low), high)
