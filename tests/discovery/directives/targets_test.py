import pytest

from poise_jax.discovery.directives import clauses, targets, words


def of(text):
  (clause,) = clauses.split(words.read(text))
  return [(t.metric, t.move) for t in targets.of(clause)]


@pytest.mark.parametrize(
    "text, metric, move",
    [
        ("shorter answers", "response_length", -1),
        ("shorter code", "description_length", -1),
        ("shorter training", "train_seconds", -1),
        ("less verbose", "response_length", -1),
        ("an algorithm that trains faster", "train_seconds", -1),
        ("higher speed", "train_seconds", -1),
        ("improve perplexity", "heldout_perplexity", -1),
        ("lose entropy", "entropy", -1),
        ("hurt KL", "kl", 1),
        ("accuracy", "overall", 0),
        ("accuracy on Minerva", "accuracy/Minerva", 0),
        ("better on AIME25", "pass_at_k/AIME25", 1),
        ("fewer errors", "overall", 1),
        ("an algorithm for shorter answers", "response_length", -1),
    ],
)
def test_what_moves_which_way(text, metric, move):
  assert of(text) == [(metric, move)]


@pytest.mark.parametrize(
    "text, message",
    [
        ("raise pass@k", "needs a problem set"),
        ("improve entropy", "raise or lower"),
        ("better on AIME", "AIME24 or AIME25"),
        ("faster answers", "not measured"),
        ("lower entropy on AMC", "leave the set out"),
        ("shorter answers on AMC", "leave the set"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
