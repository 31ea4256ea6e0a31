"""Decisions by hand, error rates by simulation."""

import math

import numpy as np
import pytest

from poise_jax.evaluation import non_inferiority


def test_a_decision_by_hand():
  # n = 4 differences 3, 4, 5, 4 and a margin of 1: x = 4, 5, 6, 5 above it,
  # r² = 20² / (4 · 102) = 0.98039, κ = 0.8 r² = 0.78431, and
  # E = 2 · 5^(-1/2) · 0.21569^(-2) · F₄(√(4 · 0.78431 / 0.21569)) = 19.0.
  rule = non_inferiority.Rule(margin=1.0, alpha=1 / 18.9)
  assert non_inferiority.verdict([3.0, 4.0, 5.0, 4.0], rule) == "not worse"
  rule = non_inferiority.Rule(margin=1.0, alpha=1 / 19.2)
  assert non_inferiority.verdict([3.0, 4.0, 5.0, 4.0], rule) == "open"
  # The same below 0 is worse, however large the margin.
  rule = non_inferiority.Rule(margin=9.0, alpha=1 / 18.9)
  assert non_inferiority.verdict([-4.0, -5.0, -6.0, -5.0], rule) != "open"
  rule = non_inferiority.Rule(margin=0.1, alpha=1 / 18.9)
  assert non_inferiority.verdict([-4.0, -5.0, -6.0, -5.0], rule) == "worse"
  assert non_inferiority.verdict([], rule) == "open"


def test_no_difference_at_all_passes_soon():
  rule = non_inferiority.Rule(margin=1.0)
  found = non_inferiority.run(rule, lambda seed: 0.0, range(100))
  assert found.verdict == "not worse"
  assert len(found.differences) <= 4


def test_it_stops_where_told():
  asked = []

  def difference(seed):
    asked.append(seed)
    return (-1.0) ** seed * 10.0

  rule = non_inferiority.Rule(margin=0.01, max_pairs=5)
  found = non_inferiority.run(rule, difference, range(10, 100))
  assert found.verdict == "open"
  assert asked == [10, 11, 12, 13, 14]
  assert len(non_inferiority.run(rule, difference, [1, 2]).differences) == 2


def test_a_breakdown_is_worse_at_once():
  rule = non_inferiority.Rule(margin=1.0)
  found = non_inferiority.run(
      rule, lambda seed: 0.1 if seed == 0 else -math.inf, range(5)
  )
  assert found == ("worse", (0.1,))
  with pytest.raises(ValueError, match="`difference` must be .* got nan"):
    non_inferiority.run(rule, lambda seed: math.nan, range(5))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"margin": 0.0}, "`margin` must be positive"),
        ({"alpha": 1.0}, "`alpha` must lie"),
        ({"max_pairs": 0}, "`max_pairs` must be at least 1"),
        ({"scale": math.inf}, "`scale` must be positive"),
    ],
)
def test_bad_rules_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    non_inferiority.Rule(**({"margin": 1.0} | changes))


def _shares(rule, mean, campaigns, seed):
  rng = np.random.default_rng(seed)
  counts = {"not worse": 0, "worse": 0, "open": 0}
  pairs = 0
  for _ in range(campaigns):
    draws = rng.normal(mean, 2.0, rule.max_pairs).tolist()
    found = non_inferiority.run(rule, draws.__getitem__, range(len(draws)))
    counts[found.verdict] += 1
    pairs += len(found.differences)
  shares = {k: v / campaigns for k, v in counts.items()}
  return shares, pairs / campaigns


def test_error_rates_are_those_declared():
  count = 500
  slack = 3 * math.sqrt(0.05 * 0.95 / count)
  rule = non_inferiority.Rule(margin=2.0, max_pairs=24)
  at_margin, _ = _shares(rule, -2.0, count, 0)
  assert at_margin["not worse"] <= 0.05 + slack
  far_below, _ = _shares(rule, -6.0, 100, 1)
  assert far_below["not worse"] == 0.0
  assert far_below["worse"] > 0.95
  equal, pairs = _shares(rule, 0.0, count, 2)
  assert equal["worse"] <= 0.05 + slack
  # A margin of one standard deviation: most pass, in half of the pairs.
  assert equal["not worse"] > 0.8
  assert pairs < 16


@pytest.mark.slow
def test_error_rates_at_length():
  count = 6000
  rule = non_inferiority.Rule(margin=2.0, max_pairs=32)
  slack = 3 * math.sqrt(0.05 * 0.95 / count)
  assert _shares(rule, -2.0, count, 7)[0]["not worse"] <= 0.05 + slack
  assert _shares(rule, 0.0, count, 8)[0]["worse"] <= 0.05 + slack


def test_pairs_needed():
  rule = non_inferiority.Rule(margin=2.0, max_pairs=64)
  half = non_inferiority.pairs_needed(rule, 2.0)
  rng = np.random.default_rng(3)
  lengths = []
  for _ in range(100):
    draws = rng.normal(0.0, 2.0, 64).tolist()
    found = non_inferiority.run(rule, draws.__getitem__, range(64))
    if found.verdict == "not worse":
      lengths.append(len(found.differences))
  assert abs(np.median(lengths) - half) <= 2
  assert non_inferiority.pairs_needed(rule, 4.0) > half
  assert non_inferiority.pairs_needed(rule, 100.0) is None
