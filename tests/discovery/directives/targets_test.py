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
        ("the model's answers shorter", "response_length", -1),
        ("a less verbose model", "response_length", -1),
        ("a smaller loss function", "description_length", -1),
        ("smaller KL", "kl", -1),
        ("a more accurate model on all problems", "overall", 1),
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
        ("smaller model", "the size of a policy is not measured"),
        ("smaller policy", "the size of a policy is not measured"),
        ("a compact model", "the size of a policy is not measured"),
        ("shorter model", "the length of a policy is not measured"),
        ("tiny networks", "the size of a policy is not measured"),
        ("keep the model small", "the size of a policy is not measured"),
        ("simpler model", "the simplicity of a policy is not measured"),
        ("shorter search", "the length of a campaign is not measured"),
        ("make it smaller", "size as such is not measured"),
        ("shorter wrong answers", "something else at once"),
        ("accuracy for long answers", "something else at once"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
