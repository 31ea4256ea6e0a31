"""Designs of equal size, and the choice of the best."""

import math

import pytest

from poise_jax.discovery.dissection import equal_cost, fair_tuning


def test_designs_have_one_size_however_many_constants():
  none = fair_tuning.design({}, {})
  one = fair_tuning.design({"eps": 0.2}, {})
  many = fair_tuning.design(dict.fromkeys("abcdef", 1.0), {})
  for found in (none, one, many):
    assert len(set(found)) == len(found) == 7
    assert found[0] == fair_tuning.DEFAULT == (1.0, ())
    assert [s.rate for s in found[:3]] == [1.0, 0.5, 2.0]
  assert sorted(s.rate for s in none) == pytest.approx(
      [0.25, 0.5, math.sqrt(0.5), 1.0, math.sqrt(2), 2.0, 4.0]
  )
  assert [s.changes for s in one[3:5]] == [(("eps", 0.1),), (("eps", 0.4),)]
  assert [s.changes for s in many[3:]] == [((n, 0.5),) for n in "abcd"]


def test_constants_stay_in_their_range():
  found = fair_tuning.design(
      {"a": 1.0, "zero": 0.0, "b": -3.0}, {"a": (0.8, 1.0), "b": (-4.0, 0.0)},
      settings=9,
  )  # fmt: skip
  changes = [s.changes for s in found if s.changes]
  assert changes == [(("a", 0.8),), (("b", -1.5),), (("b", -4.0),)]


@pytest.mark.parametrize("settings", [0, 8])
def test_impossible_sizes_are_refused(settings):
  with pytest.raises(ValueError, match="`settings` must be from 1 to 7"):
    fair_tuning.design({}, {}, settings=settings)


def test_takes_the_best_mean_and_the_default_in_a_tie():
  scores = {1.0: [5.0, 7.0], 0.5: [9.0, 4.0], 2.0: [6.0, 6.0]}
  run = lambda score: equal_cost.Run(score, "", {})
  train = lambda setting, seed: run(scores[setting.rate][seed])
  settings = fair_tuning.design({}, {}, settings=3)
  found = fair_tuning.tune(train, settings, [0, 1])
  assert found.best == settings[1]
  assert found.means[settings[1]] == 6.5
  assert [r.score for r in found.runs[settings[0]]] == [5.0, 7.0]
  tied = fair_tuning.tune(train, [settings[0], settings[2]], [0, 1])
  assert tied.best == fair_tuning.DEFAULT
