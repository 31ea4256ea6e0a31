import math

import pytest

from poise_jax.discovery.directives import lexicon, scales, words
from poise_jax.discovery.objectives import objective as objectives


def quantity(number, unit=None):
  return lexicon.Quantity(number, unit and lexicon.Unit(unit))


@pytest.mark.parametrize(
    "metric, number, unit, of_root, expected",
    [
        ("overall", 60.0, "%", False, (60.0, False)),
        ("overall", 0.6, None, False, (60.0, False)),
        ("accuracy/AMC", 80.0, "%", False, (0.8, False)),
        ("accuracy/AMC", 0.8, None, False, (0.8, False)),
        ("overall", 98.0, "%", True, (0.98, True)),
        ("response_length", 70.0, "%", False, (0.7, True)),
        ("response_length", 300.0, "tokens", False, (300.0, False)),
        ("kl", 1.1, "x", False, (1.1, True)),
        ("train_seconds", 60.0, "seconds", False, (60.0, False)),
    ],
)
def test_levels_by_hand(metric, number, unit, of_root, expected):
  got = scales.level(metric, quantity(number, unit), of_root)
  assert got == (pytest.approx(expected[0]), expected[1])


def test_complements_by_hand():
  assert scales.complement(quantity(20.0, "%")) == quantity(80.0, "%")
  assert scales.complement(quantity(0.2)) == quantity(80.0, "%")
  assert scales.complement(quantity(2.5, "points")) == quantity(97.5, "%")
  with pytest.raises(words.DirectiveError, match="between 0 and 100"):
    scales.complement(quantity(120.0, "%"))
  with pytest.raises(words.DirectiveError, match="measured in %"):
    scales.complement(quantity(3.0, "tokens"))


def test_units_are_those_of_what_is_recorded():
  assert scales.dimension("description_length") == "bits"
  assert scales.dimension("heldout_perplexity") is None
  said = quantity(3e4, "operations")
  assert scales.level("flops", said, False) == (3e4, False)
  with pytest.raises(words.DirectiveError, match="measured in bits"):
    scales.level("description_length", said, False)


def test_bits_of_entropy_are_nats():
  bound, relative = scales.level("entropy", quantity(1.0, "bits"), False)
  assert bound == pytest.approx(math.log(2)) and not relative


@pytest.mark.parametrize(
    "metric, number, unit",
    [
        ("kl", 1.0, "seconds"),
        ("overall", 101.0, "%"),
        ("overall", 1.0, "tokens"),
        ("heldout_perplexity", 1.0, "nats"),
    ],
)
def test_other_units_are_refused(metric, number, unit):
  with pytest.raises(words.DirectiveError):
    scales.level(metric, quantity(number, unit), False)
  with pytest.raises(words.DirectiveError, match="relative to the root"):
    scales.level("kl", quantity(1.0, "nats"), True)


def test_every_metric_has_a_worse_side_and_a_margin():
  for name in (*objectives.NAMES, "accuracy/AMC", "pass_at_k/AMC"):
    assert scales.worse(name) in (-1, 1)
  held = scales.held
  assert held("overall", -1, False).bound == 0.98
  assert held("kl", 1, False).bound == 1.02
  assert held("overall", -1, True).bound == 1.0
  assert held("description_length", 1, False).bound == 1.0
  assert "AIME24" in scales.measurable()
