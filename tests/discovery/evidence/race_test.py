"""A race as a value: bounds by hand, drops, and what is refused."""

import dataclasses

import numpy as np
import pytest

from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.evidence import shrinkage
from poise_jax.evaluation import confidence_sequences

RUNGS = (
    race_lib.Rung("smoke", "smoke", 1, None, 0.1),
    race_lib.Rung("quarter", "quarter", 1, 10.0, 0.25),
    race_lib.Rung("full", "quick", 1, 0.0, 1.0),
)
RULES = race_lib.Rules(RUNGS, shrinkage.Noise(1.0, 0.1), max_seeds=6)


def _entered(*names):
  return race_lib.enter(RULES, race_lib.start(RULES, "root"), names)


def _scored(rung, seed=0, **scores):
  return [
      race_lib.Observation(name, rung, seed, float(score))
      for name, score in scores.items()
  ]


def test_the_upper_end_by_hand():
  scores = np.array([[46.0, 47.0, np.nan]])
  root = np.array([50.0, 52.0, 51.0])
  low, high = race_lib.bounds(RULES, scores, root)
  # Differences -4 and -5; s̃² = (8 · 1.8 + 0.5) / 9 with the prior 2 (1 - ρ).
  second = confidence_sequences.boundary(2, 0.05, scale=3.0, dof=8.0)
  half = second * np.sqrt((8 * 1.8 + 0.5) / 9 / 2)
  assert high[0] == pytest.approx(-4.5 + half)
  assert low[0] == pytest.approx(-4.5 - half)


def test_without_a_partner_there_are_no_bounds():
  low, high = race_lib.bounds(
      RULES, np.array([[50.0, np.nan]]), np.array([np.nan, 50.0])
  )
  assert (low[0], high[0]) == (-np.inf, np.inf)


def test_a_wide_margin_forgives_what_a_narrow_one_does_not():
  race = race_lib.observe(RULES, _entered("a"), _scored("smoke", a=0.0))
  assert race.rung[1] == 1 and not race.dropped[1]
  race = race_lib.observe(RULES, race, _scored("quarter", root=50, a=42))
  assert race.rung[1] == 2 and not race.dropped[1]
  race = race_lib.observe(RULES, race, _scored("full", root=50, a=42))
  assert race.rung[1] == 2 and race.dropped[1]


def test_a_candidate_waits_for_the_root():
  race = race_lib.observe(RULES, _entered("a"), _scored("smoke", a=0.0))
  race = race_lib.observe(RULES, race, _scored("quarter", a=50))
  assert race.rung[1] == 1
  race = race_lib.observe(RULES, race, _scored("quarter", root=50))
  assert race.rung[1] == 2


def test_further_seeds_may_still_drop():
  race = _entered("a")
  race = race_lib.observe(RULES, race, _scored("smoke", a=0.0))
  race = race_lib.observe(RULES, race, _scored("quarter", root=50, a=50))
  for seed in range(6):
    assert not race.dropped[1]
    trial = _scored("full", seed, root=50, a=48 + seed / 10)
    race = race_lib.observe(RULES, race, trial)
    if race.dropped[1]:
      break
  assert 1 <= seed < 6 and race.dropped[1]


def test_values_are_not_changed():
  race = _entered("a")
  race_lib.observe(RULES, race, _scored("smoke", a=1.0))
  assert not race.tried.any()


def test_a_root_that_breaks_down_ends_the_race():
  run = race_lib.Observation("root", "full", 0, None, "KL collapse")
  with pytest.raises(ValueError, match="root must not break down.*KL"):
    race_lib.observe(RULES, _entered(), [run])


@pytest.mark.parametrize(
    "run", [("b", "full", 0), ("root", "half", 0), ("root", "full", 6)]
)
def test_trials_of_something_else_are_refused(run):
  with pytest.raises(ValueError, match="`observations` must be of the race"):
    race_lib.observe(RULES, _entered(), [race_lib.Observation(*run, 1.0)])


def test_nobody_enters_twice():
  with pytest.raises(ValueError, match="must not enter twice"):
    race_lib.enter(RULES, _entered("a"), ["a"])


@pytest.mark.parametrize(
    "change,message",
    [
        ({"rungs": ()}, "`rungs` must be at least one"),
        ({"rungs": RUNGS[:1]}, "must have a margin"),
        ({"max_seeds": 0}, "`seeds` of rung smoke"),
        ({"at_once": 0}, "`at_once` must be at least 1"),
    ],
)
def test_rules_must_make_sense(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(RULES, **change)
