"""How far a metric moves, as a person would say it."""

import pytest

from poise_jax.discovery.directives import clauses, limits, targets, words


def of(text):
  (clause,) = clauses.split(words.read(text))
  return limits.of(clause, targets.of(clause))


@pytest.mark.parametrize(
    "text, limit",
    [
        ("reduce length 2x", "response_length <= 0.5 x root"),
        ("reduce length by 2x", "response_length <= 0.5 x root"),
        ("cut length 3x", "response_length <= 0.3333 x root"),
        ("slash the tokens 4x", "tokens <= 0.25 x root"),
        ("reduce length at least 2x", "response_length <= 0.5 x root"),
        ("2x fewer tokens", "tokens <= 0.5 x root"),
        ("three times less KL", "kl <= 0.3333 x root"),
        ("length 2x smaller", "response_length <= 0.5 x root"),
        ("reduce length to half", "response_length <= 0.5 x root"),
        ("reduce length to 0.5x", "response_length <= 0.5 x root"),
        ("shorten answers 3x", "response_length <= 0.3333 x root"),
        ("shorten answers by half", "response_length <= 0.5 x root"),
        ("shorten answers to half", "response_length <= 0.5 x root"),
        ("shorten answers to at most half", "response_length <= 0.5 x root"),
        ("raise entropy 3x", "entropy >= 3 x root"),
        ("speed up training 2x", "train_seconds <= 0.5 x root"),
        ("at least 2x faster training", "train_seconds <= 0.5 x root"),
        ("half as long", "response_length <= 0.5 x root"),
        ("length may rise 2x", "response_length <= 2 x root"),
        ("length must not rise 2x", "response_length <= 2 x root"),
        ("the length may at most double", "response_length <= 2 x root"),
        ("double the stability", "kl <= 0.5 x root"),
        ("accuracy may fall at most 2x", "overall >= 0.5 x root"),
    ],
)
def test_multiples_go_the_way_that_is_said(text, limit):
  assert [str(part) for part in of(text)] == [limit]


@pytest.mark.parametrize(
    "text, limit",
    [
        ("accuracy must not drop more than 2%", "overall >= 0.98 x root"),
        ("raise accuracy by at least 5%", "overall >= 1.05 x root"),
        ("improve stability by 20%", "kl <= 0.8 x root"),
        ("reduce truncated answers by half", "truncated_rate <= 0.5 x root"),
        ("lower perplexity by 10%", "heldout_perplexity <= 0.9 x root"),
    ],
)
def test_percentages_of_the_root(text, limit):
  assert [str(part) for part in of(text)] == [limit]


@pytest.mark.parametrize(
    "text, message",
    [
        ("reduce errors by 20%", "error rate under 20%"),
        ("cut errors in half", "error rate under 20%"),
        ("halve the error rate", "error rate under 20%"),
        ("10% fewer errors", "error rate under 20%"),
        ("one third fewer mistakes", "error rate under 20%"),
        ("errors may rise by 2%", "error rate under 20%"),
        ("reduce invalid answers by half", "error rate under 20%"),
        ("decrease the invalid rate 2x", "error rate under 20%"),
        ("20% less invalid", "error rate under 20%"),
        ("error rate within 5%", "error rate under 20%"),
        ("reduce forgetting by half", "is a rise of"),
        ("20% less forgetting", "is a rise of"),
        ("reduce speed 2x", "less is better"),
        ("increase length by half", "not where it is to move"),
        ("lengthen answers by half", "not where it is to move"),
        ("slow training to half", "not where it is to move"),
        ("reduce length at most 2x", "unclear"),
        ("raise accuracy at least 60%", "leaves open"),
        ("good accuracy of at least 60%", "leaves open"),
        ("raise the valid rate by 95%", "out of reach"),
        ("double the valid rate", "out of reach"),
        ("lower perplexity by 80%", "out of reach"),
        ("reduce length by 100%", "out of reach"),
        ("accuracy half the root's", "more is better"),
        ("double the tokens", "less is better"),
    ],
)
def test_what_is_no_change_of_what_is_recorded(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
