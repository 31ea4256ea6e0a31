import pytest

from poise_jax.discovery.directives import possible, words
from poise_jax.discovery.objectives import objective as objectives

Constraint = objectives.Constraint


@pytest.mark.parametrize(
    "limit, message",
    [
        (Constraint("valid_rate", ">=", 1.95, True), "out of reach"),
        (Constraint("heldout_perplexity", "<=", 0.05, True), "out of reach"),
        (Constraint("heldout_perplexity", "<=", 0.9), "is 1 or more"),
        (Constraint("response_length", "<=", 0.0, True), "out of reach"),
        (Constraint("kl", "<=", -0.1), "0 or more"),
        (Constraint("overall", "<=", 0.9, True), "more is better"),
        (Constraint("accuracy/AMC", "<=", 0.9), "more is better"),
        (Constraint("tokens", ">=", 2.0, True), "less is better"),
    ],
)
def test_what_nothing_keeps_or_nobody_needs(limit, message):
  with pytest.raises(words.DirectiveError, match=message):
    possible.checked(limit)


@pytest.mark.parametrize(
    "limit",
    [
        Constraint("valid_rate", ">=", 1.05, True),
        Constraint("overall", ">=", 2.0, True),
        Constraint("truncated_rate", "<=", 0.0, True),
        Constraint("heldout_perplexity", "<=", 1.05, True),
        Constraint("entropy", ">=", 3.0, True),
        Constraint("kl", "<=", 0.05, True),
        Constraint("response_length", "<=", 300.0),
    ],
)
def test_what_can_be_kept(limit):
  assert possible.checked(limit) is limit


def test_a_check_leaves_the_side_open():
  possible.check(Constraint("overall", "<=", 0.9, True))
  with pytest.raises(words.DirectiveError, match="out of reach"):
    possible.check(Constraint("valid_rate", ">=", 3.0, True))
