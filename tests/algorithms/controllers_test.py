import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import controllers

SCALAR = jnp.float32


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "coefficient, entropy, expected",
    [
        (0.5, 0.1, 0.505),
        (0.5, 0.2, 0.505),  # the target itself counts as too low
        (0.5, 0.3, 0.495),
        (1.0, 0.1, 1.0),
        (0.0, 0.3, 0.0),
    ],
)
def test_stepped_entropy(coefficient, entropy, expected):
  actual = controllers.stepped_entropy(
      SCALAR(coefficient), SCALAR(entropy), target=0.2, step=0.005
  )
  close(actual, expected)


def test_entropy_gate_closes_above_the_target():
  gates = [
      float(controllers.entropy_gate(SCALAR(h), target=0.25))
      for h in (0.0, 0.25, 0.26)
  ]
  assert gates == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "coefficient, entropy, expected",
    [
        (0.01, 0.3, 0.01),
        (0.01, 0.1, 0.01 * np.exp(0.5 * 0.2)),
        (0.01, 0.7, 0.01 * np.exp(-0.5 * 0.4)),
        (0.1, 0.0, 0.1),  # already at the maximum
        (0.0, 0.0, 0.0),
    ],
)
def test_proportional_entropy(coefficient, entropy, expected):
  actual = controllers.proportional_entropy(
      SCALAR(coefficient), SCALAR(entropy), target=0.3, rate=0.5, maximum=0.1
  )
  close(actual, expected)


@pytest.mark.parametrize(
    "divergence, expected",
    # Error of +10 %, then beyond the bounds of 20 % on either side.
    [(0.11, 2.0 * 1.001), (0.5, 2.0 * 1.002), (0.0, 2.0 * 0.998)],
)
def test_proportional_kl(divergence, expected):
  actual = controllers.proportional_kl(
      SCALAR(2.0), SCALAR(divergence), target=0.1, horizon=1000.0, count=10.0
  )
  close(actual, expected)


def test_a_batch_without_tokens_moves_nothing():
  kept = lambda mask: controllers.kept_if_empty(
      SCALAR(0.7), SCALAR(0.5), jnp.array([[mask]])
  )
  assert [float(kept(m)) for m in ([0.0, 0.0], [0.0, 1.0])] == [
      0.5,
      SCALAR(0.7),
  ]


def test_linear_schedule():
  points = [
      float(controllers.linear_schedule(SCALAR(t), start=0.4, end=0.2))
      for t in (0.0, 0.5, 1.0)
  ]
  close(points, [0.4, 0.3, 0.2])


def test_measurements_are_constants_to_the_loss():
  def total(entropy):
    c = SCALAR(0.1)
    return (
        controllers.stepped_entropy(c, entropy, target=0.2, step=0.1)
        + controllers.entropy_gate(entropy, target=0.2)
        + controllers.proportional_entropy(
            c, entropy, target=0.2, rate=1.0, maximum=1.0
        )
        + controllers.proportional_kl(c, entropy, target=0.2, horizon=1.0)
    )

  assert float(jax.grad(total)(SCALAR(0.3))) == 0.0
