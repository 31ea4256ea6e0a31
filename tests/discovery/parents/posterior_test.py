import numpy as np
import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import posterior

SETS = ("pass_at_k/a", "accuracy/b")


def _node(name, overall, parents=(), seeds=3, **fields):
  sets = fields.pop("set_scores", dict.fromkeys(SETS, float(overall)))
  return nodes_lib.Node(
      name, tuple(parents), float(overall), seeds, sets, **fields
  )


def test_shrinkage_by_hand():
  # 10th percentile of (50, 60) is 51: mean 55.5, variance 4.5² = 20.25.
  # Own variances 4/1 and 4/4, between 20.25 - 2.5 = 17.75.
  centre, factors = posterior.shrinkage(np.asarray([50.0, 60.0]), [1, 4], 4.0)
  assert centre == pytest.approx(55.5)
  np.testing.assert_allclose(factors, [17.75 / 21.75, 17.75 / 18.75])


def test_shrinkage_without_noise_or_without_spread():
  _, factors = posterior.shrinkage(np.asarray([50.0, 60.0]), [1, 4], 0.0)
  np.testing.assert_allclose(factors, 1.0)
  centre, factors = posterior.shrinkage(np.asarray([50.0, 50.0]), [1, 1], 4.0)
  assert centre == 50
  np.testing.assert_allclose(factors, 0.04 / 4.04)


def test_posterior_by_hand():
  nodes = [
      _node("r", 50, seeds=1),
      _node("c", 60, ["r"], seeds=4, set_scores={SETS[0]: 40.0, SETS[1]: 10.0}),
  ]
  known = posterior.of(nodes, 4.0)
  low, high = 17.75 / 21.75, 17.75 / 18.75
  np.testing.assert_allclose(known.raw, [50, 60])
  np.testing.assert_allclose(known.mean, [55.5 - 5.5 * low, 55.5 + 4.5 * high])
  np.testing.assert_allclose(known.variance, [4 * low, high])
  np.testing.assert_allclose(known.violation, 0)
  # Sets by name, each towards its own mean: b (50, 10), a (50, 40).
  np.testing.assert_allclose(
      known.columns,
      [[30 + 20 * low, 45 + 5 * low], [30 - 20 * high, 45 - 5 * high]],
  )


def test_one_lucky_seed_is_not_the_best():
  nodes = [
      _node("root", 55),
      _node("lucky", 62, ["root"], seeds=1),
      _node("solid", 61, ["root"], seeds=8),
      _node("other", 54, ["root"]),
  ]
  assert np.argmax(posterior.of(nodes, 9.0).mean) == 2
  assert np.argmax(posterior.of(nodes, 0.0).mean) == 1


def test_under_an_objective():
  shorter = objectives.Objective(
      (objectives.Term("response_length", "min"),),
      (objectives.Constraint("overall", ">=", 1.0, True),),
  )
  lengths = {"r": 100.0, "a": 80.0, "b": 70.0}
  nodes = [
      _node(n, u, p, features={"response_length": lengths[n]})
      for n, u, p in (("r", 50, ()), ("a", 51, ("r",)), ("b", 48, ("r",)))
  ]
  known = posterior.of(nodes, 0.0, shorter)
  # 5 words are a point; the last is 2 points of Overall below the root.
  np.testing.assert_allclose(known.raw, [50, 54, 48])
  np.testing.assert_allclose(known.violation, [0, 0, 2])
  np.testing.assert_allclose(known.columns, [[-100], [-80], [-70]])
  wide = posterior.of(nodes, 0.0, shorter, {"response_length": 10.0})
  np.testing.assert_allclose(wide.raw, [50, 52, 48])
  # Seed sd 4: half of the 6 points count, less 2 points of violation.
  np.testing.assert_allclose(
      posterior.of(nodes, 16.0, shorter).raw, [50, 54, 51]
  )


def test_gains_cannot_buy_a_violation():
  utility = np.asarray([60.0, 90.0, 90.0, 45.0, 45.0])
  violation = np.asarray([0.0, 5.0, 0.5, 0.0, 0.5])
  got = posterior.merit(utility, violation, 50.0, tolerance=2.0)
  np.testing.assert_allclose(got, [60, 45, 50 + 40 * 0.75 - 0.5, 45, 44.5])


def test_root_is_the_first_without_parents():
  nodes = [_node("x", 1, ["gone"]), _node("r", 1), _node("s", 1)]
  assert posterior.root(nodes) == 1
