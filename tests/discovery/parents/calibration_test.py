import math

import numpy as np
import pytest

from poise_jax.discovery.parents import (
    acquisition,
    calibration,
    potential,
    replay,
)


def _forecasts(seed, *, spread, known=1.0, count=400):
  """Outcomes around predictions with sd 0.3 and noise 0.1; `spread` is said."""
  rng = np.random.default_rng(seed)
  means = rng.normal(0, 0.5, size=count)
  values = known * means + rng.normal(0, math.sqrt(0.09 + 0.01), size=count)
  return [
      calibration.Forecast(
          f"n{i}",
          1,
          float(means[i]),
          spread**2,
          (0.0, 0.34),
          potential.Gain(float(values[i]), 0.01),
      )
      for i in range(count)
  ]


def _calibrate(told):
  return calibration.calibrate(told, np.random.default_rng(0))


def test_honest_predictions_cover_what_they_say():
  got = _calibrate(_forecasts(1, spread=0.3))
  assert got.forecasts == got.nodes == 400
  for level, share in got.coverage.items():
    assert abs(share.mean - level) < 4 * math.sqrt(level * (1 - level) / 400)
    assert share.low <= level <= share.high
  assert got.verdict.trusted
  assert got.bias.low < 0 < got.bias.high < 0.1
  # E log N with variance 0.1, of a value with variance 0.1.
  assert got.verdict.process == pytest.approx(
      -0.5 * (1 + math.log(2 * math.pi * 0.1)), abs=0.15
  )


def test_overconfidence_shows():
  got = _calibrate(_forecasts(2, spread=0.05))
  assert got.coverage[0.95].high < 0.7
  assert got.verdict.process < -1.0


def test_predictions_of_nothing_lose_to_the_constant():
  got = _calibrate(_forecasts(3, spread=0.3, known=0.0))
  assert not got.verdict.trusted
  assert got.verdict.advantage < 0


def test_rounds_of_one_node_count_once():
  told = _forecasts(4, spread=0.3, count=10)
  thrice = [f._replace(generation=g) for g in (1, 2, 3) for f in told]
  one, three = _calibrate(told), _calibrate(thrice)
  assert (three.forecasts, three.nodes) == (30, 10)
  assert three.verdict == one.verdict
  assert three.coverage == one.coverage


def test_too_little_to_tell():
  assert _calibrate([]) is None
  assert _calibrate(_forecasts(5, spread=0.3, count=1)) is None


def test_forecasts_meet_what_came_later():
  columns = {
      "gp_mean": np.asarray([0.2, -0.1]),
      "gp_sd": np.asarray([0.3, 0.5]),
      "descendant_gain": np.asarray([0.4, np.nan]),
      "gain_noise": np.asarray([0.05, np.nan]),
  }
  table = acquisition.Table(("r", "a"), ("r", "a"), 0, columns)
  choice = replay.Round(2, table, (0,), np.asarray([[0.5, 0.5]]))
  # b was there before; c came in the round, of r.
  grown = replay.Grown(
      {"r": (), "a": ("r",), "b": ("r",), "c": ("r",)},
      {"r": 0, "a": 1, "b": 1, "c": 2},
      {"r": 50.0, "a": 49.0, "b": 60.0, "c": 52.5},
      {"r": 0.0, "a": 0.0, "b": 0.0, "c": 0.0},
  )
  [told] = calibration.forecasts([choice], grown, acquisition.Weights())
  assert (told.node, told.generation, told.mean) == ("r", 2, 0.2)
  assert told.variance == pytest.approx(0.09)
  # One label is no spread: the constant has the prior.
  assert told.constant == (0.0, 0.25)
  assert told.outcome.value == pytest.approx(0.85 * math.tanh(1.0))
  assert told.outcome.variance == pytest.approx(0.1)


def test_the_first_round_knows_no_gain_yet():
  columns = {"gp_mean": np.zeros(1), "gp_sd": np.full(1, 0.5)}
  table = acquisition.Table(("r",), ("r",), 0, columns)
  choice = replay.Round(1, table, (0,), np.ones((1, 1)))
  grown = replay.Grown(
      {"r": (), "c": ("r",)},
      {"r": 0, "c": 1},
      {"r": 50.0, "c": 52.5},
      {"r": 0.0, "c": 0.0},
  )
  [told] = calibration.forecasts([choice], grown, acquisition.Weights())
  assert told.constant == (0.0, 0.25) and told.mean == 0.0


def _two_rounds():
  """r gains 2.5 points, a loses 2.5, b gains 5; in round 2 r alone is built."""
  columns = {
      "performance": np.asarray([0.5, 0.1, 0.9]),
      "diversity": np.asarray([0.0, 1.0, 0.0]),
  }
  ids = ("r", "a", "b")
  table = acquisition.Table(ids, ids, 0, columns)
  choices = [
      replay.Round(g, table, (0,), np.full((1, 3), 1 / 3)) for g in (1, 2)
  ]
  made = {"r1": ("r",), "a1": ("a",), "b1": ("b",), "r2": ("r",)}
  tree = replay.Grown(
      {**dict.fromkeys(ids, ()), **made},
      {**dict.fromkeys(ids, 0), "r1": 1, "a1": 1, "b1": 1, "r2": 2},
      {
          **dict.fromkeys(ids, 50.0),
          "r1": 52.5,
          "a1": 47.5,
          "b1": 55.0,
          "r2": 52.5,
      },
      dict.fromkeys([*ids, *made], 0.0),
  )
  return choices, tree


def test_concordance_by_hand():
  choices, tree = _two_rounds()
  got = calibration.concordance(
      choices, tree, acquisition.Weights(), np.random.default_rng(0)
  )
  assert set(got) == {"performance", "diversity"}
  # Three pairs of the first round. The second has one node, and none.
  assert got["performance"].pairs == 3
  assert got["performance"].share == (1.0, 1.0, 1.0)
  # a over r and over b are wrong, r and b are tied.
  assert got["diversity"].share.mean == pytest.approx(0.5 / 3)
  assert got["diversity"].share.low == 0.0


def test_concordance_of_terms_that_say_nothing_is_a_half():
  rng = np.random.default_rng(1)
  ids = tuple(f"n{i}" for i in range(40))
  table = acquisition.Table(ids, ids, 0, {"score": rng.random(40)})
  choice = replay.Round(1, table, (0,), np.full((1, 40), 1 / 40))
  made = {f"{i}-child": (i,) for i in ids}
  tree = replay.Grown(
      {**dict.fromkeys(ids, ()), **made},
      {**dict.fromkeys(ids, 0), **dict.fromkeys(made, 1)},
      {
          **dict.fromkeys(ids, 50.0),
          **{m: float(50 + rng.normal()) for m in made},
      },
      dict.fromkeys([*ids, *made], 0.0),
  )
  got = calibration.concordance([choice], tree, acquisition.Weights(), rng)
  assert got["score"].pairs == 780
  assert got["score"].share.low < 0.5 < got["score"].share.high
  # 40 nodes: the sd of Kendall's tau is 0.11, of the share half of that.
  assert 0.15 < got["score"].share.high - got["score"].share.low < 0.3


def test_no_pair_no_concordance():
  tree = replay.Grown({"r": ()}, {"r": 0}, {"r": 50.0}, {"r": 0.0})
  args = (tree, acquisition.Weights(), np.random.default_rng(0))
  assert calibration.concordance([], *args) == {}
