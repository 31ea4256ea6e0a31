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
        ("KL may rise to 0.2", "kl <= 0.2"),
        ("accuracy may fall to 55%", "overall >= 55"),
        ("maximum response length 300", "response_length <= 300"),
        ("minimum accuracy of 60%", "overall >= 60"),
        ("flops of the loss under 30000", "flops <= 30000"),
        ("complexity below 4000 bits", "description_length <= 4000"),
        ("verbosity under 300 tokens", "response_length <= 300"),
        ("answers shorter than 300", "response_length <= 300"),
        ("faster than 90 seconds", "train_seconds <= 90"),
    ],
)
def test_limits(text, limit):
  assert [str(part) for part in of(text)] == [limit]


@pytest.mark.parametrize(
    "text, limit",
    [
        ("error rate under 20%", "overall >= 80"),
        ("keep the error rate below 30%", "overall >= 70"),
        ("never let the error rate exceed 20%", "overall >= 80"),
        ("error rate not above 15%", "overall >= 85"),
        ("error rate under 0.2", "overall >= 80"),
        ("error rate 20%", "overall >= 80"),
        ("reduce errors to 20%", "overall >= 80"),
        ("at most 10% wrong answers", "overall >= 90"),
        ("wrong answers at most a fifth", "overall >= 80"),
        ("at most 10% of answers may be wrong", "overall >= 90"),
        ("error rate on AMC below 40%", "accuracy/AMC >= 0.6"),
        ("invalid rate below 5%", "valid_rate >= 0.95"),
        ("keep format errors under 2%", "valid_rate >= 0.98"),
        ("invalid answers down to 3%", "valid_rate >= 0.97"),
        ("at most 5% invalid", "valid_rate >= 0.95"),
        ("no more than 5 percent unparsable", "valid_rate >= 0.95"),
        ("truncation rate under 5%", "truncated_rate <= 0.05"),
    ],
)
def test_what_is_left_of_the_whole(text, limit):
  assert [str(part) for part in of(text)] == [limit]


@pytest.mark.parametrize(
    "text, limit",
    [
        ("keep 95% valid", "valid_rate >= 0.95"),
        ("answers at least 95% valid", "valid_rate >= 0.95"),
        ("95% of the answers must be valid", "valid_rate >= 0.95"),
        ("keep at least 95% of the answers valid", "valid_rate >= 0.95"),
        ("make 95 percent of outputs parsable", "valid_rate >= 0.95"),
        ("97% valid answers", "valid_rate >= 0.97"),
        ("at least 60% correct", "overall >= 60"),
        ("answers must be 60% accurate", "overall >= 60"),
        ("at least 5% more accurate", "overall >= 1.05 x root"),
        ("keep 95% of the validity", "valid_rate >= 0.95 x root"),
    ],
)
def test_shares_of_adjectives_are_values(text, limit):
  assert [str(part) for part in of(text)] == [limit]


@pytest.mark.parametrize(
    "text, limit",
    [
        ("forgetting at most 5%", "heldout_perplexity <= 1.05 x root"),
        ("no more than 2% forgetting", "heldout_perplexity <= 1.02 x root"),
        ("forgetting within 5%", "heldout_perplexity <= 1.05 x root"),
        ("forget at most 5%", "heldout_perplexity <= 1.05 x root"),
    ],
)
def test_forgetting_is_a_rise(text, limit):
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
        ("at most 20 wrong answers", "no count"),
        ("at least 50 correct answers", "no count"),
        ("error rate at least 10%", "more is better"),
        ("at least 5% invalid", "more is better"),
        ("error rate at most 110% of the root's", "what is left"),
        ("stability above 0.5", "no value of its own"),
        ("speed above 10 seconds", "no value of its own"),
        ("throughput at least 100", "no value of its own"),
        ("stable above 0.5", "no value of its own"),
        ("simplicity of 50", "no value of its own"),
        ("complexity under 50", "no value of its own"),
        ("instability below 0.1", "no value of its own"),
        ("drift at most 5%", "no value of its own"),
        ("brevity at least 80%", "no value of its own"),
        ("forgetting below 0.1", "is a rise of"),
        ("forgetting at least 5%", "is a rise of"),
        ("training time at least 10 seconds", "less is better"),
        ("length at most 5%", "leaves open"),
        ("length under 0 tokens", "out of reach"),
        ("keep description under 50 operations", "in bits"),
        ("at most 100 ops", "in bits"),
        ("description length under 50 operations", "measured in bits"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
