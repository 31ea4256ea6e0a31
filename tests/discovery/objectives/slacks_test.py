"""Slacks by hand, and which limits are tested with a margin."""

import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import slacks

Constraint = objectives.Constraint
ROOT = {"overall": 50.0, "response_length": 40.0, "kl": -2.0}


def _of(metrics, *constraints):
  return slacks.of(objectives.Objective(constraints=constraints), metrics, ROOT)


def test_slacks_are_in_the_unit_of_the_metric():
  found = _of(
      {"overall": 48.0, "response_length": 30.0},
      Constraint("overall", ">=", 0.98, relative=True),
      Constraint("response_length", "<=", 0.7, relative=True),
      Constraint("response_length", "<=", 32.0),
  )
  assert found == {
      "overall >= 0.98 x root": pytest.approx(-1.0),
      "response_length <= 0.7 x root": pytest.approx(-2.0),
      "response_length <= 32": pytest.approx(2.0),
  }


def test_what_equals_the_limit_is_exactly_on_it():
  (same,) = _of(ROOT, Constraint("overall", ">=", 1.0, True)).values()
  assert same == 0.0
  # 0.1 + 0.2 > 0.3 in floating point.
  (near,) = _of({"kl": 0.1 + 0.2}, Constraint("kl", "<=", 0.3)).values()
  assert near == 0.0


def test_without_constraints_there_are_none():
  assert slacks.of(objectives.DEFAULT, {"overall": 1.0}, ROOT) == {}
  assert slacks.margins(objectives.DEFAULT, {}) == {}


def test_only_noisy_limits_at_the_root_itself_have_a_margin():
  objective = objectives.Objective(
      constraints=(
          Constraint("overall", ">=", 1.0, True),
          Constraint("response_length", "<=", 1.0, True),
          Constraint("kl", "<=", 1.0, True),
          Constraint("overall", ">=", 0.98, True),
          Constraint("entropy", ">=", 1.0),
          Constraint("description_length", "<=", 1.0, True),
      )
  )
  found = slacks.margins(objective, ROOT)
  assert found == {
      "overall >= 1 x root": pytest.approx(1.0),
      "response_length <= 1 x root": pytest.approx(0.8),
      "kl <= 1 x root": pytest.approx(0.04),
      "overall >= 0.98 x root": 0.0,
      "entropy >= 1": 0.0,
      "description_length <= 1 x root": 0.0,
  }


def test_a_metric_that_is_missing_is_named():
  with pytest.raises(ValueError, match="`metrics` must hold kl"):
    _of({"overall": 1.0}, Constraint("kl", "<=", 0.3))
