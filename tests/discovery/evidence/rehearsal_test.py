"""Simulated campaigns: error rate, power and cost of the default design.

The unit is the standard deviation of a score from seed to seed.
"""

import math

import numpy as np
import pytest

from poise_jax.discovery import search_config
from poise_jax.discovery.evidence import rehearsal

# The defaults, with a score's sd for a point.
CONFIG = search_config.SearchConfig(noise_sd=1.0)
ALPHA, RULES = CONFIG.alpha, CONFIG.race
PROTOCOL = CONFIG.confirmations.protocol
SHARES = CONFIG.confirmations.shares
COUNT = 64


def _worlds(campaigns, effect, count=COUNT):
  """One better candidate each, its place going through all of them."""
  places = [i * 37 % count for i in range(campaigns)]
  effects = [
      tuple(effect * (np.arange(count) == p).astype(float)) for p in places
  ]
  worlds = [rehearsal.World(tuple(map(float, e))) for e in effects]
  return places, worlds


def _run(worlds, workers=1):
  return rehearsal.rehearse_many(
      worlds, RULES, PROTOCOL, alpha=ALPHA, shares=SHARES, workers=workers
  )


def _success(places, outcomes):
  pairs = zip(places, outcomes, strict=True)
  return np.mean([place in outcome.confirmed for place, outcome in pairs])


def test_a_large_effect_is_found_and_confirmed():
  places, worlds = _worlds(12, 4.0, count=12)
  outcomes = _run(worlds)
  assert _success(places, outcomes) > 0.7
  for outcome in outcomes:
    assert outcome.trials["smoke"] == 12
    assert outcome.trials["quarter"] == 13  # the root as well
    assert outcome.cost < 12 * 4


def test_the_outcome_is_a_function_of_the_seed():
  _, worlds = _worlds(2, 1.5, count=9)
  assert _run(worlds) == _run(worlds)
  assert _run(worlds)[0] != _run(worlds[:1] * 2)[1]


def test_workers_do_not_change_it():
  _, worlds = _worlds(3, 1.5, count=6)
  assert _run(worlds, workers=2) == _run(worlds)


def test_break_downs_cost_one_smoke_trial():
  world = rehearsal.World((1.0,) * 6, breakdown=1.0)
  (outcome,) = _run([world])
  assert outcome.trials == {
      "smoke": 6,
      "quarter": 0,
      "full": 0,
      "confirmation": 0,
  }
  assert outcome.confirmed == ()


def test_drawn_scores_have_the_noise_and_correlation_asked_for():
  rng = np.random.default_rng(0)
  scores = rehearsal._draw(rng, np.array([1.5]), 20_000, 2.0, 0.4)
  np.testing.assert_allclose(scores.mean(1), [0.0, 1.5], atol=0.08)
  np.testing.assert_allclose(scores.std(1), 2.0, rtol=0.03)
  assert np.corrcoef(scores)[0, 1] == pytest.approx(0.4, abs=0.03)


def test_cheap_rungs_agree_as_little_as_asked_for():
  rng = np.random.default_rng(0)
  effects = tuple(float(x) for x in rng.normal(size=4000))
  world = rehearsal.World(effects)
  cheap = rehearsal._cheap_effects(rng, world)
  assert np.corrcoef(effects, cheap)[0, 1] == pytest.approx(0.2, abs=0.05)
  assert np.std(cheap) == pytest.approx(3.0, rel=0.05)


def test_the_fixed_design_counts_the_root():
  outcome = rehearsal.fixed_design(
      rehearsal.World((9.0, 0.0, 0.0)),
      PROTOCOL,
      seeds=5,
      finalists=1,
      alpha=ALPHA,
      shares=(1.0,),
      seed=0,
  )
  assert outcome.confirmed == (0,)
  assert outcome.trials == {"search": 20, "confirmation": 16}
  assert outcome.cost == 36


@pytest.mark.slow
def test_a_a_campaigns_declare_a_discovery_at_most_at_the_level():
  _, worlds = _worlds(2000, 0.0)
  rate = np.mean([bool(o.confirmed) for o in _run(worlds, workers=2)])
  assert rate <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 2000)


@pytest.mark.slow
def test_power_and_cost_against_a_fixed_design_of_equal_power():
  """Measured: power 0.95 at 0.40 of the cost of 7 seeds each, where that is 0.945.

  The fixed design gives every candidate and the root the smallest number of
  seeds that reaches the power of the race, and its best one all of alpha.
  """
  places, worlds = _worlds(2000, 1.5)
  outcomes = _run(worlds, workers=2)
  power = _success(places, outcomes)
  cost = np.mean([outcome.cost for outcome in outcomes])
  assert power >= 0.8
  for seeds in range(2, 13):
    fixed = [
        rehearsal.fixed_design(
            world,
            PROTOCOL,
            seeds=seeds,
            finalists=1,
            alpha=ALPHA,
            shares=(1.0,),
            seed=seed,
        )
        for seed, world in enumerate(worlds)
    ]
    if _success(places, fixed) >= power:
      break
  assert cost <= 0.5 * np.mean([outcome.cost for outcome in fixed])
