"""Holm's correction by hand, and the rate of false findings."""

import numpy as np
import pytest

from poise_jax.evaluation import multiplicity


def test_by_hand():
  found = multiplicity.holm({"a": 0.04, "b": 0.01, "c": 0.03})
  assert found == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
  assert list(found) == ["a", "b", "c"]
  assert multiplicity.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
  assert multiplicity.holm({"a": 0.02}) == {"a": 0.02}
  assert multiplicity.holm({}) == {}


def test_p_values_lie_between_0_and_1():
  with pytest.raises(ValueError, match="got 1.5 for 'b'"):
    multiplicity.holm({"a": 0.1, "b": 1.5})


def test_false_findings():
  uniform = np.random.default_rng(0).random((4000, 6))
  rows = [dict(zip("abcdef", map(float, row), strict=True)) for row in uniform]
  found = [min(multiplicity.holm(row).values()) <= 0.05 for row in rows]
  assert np.mean(found) == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=0.014)
