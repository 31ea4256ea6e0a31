"""Measures of problems, by hand."""

import numpy as np
import pytest

from poise_jax.evaluation import measures, proportions, statistics


def test_by_hand(stored):
  ramble = stored.completion(
      False, "one two  three", finished=False, format_valid=False, answer=None
  )
  records = [
      stored.record(10, 2, 2),
      stored.record(9, 0, 2)._replace(
          completions=(stored.completion(True, "a b"), ramble)
      ),
  ]
  found = measures.measure(records)
  assert found.ids == ("set/9", "set/10")
  assert found.samples == 2
  np.testing.assert_array_equal(found.hits, [1, 2])
  np.testing.assert_array_equal(found.score(2), [1, 1])
  np.testing.assert_array_equal(found.score(1), [0.5, 1])
  # The one that rambled has no answer to vote with.
  np.testing.assert_array_equal(found.majority, [1, 1])
  np.testing.assert_array_equal(found.tokens, [(3 + 14) / 2, 5])
  np.testing.assert_array_equal(found.words, [(2 + 3) / 2, 1])
  np.testing.assert_array_equal(found.valid, [0.5, 1])
  np.testing.assert_array_equal(found.truncated, [0.5, 0])


def test_samples_must_be_equally_many(stored):
  with pytest.raises(ValueError, match=r"one number of samples.*\[1, 2\]"):
    measures.measure([stored.record(0, 1, 1), stored.record(1, 1, 2)])
  with pytest.raises(ValueError, match=r"must have problems.*\[\]"):
    measures.measure([])


def test_natural_order():
  names = ["a/10", "a/9", "b", "a", "12+3", "a/9b"]
  found = sorted(names, key=measures.natural)
  assert found == ["a", "a/9", "a/9b", "a/10", "b", "12+3"]


def test_intervals_by_kind():
  solved = np.array([0.0, 1, 1, 0, 0])
  interval, method = measures.interval([solved])
  assert (interval, method) == (proportions.wilson(2, 5), "Wilson")
  assert measures.interval([solved], share=False)[1] == "BCa bootstrap"
  assert measures.interval([solved / 2])[1] == "BCa bootstrap"
  assert measures.interval([solved, 1 - solved])[1] == "crossed bootstrap"


def test_text():
  shown = lambda *x: measures.text(statistics.Interval(*x)._asdict())
  assert shown(26.66, 14.18, 44.44) == "26.7 [14.2, 44.4]"
  assert shown(-0.01, -3.0, 0.04) == "0.0 [-3.0, 0.0]"
  assert shown(1.0, None, None) == "1.0 [no interval]"
