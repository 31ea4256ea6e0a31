import pytest

from poise_jax.discovery.directives import clauses, limits, targets, words


def of(text):
  (clause,) = clauses.split(words.read(text))
  return limits.of(clause, targets.of(clause))


@pytest.mark.parametrize(
    "text, limit",
    [
        ("30% shorter", "response_length <= 0.7 x root"),
        ("at most 10% longer", "response_length <= 1.1 x root"),
        ("not more than 10% longer", "response_length <= 1.1 x root"),
        ("twice as fast", "train_seconds <= 0.5 x root"),
        ("at most twice the tokens", "tokens <= 2 x root"),
        ("accuracy may fall 1%", "overall >= 0.99 x root"),
        ("entropy within 5% of the root", "entropy >= 0.95 x root"),
        ("never let KL exceed 0.3", "kl <= 0.3"),
        ("entropy must not go below 0.2", "entropy >= 0.2"),
        ("at most 4000 bits", "description_length <= 4000"),
        ("at least 80% of the root's entropy", "entropy >= 0.8 x root"),
        ("keep 95% of the accuracy", "overall >= 0.95 x root"),
        ("training in at most 90 s", "train_seconds <= 90"),
    ],
)
def test_limits(text, limit):
  assert [str(part) for part in of(text)] == [limit]


def test_spending():
  assert of("at most 2 hours") == [limits.Spending("seconds", 7200.0)]
  assert of("$5") == [limits.Spending("dollars", 5.0)]


@pytest.mark.parametrize(
    "text, message",
    [
        ("at most 300 tokens", "per answer"),
        ("at least 2 hours", "upper limit"),
        ("0 candidates", "above 0"),
        ("KL 0.1", "at most or at least"),
        ("raise accuracy by 5 points", "% of"),
        ("reduce length by up to 10%", "unclear"),
        ("at most 60% accuracy", "more is better"),
        ("KL from 1 to 2", "several numbers"),
        ("reduce length by 130%", "more than 100"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
