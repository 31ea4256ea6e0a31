import math

import numpy as np
import pytest

from poise_jax.discovery.parents import draws

OPTIONS = {"temperature": 0.5, "uniform_share": 0.1}


def test_odds_by_hand():
  # exp(0), exp(1), exp(2) over their sum, .9 of it, and .1 / 3 to each.
  total = 1 + math.e + math.e**2
  got = draws.odds(np.asarray([0.0, 0.5, 1.0]), (), **OPTIONS)
  expected = [0.1 / 3 + 0.9 * math.e**i / total for i in range(3)]
  np.testing.assert_allclose(got, expected)
  # Without the last, over the first two.
  left = draws.odds(np.asarray([0.0, 0.5, 1.0]), (2,), **OPTIONS)
  share = 0.9 / (1 + math.e)
  np.testing.assert_allclose(left, [0.05 + share, 0.05 + share * math.e, 0.0])


def test_temperature_zero_takes_the_first_of_the_best():
  got = draws.odds(
      np.asarray([1.0, 3.0, 3.0]), (), temperature=0.0, uniform_share=0.3
  )
  np.testing.assert_allclose(got, [0.1, 0.8, 0.1])


def test_large_preferences_do_not_overflow():
  got = draws.odds(
      np.asarray([1e6, -1e6]), (), temperature=0.01, uniform_share=0.0
  )
  assert got.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "change", [{"temperature": -1.0}, {"uniform_share": 1.5}]
)
def test_odds_refuse_nonsense(change):
  with pytest.raises(ValueError, match="`temperature` must be"):
    draws.odds(np.zeros(2), (), **(OPTIONS | change))


def test_odds_refuse_an_empty_urn():
  with pytest.raises(ValueError, match="leave a node to draw, got all 2"):
    draws.odds(np.zeros(2), (0, 1), **OPTIONS)


def test_draws_come_with_the_odds_they_have():
  preferences = np.asarray([0.0, 0.4, 0.2, -0.5])
  following = lambda done: draws.odds(preferences, done, **OPTIONS)
  rng = np.random.default_rng(0)
  first, pairs, count = np.zeros(4), np.zeros((4, 4)), 3_000
  for _ in range(count):
    drawn = draws.draw(following, 2, rng)
    first[drawn.chosen[0]] += 1 / count
    pairs[drawn.chosen] += 1 / count
  assert np.abs(first - following(())).max() < 4 * 0.5 / math.sqrt(count)
  for i in range(4):
    expected = following(())[i] * following((i,))
    assert np.abs(pairs[i] - expected).max() < 4 * 0.5 / math.sqrt(count)
  np.testing.assert_allclose(drawn.probabilities[0], following(()))
  np.testing.assert_allclose(
      drawn.probabilities[1], following(drawn.chosen[:1])
  )


def test_draws_are_a_function_of_the_generator():
  following = lambda done: draws.odds(np.zeros(9), done, **OPTIONS)
  one, same, other = (
      draws.draw(following, 5, np.random.default_rng(s)).chosen
      for s in (1, 1, 2)
  )
  assert one == same != other
  assert len(set(one)) == 5


def test_without_a_generator_the_most_probable_is_certain():
  following = lambda done: draws.odds(
      np.asarray([0.0, 2.0, 1.0]), done, **OPTIONS
  )
  drawn = draws.draw(following, 2, None)
  assert drawn.chosen == (1, 2)
  assert drawn.probabilities.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_no_odds_end_the_draws():
  only = lambda done: np.asarray([0.0, float(not done)])
  drawn = draws.draw(only, 3, np.random.default_rng(0))
  assert drawn.chosen == (1,)
  assert drawn.probabilities.tolist() == [[0.0, 1.0]]
