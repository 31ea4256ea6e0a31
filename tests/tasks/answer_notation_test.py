"""One notation, and numbers by hand."""

from fractions import Fraction

import pytest

from poise_jax.tasks import answer_notation


@pytest.mark.parametrize(
    "text, normal",
    [
        (r"$\dfrac12$", r"\frac{1}{2}"),
        (r"\left( 3, 4 \right]", "( 3, 4 ]"),
        (r"10,\!080", "10,080"),
        (r"30^\circ", "30"),
        (r"\sqrt3", r"\sqrt{3}"),
        ("4.6e-24", r"4.6 \times 10^{-24}"),
        ("1 and 2", "1,2"),
        ("{12}", "12"),
        ("{1}+{2}", "{1}+{2}"),
        ("", ""),
    ],
)
def test_normal(text, normal):
  assert answer_notation.normal(text) == normal


@pytest.mark.parametrize(
    "text, value, percent, exact, scientific",
    [
        ("12", 12, False, True, False),
        ("-1,234.5", Fraction(-2469, 2), False, False, False),
        ("58 500", 58500, False, True, False),
        (".25", Fraction(1, 4), False, False, False),
        (r"-\frac{3}{4}", Fraction(-3, 4), False, True, False),
        ("-1./3", Fraction(-1, 3), False, True, False),
        (r"2\frac{1}{2}", Fraction(5, 2), False, True, False),
        ("-2 1/2", Fraction(-5, 2), False, True, False),
        (r"4.5 \times 10^{3}", 4500, False, False, True),
        (r"10^{-2}", Fraction(1, 100), False, False, True),
        ("8%", 8, True, True, False),
        ("5 cm", 5, False, True, False),
        ("5cm", 5, False, True, False),
        ("5 m", 5, False, True, False),
        (r"5\text{m}", 5, False, True, False),
        ("5m/s", 5, False, True, False),
    ],
)
def test_numbers(text, value, percent, exact, scientific):
  number = answer_notation.number(text)
  assert number == (value, percent, exact, scientific)


@pytest.mark.parametrize(
    "text",
    ["", "x", "2x", "2t", "3m", "2V", "6m^2", "4s", "1,23", "1/0", r"\frac{1}{0}", "10^{99999}",
     "1" * 1000, "1-2", "(1,2)"],
)  # fmt: skip
def test_what_is_no_plain_number(text):
  assert answer_notation.number(text) is None


@pytest.mark.parametrize(
    "gold, answer, scientific, expected",
    [
        (1 / 3, 0.333333, False, True),
        (1 / 3, 0.3333, False, False),
        (4.6e-24, 4.7e-24, True, False),
        (4.6e-24, 4.6001e-24, True, True),
        (0.0, 1e-10, False, True),
        (float("inf"), 1.0, False, False),
    ],
)
def test_tolerance(gold, answer, scientific, expected):
  assert answer_notation.close(gold, answer, scientific) is expected


@pytest.mark.parametrize(
    "gold, answer, expected",
    [
        ("3 cm", "3 km", True),
        ("3cm", r"3\,\mathrm{km}", True),
        ("12 hours", "12 days", True),
        ("4 m", "4 s", True),
        (r"5\text{ m/s}", "5 km/h", True),
        ("3 cm", "3", False),
        ("3", "3 cm", False),
        ("3 cm", r"3 \text{ centimeters}", False),
        ("12 hours", "12 h", False),
        (r"864 \mbox{ inches}^2", r"864\text{ square inches}", False),
        (r"30^\circ", "30 degrees", False),
        (r"2\sqrt{3} \text{ cm}", r"2\sqrt{3} \text{ m}", True),
        ("5 apples", "5 pears", False),
        ("5 hours in total", "5 hours", False),
        ("5 hours a day", "5 hours", False),
        ("5 hours a day", "5 minutes a day", True),
        (r"5\text{ miles per hour}", r"5\text{ mi/h}", False),
        ("3m", "3s", False),  # No units but variables: for algebra to tell.
        ("", "3 cm", False),
    ],
)
def test_units_that_differ(gold, answer, expected):
  texts = answer_notation.normal(gold), answer_notation.normal(answer)
  assert answer_notation.units_differ(*texts) is expected
