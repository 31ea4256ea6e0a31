import math

import numpy as np
import pytest

from poise_jax.discovery.parents import potential

OPTIONS = {"top_k": 3, "discount": 0.8, "gain_scale": 2.5}


def _below(*pairs, variance=0.0):
  return [potential.Relative(score, variance, depth) for score, depth in pairs]


def test_descendant_gain_by_hand():
  # Best three of four: 55 at depth 1, 53 at 3, 52 at 2, from 50:
  # (.8 tanh 2 + .512 tanh 1.2 + .64 tanh .8) / 3 = 0.541012.
  gain = potential.descendant_gain(
      50.0, 0.0, _below((55.0, 1), (52.0, 2), (48.0, 1), (53.0, 3)), **OPTIONS
  )
  assert gain.value == pytest.approx(0.541012, abs=1e-6)
  # Certain scores leave the chance of which three were made: 0.1 / 3.
  assert gain.variance == pytest.approx(0.1 / 3)


def test_descendant_gain_of_a_leaf_is_unknown_not_zero():
  assert potential.descendant_gain(50.0, 1.0, [], **OPTIONS) is None
  only = potential.descendant_gain(50.0, 0.0, _below((47.5, 1)), **OPTIONS)
  assert only.value == pytest.approx(0.8 * math.tanh(-1.0))


def test_the_papers_line_to_vm_av():
  # BN 44.2 -> AV 50.9 -> VM-AV 52.5, against GLA 47.0 -> PR 49.4 -> CDA 49.0:
  # the worse parent has the greater gain, as in the paper's table 3.
  options = {"top_k": 3, "discount": 0.85, "gain_scale": 2.5}
  gain = lambda score, *below: potential.descendant_gain(
      score, 0.0, _below(*below), **options
  ).value
  bn = gain(44.2, (50.9, 1), (52.5, 2))
  # (.7225 tanh 3.32 + .85 tanh 2.68) / 2 = (.720614 + .842045) / 2
  assert bn == pytest.approx(0.781330, abs=1e-5)
  assert bn > gain(47.0, (49.4, 1), (49.0, 2)) > 0.4


def test_noise_of_the_gain_agrees_with_simulation():
  # To first order; scores 1 apart so that the top two stay the top two.
  rng = np.random.default_rng(0)
  draws = np.asarray([50.0, 51.0, 53.0]) + rng.normal(
      size=(100_000, 3)
  ) * np.sqrt([0.01, 0.02, 0.03])
  bends = np.tanh((draws[:, 1:] - draws[:, :1]) / 2.5)
  simulated = (bends @ [0.4, 0.32]).var()
  gain = potential.descendant_gain(
      50.0,
      0.01,
      [potential.Relative(51.0, 0.02, 1), potential.Relative(53.0, 0.03, 2)],
      **OPTIONS,
  )
  assert gain.variance - 0.1 / 2 == pytest.approx(simulated, rel=0.03)


def _matern(x, y, length):
  r = math.sqrt(5) * np.linalg.norm(x[:, None] - y[None], axis=2) / length
  return 0.25 * (1 + r + r**2 / 3) * np.exp(-r)


def test_prediction_is_the_posterior_with_the_noise_of_each_label():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(7, 2)) * [1.0, 0.3]
  length = math.sqrt(inputs.var(axis=0).sum())
  labelled = [0, 1, 2, 3, 6]
  noise = [0.04, 0.2, 0.1, 0.5, 0.03]
  values = [0.5, -0.3, 0.9, 0.1, -0.7]
  gains = [potential.Gain(*pair) for pair in zip(values, noise, strict=True)]
  known = inputs[labelled]
  gram = _matern(known, known, length) + np.diag(noise)
  cross = _matern(inputs, known, length)
  mean = cross @ np.linalg.solve(gram, values)
  variance = 0.25 - np.sum(cross * np.linalg.solve(gram, cross.T).T, axis=1)
  got = potential.predict(inputs, labelled, gains)
  np.testing.assert_allclose(got.mean, mean, atol=1e-8)
  np.testing.assert_allclose(got.sd, np.sqrt(variance), atol=1e-8)


def test_noisier_labels_count_for_less():
  inputs = np.asarray([[0.0], [1.0]])
  sure = potential.predict(inputs, [0], [potential.Gain(0.8, 0.01)])
  vague = potential.predict(inputs, [0], [potential.Gain(0.8, 1.0)])
  assert sure.mean[1] > 2 * vague.mean[1] > 0
  assert sure.sd[1] < vague.sd[1]


def test_far_unlabelled_node_keeps_the_prior():
  inputs = np.asarray([[0.0], [0.1], [0.2], [0.1], [100.0]])
  gains = [potential.Gain(-0.5, 0.1)] * 4
  # Length is the root of total variance, 40: nothing is quite far.
  got = potential.predict(inputs, [0, 1, 2, 3], gains)
  assert -0.15 < got.mean[4] < 0 and got.sd[4] > 0.45
  assert got.sd[4] > 2 * got.sd[0]


def test_no_label_and_no_feature():
  nothing = potential.predict(np.eye(3), [], [])
  assert nothing.mean.tolist() == [0, 0, 0]
  assert nothing.sd.tolist() == [0.5, 0.5, 0.5]
  same = potential.predict(
      np.zeros((5, 0)), [0, 1, 2, 3], [potential.Gain(0.5, 0.1)] * 4
  )
  # One place, four readings of 0.5: mean 0.5 * 4 * .25 / (4 * .25 + .1).
  np.testing.assert_allclose(same.mean, 0.5 / 1.1)
  np.testing.assert_allclose(same.sd, math.sqrt(0.25 - 0.25 / 1.1))
