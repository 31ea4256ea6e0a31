"""Break-downs: three kinds, and nothing else stops a run."""

import pytest

from poise_jax.training import collapse

SOUND = {
    "loss": [0.1, -2.0],
    "grad_norm": [0.5, 40.0],
    "entropy": [0.3, 0.002],
    "kl": [0.0, 9.9],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"loss": [0.1, float("nan")]}, "non-finite loss at step 3"),
        ({"grad_norm": [float("inf"), 1.0]}, "non-finite grad_norm at step 3"),
        ({"kl": [0.0, float("nan")]}, "non-finite kl at step 3"),
        ({"kl": [0.0, 900.0]}, ""),
        (
            {"entropy": [0.3, 0.0009]},
            "entropy collapse: below 0.001 nats a token at step 3",
        ),
    ],
)
def test_each_kind_is_named(changes, words):
  assert collapse.found(SOUND | changes, 3) == words


def test_without_a_reference_there_is_no_kl():
  columns = {name: values for name, values in SOUND.items() if name != "kl"}
  assert collapse.found(columns, 0) == ""


def test_only_a_kl_that_stays_high_is_a_collapse():
  columns = SOUND | {"kl": [20.0, 21.0]}
  assert breakdown_of(columns, [21.0]) == ""
  assert breakdown_of(columns, [21.0, 21.0, 0.1]) == ""
  words = "KL collapse: above 20 nats a token up to step 3"
  assert breakdown_of(columns, [0.1, 21.0, 300.0]) == words


def breakdown_of(columns, earlier):
  return collapse.found(columns, 3, earlier)
