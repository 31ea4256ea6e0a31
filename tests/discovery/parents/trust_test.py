import math

import numpy as np
import pytest
from scipy import stats

from poise_jax.discovery.parents import potential, trust


def _gains(values, noise=0.05):
  return [potential.Gain(float(v), noise) for v in values]


def test_log_score_is_that_of_the_normal_density():
  expected = stats.norm.logpdf(0.7, 0.2, math.sqrt(0.3))
  assert trust.log_score(0.7, 0.2, 0.3) == pytest.approx(expected)


def test_constant_by_hand():
  # Equal noise 0.02: variance of (0, .2, .4) is .04, so v = .02, and each
  # weighs 1 / .04: mean .2, variance .02 + .04 / 3.
  mean, variance = trust.constant(_gains([0.0, 0.2, 0.4], 0.02))
  assert mean == pytest.approx(0.2)
  assert variance == pytest.approx(0.02 + 0.04 / 3)
  # With less spread than noise v = 0: weights 10 and 2.5, noise .1 and .4.
  pair = [potential.Gain(0.0, 0.1), potential.Gain(0.5, 0.4)]
  mean, variance = trust.constant(pair)
  assert mean == pytest.approx(0.1) and variance == pytest.approx(1 / 12.5)


def test_left_out_scores_by_refitting():
  rng = np.random.default_rng(3)
  inputs = rng.normal(size=(9, 3))
  labelled = [0, 1, 2, 4, 5, 6, 8]
  gains = [
      potential.Gain(float(v), float(n))
      for v, n in zip(
          rng.normal(size=7) / 2, rng.uniform(0.02, 0.2, 7), strict=True
      )
  ]
  lines = [set() for _ in range(9)]
  lines[2], lines[5] = {5, 7}, {2}
  rows = []
  for place, row in enumerate(labelled):
    kept = [
        (i, g)
        for i, g in zip(labelled, gains, strict=True)
        if i != row and i not in lines[row]
    ]
    seen = potential.predict(inputs, [i for i, _ in kept], [g for _, g in kept])
    told = gains[place]
    flat = trust.constant([g for _, g in kept])
    rows.append(
        [
            stats.norm.logpdf(told.value, m, math.sqrt(v + told.variance))
            for m, v in ((seen.mean[row], seen.sd[row] ** 2), (0, 0.25), flat)
        ]
    )
  got = trust.judge(inputs, labelled, gains, lines)
  means = np.mean(rows, axis=0)
  assert got.labels == 7
  np.testing.assert_allclose(got[1:4], means, atol=1e-8)
  rival = 1 + int(np.argmax(means[1:]))
  ahead = np.asarray(rows)[:, 0] - np.asarray(rows)[:, rival]
  assert got.advantage == pytest.approx(ahead.mean(), abs=1e-8)
  assert got.error == pytest.approx(ahead.std(ddof=1) / 7**0.5, abs=1e-8)
  assert got.trusted == (got.advantage > got.error)


def _share_trusted(slope, runs=30):
  """Share of samples of 40 labels in which the process is trusted."""
  kept = 0
  for seed in range(runs):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(40, 5))
    values = np.tanh(slope * inputs[:, 0]) + rng.normal(0, 0.2, size=40)
    kept += trust.judge(
        inputs, range(40), _gains(values, 0.04), [()] * 40
    ).trusted
  return kept / runs


def test_what_features_tell_is_trusted_and_noise_is_not():
  assert _share_trusted(1.0) >= 0.95
  # Without a signal the constant is right, and is hardly ever beaten.
  assert _share_trusted(0.0) <= 0.1


def test_labels_of_one_line_do_not_vouch_for_each_other():
  # Twins in features and label, as mother and child share descendants; the
  # labels of different lines have nothing in common.
  rng = np.random.default_rng(0)
  places = rng.normal(size=(12, 4))
  values = rng.choice([-0.7, 0.7], size=12)
  inputs = np.repeat(places, 2, axis=0) + rng.normal(0, 0.01, size=(24, 4))
  gains = _gains(np.repeat(values, 2))
  alone = [()] * 24
  paired = [{row ^ 1} for row in range(24)]
  assert trust.judge(inputs, range(24), gains, alone).trusted
  assert not trust.judge(inputs, range(24), gains, paired).trusted


def test_margin_moves_the_bar():
  scores = np.asarray([[-0.5, -1, -2], [-0.9, -1, -2], [-1, -1, -2.0]])
  # Ahead by .5, .1, 0: mean .2, sd .264575, error .152753.
  got = trust.verdict(scores)
  assert got.advantage == pytest.approx(0.2)
  assert got.error == pytest.approx(0.152753, abs=1e-6)
  assert got.trusted and not trust.verdict(scores, 1.5).trusted
  # The better rival counts: here the constant, which is ahead.
  assert not trust.verdict(scores[:, [0, 2, 1]] - [0.3, 0, 0], 0.0).trusted


def test_too_few_labels_are_not_trusted():
  inputs = np.eye(6)
  few = trust.judge(inputs, range(4), _gains([0.1] * 4), [()] * 6)
  assert few == trust.UNKNOWN and not few.trusted
  # Enough labels, but all of one line.
  line = [set(range(6)) - {i} for i in range(6)]
  assert trust.judge(inputs, range(6), _gains([0.1] * 6), line) == trust.UNKNOWN
