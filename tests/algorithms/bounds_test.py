"""Every constant has bounds, and every loss is finite on them."""

import math

import numpy as np
import pytest

from poise_jax.algorithms import bounds, catalog, examples


def used():
  """The names of all constants in the catalogue."""
  entries = (catalog.describe(name) for name in catalog.names())
  return {key for entry in entries for key in entry.defaults}


def test_the_table_has_the_constants_of_the_catalogue_and_no_others():
  assert set(bounds.BOUNDS) == used()
  assert list(bounds.BOUNDS) == sorted(bounds.BOUNDS)


@pytest.mark.parametrize("name", catalog.names())
def test_defaults_are_inside(name):
  for key, value in catalog.describe(name).defaults.items():
    assert not bounds.check(key, value), key


@pytest.mark.parametrize("key", bounds.BOUNDS)
def test_bounds_are_allowed_and_what_lies_beyond_is_not(key):
  low, high, reason = bounds.BOUNDS[key]
  assert low < high and reason
  assert not bounds.check(key, low) and not bounds.check(key, high)
  for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf)):
    assert bounds.check(key, value)


def finite_on(name, run, key, value):
  """Whether value, gradients, state and metrics are finite."""
  algorithm = catalog.make(name, **{key: value})
  loss, grads, state, metrics = run(algorithm, examples.off_policy())
  parts = [loss, *grads.values(), *state.values(), *metrics.values()]
  return all(np.all(np.isfinite(part)) for part in parts)


@pytest.mark.parametrize("name", catalog.names())
def test_losses_are_finite_on_the_bounds(name, run):
  wrong = [
      (key, value)
      for key in catalog.describe(name).defaults
      for value in bounds.BOUNDS[key][:2]
      if not finite_on(name, run, key, value)
  ]
  assert not wrong


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sapo", "tau_positive", 0),
        ("sa_grpo", "sigma_fixed", 0),
        ("grpo", "epsilon", 0.0),
        ("grpo", "epsilon", 1e-50),  # 0 in f32
        ("dr_grpo", "length_constant", 0),
        ("passk", "k", 0.5),
        ("cispo", "ratio_cap", 0.2),
        ("tpo", "eta", -1.0),
        ("grpo", "clip_eps_low", -0.1),
        ("sa_grpo", "anchor_mix", 1.5),
    ],
)
def test_make_names_the_rule(name, key, value):
  default = catalog.describe(name).defaults[key]
  with pytest.raises(ValueError, match=rf"^`{key}` of {name} must be in") as e:
    catalog.make(name, **{key: value})
  assert f"got {float(value)!r}; its default is {default!r}" in str(e.value)
