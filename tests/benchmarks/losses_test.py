import jax
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.benchmarks import losses


def test_the_batch_is_uneven_off_policy_and_masked():
  batch = losses.make_batch(6, 4, 20)
  assert batch.logprobs.shape == (6, 4, 20)
  lengths = np.asarray(batch.lengths)
  assert lengths.min() < lengths.max() <= 20
  np.testing.assert_array_equal(batch.completion_mask.sum(-1), lengths)
  assert np.any(batch.logprobs != batch.old_logprobs)
  assert 0 < np.mean(batch.correct) < 1
  masked = np.asarray(batch.completion_mask) == 0
  assert np.all(np.asarray(batch.logprobs)[masked] == 0)


def test_what_is_timed_is_value_gradients_state_and_metrics():
  batch = losses.make_batch(3, 2, 5)
  algorithm = catalog.make("dace")
  (value, (state, metrics)), grads = losses.compile_loss(algorithm, batch)()
  assert np.isfinite(value) and set(state) == {"entropy_coef"}
  assert "advantages/mean_abs" in metrics
  assert set(grads) == {"logprobs", "entropy"}
  assert all(np.any(g != 0) for g in jax.tree.leaves(grads))


def test_the_table_has_the_slowest_first():
  row = {"milliseconds": 1.0, "ratio_low": 0.9, "ratio_high": 3.1}
  figures = {"losses": {"a": row | {"ratio": 1.0}, "b": row | {"ratio": 3.0}}}
  lines = losses.table(figures).splitlines()
  assert lines[2] == "| b | 1.00 | 3.00 (0.90-3.10) |"
  assert lines[3].startswith("| a |")


@pytest.mark.parametrize(
    "match, words",
    [("(", "not a regular expression"), ("nothing", "none of: grpo, ")],
)
def test_an_expression_that_matches_nothing_is_refused(match, words):
  with pytest.raises(ValueError, match=words):
    losses.run(match, 1, 2, 1, 1)
