import numpy as np
import pytest

from poise_jax.discovery.parents import acquisition, policies

WEIGHTS = acquisition.Weights(
    pareto=0.0,
    performance=1.0,
    diversity=0.0,
    potential=1.0,
    branch_penalty=0.3,
    temperature=0.2,
    uniform_share=0.1,
)


def _table(counts=0.0):
  columns = {
      "pareto": np.zeros(4),
      "performance": np.asarray([0.0, 0.8, 1.0, 0.6]),
      "diversity": np.zeros(4),
      "potential": np.asarray([1.0, 0.0, 0.0, 0.0]),
      "potential_counts": np.full(4, counts),
      "shrunken": np.asarray([50.0, 60.0, 59.0, 58.0]),
  }
  return acquisition.Table(
      ("r", "a", "aa", "b"), ("r", "a", "a", "b"), 0, columns
  )


def _softmax(preferences):
  keen = np.exp(np.asarray(preferences) / 0.2)
  return keen / keen.sum()


def test_epistemic_by_hand():
  got = policies.epistemic(_table(), WEIGHTS, ())
  np.testing.assert_allclose(got, 0.025 + 0.9 * _softmax([0, 0.8, 1, 0.6]))
  # `aa` is drawn, so `a` of the same branch costs 0.3.
  after = policies.epistemic(_table(), WEIGHTS, (2,))
  rest = 0.1 / 3 + 0.9 * _softmax([0, 0.5, 0.6])
  np.testing.assert_allclose(after, [rest[0], rest[1], 0.0, rest[2]])


def test_epistemic_hears_the_process_only_if_it_counts():
  got = policies.epistemic(_table(counts=1.0), WEIGHTS, ())
  np.testing.assert_allclose(got, 0.025 + 0.9 * _softmax([1, 0.8, 1, 0.6]))


def test_greedy_takes_the_best_posterior_mean():
  assert policies.greedy(_table(), WEIGHTS, ()).tolist() == pytest.approx(
      [0.025, 0.925, 0.025, 0.025]
  )
  # Branches do not matter to it.
  assert np.argmax(policies.greedy(_table(), WEIGHTS, (1,))) == 2


def test_uniform():
  assert policies.uniform(_table(), WEIGHTS, ()).tolist() == [0.25] * 4
  left = policies.uniform(_table(), WEIGHTS, (0, 3))
  assert left.tolist() == [0, 0.5, 0.5, 0]


def test_best_of_n_only_ever_takes_the_root():
  assert policies.best_of_n(_table(), WEIGHTS, ()).tolist() == [1, 0, 0, 0]
  assert not policies.best_of_n(_table(), WEIGHTS, (0,)).any()


@pytest.mark.parametrize("name", sorted(policies.POLICIES))
def test_odds_add_up_until_nothing_is_left(name):
  policy = policies.POLICIES[name]
  assert policy(_table(), WEIGHTS, ()).sum() == pytest.approx(1.0)
  assert not policy(_table(), WEIGHTS, (3, 1, 0, 2)).any()
