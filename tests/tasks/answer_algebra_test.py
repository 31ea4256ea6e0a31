"""Formulas by algebra, in this process: none of these hangs."""

import pytest

from poise_jax.tasks import answer_algebra


@pytest.mark.parametrize(
    "gold, answer, expected",
    [
        (r"\sqrt{12}", r"2\sqrt{3}", True),
        (r"\sqrt{12}", r"3\sqrt{2}", False),
        ("2^{100}", "2^{100}+1", False),
        ("(x+1)^2", "x^2+2x+1", True),
        ("(x+1)^2", "x^2+2x+2", False),
        (r"e^{i\pi}", "-1", True),
        (r"10^{-20}", r"2\cdot 10^{-20}", False),
        (r"\pi", "3.141593", True),
        (r"\pi", "3.14", False),
        ("x > 5", "5 < x", True),
        (r"\frac{", "1", None),
    ],
)
def test_formulas(gold, answer, expected):
  assert answer_algebra.same(gold, answer) is expected
