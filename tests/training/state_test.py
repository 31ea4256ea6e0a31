"""The running pass rate of prompts like these."""

import numpy as np

from poise_jax.training import state


def test_nothing_seen_is_even_odds():
  rates = state.pass_rate(state.empty_history(), np.array([1, 5]))
  np.testing.assert_array_equal(rates, [0.5, 0.5])
  assert rates.dtype == np.float32


def test_counts_go_to_prompts_of_the_same_length():
  correct = np.array([[1, 1], [0, 1], [0, 0]], np.float32)
  history = state.add_to_history(
      state.empty_history(), np.array([2, 2, 3]), correct
  )
  # Two operations: 3 of 4 passed, (3+1)/(4+2); three: 0 of 2, 1/4.
  rates = state.pass_rate(history, np.array([2, 3, 4]))
  np.testing.assert_allclose(rates, [4 / 6, 1 / 4, 1 / 2])


def test_history_is_not_changed_in_place():
  before = state.empty_history()
  state.add_to_history(before, np.array([1]), np.ones((1, 2), np.float32))
  assert before.seen.sum() == 0
