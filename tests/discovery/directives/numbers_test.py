import math

import pytest

from poise_jax.discovery.directives import lexicon, numbers


@pytest.mark.parametrize(
    "text, count, number, dimension",
    [
        ("300 tokens", 2, 300.0, "tokens"),
        ("1.5 k tokens", 3, 1500.0, "tokens"),
        ("2 million tokens", 3, 2e6, "tokens"),
        ("1,200 s", 2, 1200.0, "seconds"),
        ("half an hour", 3, 1800.0, "seconds"),
        ("an hour", 2, 3600.0, "seconds"),
        ("ninety minutes", 2, 5400.0, "seconds"),
        ("twenty five percent", 3, 25.0, "%"),
        ("$ 5", 2, 5.0, "dollars"),
        ("50 cents", 2, 0.5, "dollars"),
        ("a dozen candidates", 3, 12.0, "candidates"),
        ("2 gflops", 2, 2e9, "flops"),
        ("50 operations", 2, 50.0, "operations"),
        ("2 x", 2, 2.0, "x"),
        ("500 bytes", 2, 4000.0, "bits"),
        (".5", 1, 0.5, None),
        ("1e6", 1, 1e6, None),
    ],
)
def test_quantities(text, count, number, dimension):
  found, quantity = numbers.quantity(text.split())
  assert found == count
  assert quantity.number == pytest.approx(number)
  assert (quantity.unit and quantity.unit.dimension) == dimension


@pytest.mark.parametrize("text", ["tokens", "a loss", "an answer", "half the"])
def test_what_begins_no_number(text):
  assert numbers.quantity(text.split()) == (0, None)


def test_too_large_a_number_is_infinite():
  assert numbers.quantity(["9" * 400])[1].number == math.inf
  assert numbers.quantity(["1e999"])[1] == lexicon.Quantity(math.inf, None)


def test_pass_at_k():
  assert numbers.pass_at("pass @ 32 on".split()) == (3, 32.0)
  assert numbers.pass_at("pass at 1".split()) == (3, 1.0)
  assert numbers.pass_at("pass @ k".split()) == (0, 0.0)
  assert numbers.pass_at("pass @ 0".split()) == (0, 0.0)
