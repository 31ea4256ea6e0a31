"""Designs by hand: combinations, draws, seeds."""

import math

import numpy as np
import pytest

from poise_jax.discovery.sweeps import design


def test_a_grid_has_every_combination_the_last_axis_fastest():
  axes = {"a": [1, 2], "b": ["x", "y"]}
  assert design.grid(axes) == [
      {"a": 1, "b": "x"},
      {"a": 1, "b": "y"},
      {"a": 2, "b": "x"},
      {"a": 2, "b": "y"},
  ]
  assert design.grid({}) == [{}]


def test_a_grid_has_no_ranges():
  with pytest.raises(ValueError, match="`lr` must be a list of values"):
    design.grid({"lr": design.Range(0.1, 1.0)})


def test_random_combinations_are_distinct_and_begin_alike():
  axes = {"a": [1, 2, 3], "b": ["x", "y"]}
  few = design.random(axes, 3, seed=4)
  many = design.random(axes, 6, seed=4)
  assert many[:3] == few
  assert len({tuple(c.values()) for c in many}) == 6
  assert design.random(axes, 3, seed=5) != few
  with pytest.raises(ValueError, match="`count` must be at most 6"):
    design.random(axes, 7)


def test_a_logarithmic_range_spreads_logarithms():
  axis = design.Range(1e-5, 1e-3, log=True)
  drawn = [c["lr"] for c in design.random({"lr": axis}, 400)]
  assert all(1e-5 <= x <= 1e-3 for x in drawn)
  # Half of them below the geometric mean; four standard errors.
  share = np.mean(np.log10(drawn) < -4)
  assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 400)
  assert all(x == float(f"{x:.4g}") for x in drawn)


def test_a_range_of_whole_numbers_has_both_ends():
  axis = design.Range(2.0, 4.0, integer=True)
  rng = np.random.default_rng(0)
  assert {axis.draw(rng) for _ in range(100)} == {2, 3, 4}
  with pytest.raises(ValueError, match="about 3"):
    design.random({"n": axis}, 4)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((1.0, 1.0, False), "must be below"),
        ((0.0, 1.0, True), "must be above 0"),
        ((0.0, math.inf, False), "must be finite"),
    ],
)
def test_ranges_that_are_none(ends, words):
  with pytest.raises(ValueError, match=words):
    design.Range(*ends)


def test_paired_seeds_are_shared_and_independent_ones_are_not():
  paired = dict(design.paired(["a", "b"], [3, 5]))
  assert paired == {"a": [3, 5], "b": [3, 5]}
  apart = dict(design.independent(["a", "b", "c"], [3, 5]))
  assert apart == {"a": [3, 5], "b": [6, 8], "c": [9, 11]}
