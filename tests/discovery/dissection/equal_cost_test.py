"""Curves with known integrals."""

import numpy as np
import pytest

from poise_jax.discovery.dissection import equal_cost


def _run(values, tokens=None, kl=None, seconds=None):
  curve = {equal_cost.VALUE: list(values)}
  if tokens is not None:
    curve["num_tokens"] = list(tokens)
  if kl is not None:
    curve["kl"] = list(kl)
  return equal_cost.Run(50.0, "", curve, seconds)


def test_costs():
  run = _run([0.1, 0.2, 0.3], [10.0, 20.0, 5.0], [0.0, 0.2, 0.1], 6.0)
  np.testing.assert_allclose(equal_cost.tokens(run), [10, 30, 35])
  np.testing.assert_allclose(equal_cost.divergence(run), [0, 0.2, 0.2])
  np.testing.assert_allclose(equal_cost.seconds(run), [2, 4, 6])
  bare = _run([0.1])
  assert [cost(bare) for cost in equal_cost.COSTS.values()] == [None] * 3


def test_reads_both_where_both_have_been():
  # Three steps: the mean over the last quarter is over one step.
  child = _run([0.1, 0.3, 0.7], [10.0, 10.0, 20.0])  # at 10, 20, 40
  root = _run([0.2, 0.3, 0.5], [10.0, 10.0, 10.0])  # at 10, 20, 30
  found = equal_cost.compare([child], [root], equal_cost.tokens)
  # Up to 30 tokens, where the child is half way from 0.3 to 0.7.
  assert found.at == 30.0
  assert found.child == pytest.approx(0.5)
  assert found.root == pytest.approx(0.5)
  assert found.level.mean == pytest.approx(0.0)
  # Means over 10 to 30: child (0.2 + 0.4) / 2, root (0.25 + 0.4) / 2.
  assert found.mean.mean == pytest.approx(0.3 - 0.325)
  assert found.pairs == 1
  assert found.level.low is None


def test_a_child_that_only_writes_more_gains_nothing():
  steps = np.arange(1, 17)
  # Both learn by the token; the child has twice as many of them in each step.
  root = [_run(0.01 * steps + e, [10.0] * 16) for e in (0.0, 0.01)]
  child = [_run(0.02 * steps + e, [20.0] * 16) for e in (0.0, 0.01)]
  assert child[0].curve[equal_cost.VALUE][-1] == pytest.approx(0.32)
  found = equal_cost.compare(child, root, equal_cost.tokens)
  # Smoothing over four steps lags by 1.5 steps: 15 tokens or 30.
  assert found.level.mean == pytest.approx(-0.015, abs=1e-9)
  assert found.at == 160.0


def test_what_cannot_be_compared_is_left_out():
  ok = _run([0.1, 0.2], [1.0, 1.0])
  far = _run([0.1, 0.2], [10.0, 10.0])
  none = _run([0.1, 0.2])
  assert equal_cost.compare([ok], [none], equal_cost.tokens) is None
  assert equal_cost.compare([ok], [far], equal_cost.tokens) is None
  found = equal_cost.compare([ok, ok], [none, ok], equal_cost.tokens)
  assert found.pairs == 1
