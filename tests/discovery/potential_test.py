import math

import numpy as np
import pytest

from poise_jax.discovery import potential


def test_descendants_take_the_shortest_way_down():
  children = {"a": ["b", "c"], "b": ["d"], "c": ["d", "e"], "d": ["f"]}
  assert potential.descendants(children, "a") == {
      "b": 1,
      "c": 1,
      "d": 2,
      "e": 2,
      "f": 3,
  }
  assert potential.descendants(children, "f") == {}


def test_descendant_gain_by_hand():
  # Best three of four: 55 at depth 1, 53 at 3, 52 at 2, from 50:
  # (.8 tanh 2 + .512 tanh 1.2 + .64 tanh .8) / 3 = 0.541012.
  gain = potential.descendant_gain(
      50.0,
      [(55.0, 1), (52.0, 2), (48.0, 1), (53.0, 3)],
      top_k=3,
      discount=0.8,
      gain_scale=2.5,
  )
  assert gain == pytest.approx(0.541012, abs=1e-6)


def test_descendant_gain_of_a_leaf_is_unknown_not_zero():
  options = {"top_k": 3, "discount": 0.8, "gain_scale": 2.5}
  assert potential.descendant_gain(50.0, [], **options) is None
  only = potential.descendant_gain(50.0, [(47.5, 1)], **options)
  assert only == pytest.approx(0.8 * math.tanh(-1.0))


def _matern(x, y, length):
  r = math.sqrt(5) * np.linalg.norm(x[:, None] - y[None], axis=2) / length
  return 0.25 * (1 + r + r**2 / 3) * np.exp(-r)


def test_upper_confidence_is_the_posterior_of_the_process():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(7, 2)) * [1.0, 30.0]
  targets = [0.5, -0.3, 0.9, 0.1, None, None, -0.7]
  inputs = (features - features.mean(0)) / features.std(0)
  known = [0, 1, 2, 3, 6]
  y = np.asarray([targets[i] for i in known])
  gram = _matern(inputs[known], inputs[known], math.sqrt(2)) + 0.1 * np.eye(5)
  cross = _matern(inputs, inputs[known], math.sqrt(2))
  mean = cross @ np.linalg.solve(gram, y)
  variance = 0.25 - np.sum(cross * np.linalg.solve(gram, cross.T).T, axis=1)
  got = potential.upper_confidence(features, targets, exploration=1.5)
  np.testing.assert_allclose(got, mean + 1.5 * np.sqrt(variance), atol=1e-8)


def test_far_unlabelled_node_is_worth_its_uncertainty():
  # Four alike, one far away: standardised distance 2.5, mean about 0.
  features = np.asarray([[0.0], [0.0], [0.0], [0.0], [1.0]])
  targets = [-0.5, -0.5, -0.5, -0.5, None]
  bound = potential.upper_confidence(features, targets, exploration=1.0)
  assert bound[4] > 0.3
  assert bound[4] > bound[0]


def test_too_few_labels_and_constant_features():
  assert not potential.upper_confidence(
      np.eye(5), [0.5, 0.4, 0.3, None, None], exploration=1.0
  ).any()
  same = potential.upper_confidence(
      np.ones((5, 3)), [0.5, 0.5, 0.5, 0.5, None], exploration=1.0
  )
  # One place, four readings of 0.5: mean 0.5 * 4 * .25 / (4 * .25 + .1).
  expected = 0.5 / 1.1 + math.sqrt(0.25 - 0.25 / 1.1)
  np.testing.assert_allclose(same, expected, atol=1e-8)
