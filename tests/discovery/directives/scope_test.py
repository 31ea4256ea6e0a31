"""Words that say of what a metric is, and must not be dropped."""

import pytest

from poise_jax.discovery.directives import clauses, scope, words


def check(text):
  (clause,) = clauses.split(words.read(text))
  scope.check(clause)


@pytest.mark.parametrize(
    "text, message",
    [
        ("improve accuracy on hard problems", "how hard"),
        ("accuracy on difficult questions", "how hard"),
        ("pass@1 on tough AIME24 problems", "how hard"),
        ("accuracy on easy ones", "how hard"),
        ("accuracy on long questions", "'long' questions"),
        ("keep the accuracy on short problems", "'short' problems"),
        ("shorter answers to long questions", "'long' questions"),
        ("accuracy on most problems", "'most' problems"),
        ("accuracy on the first problems", "'first' problems"),
        ("accuracy on 10 problems", "which share"),
        ("at least 50 answers correct", "which share"),
        ("raise accuracy on the training set", "trained on"),
        ("don't lose accuracy on the training data", "trained on"),
        ("training accuracy", "not recorded of training"),
        ("accuracy in training", "not recorded of training"),
        ("don't lose accuracy on any benchmark", "'any' benchmark"),
        ("accuracy on every dataset", "'every' dataset"),
        ("raise accuracy on each set", "of each set"),
        ("reduce length of wrong answers", "'wrong answers' alone"),
        ("entropy of invalid answers", "'invalid answers' alone"),
        ("model length below 300", "not recorded of policy"),
        ("length of the model", "not recorded of policy"),
        ("training length", "not recorded of training"),
        ("response time", "not recorded of answer"),
        ("search speed", "not recorded of campaign"),
        ("perplexity of answers", "not recorded of answer"),
        ("answer tokens", "response_length"),
        ("flops per run", "say `tokens`"),
        ("keep the maximum length under 300", "'maximum' is not recorded"),
        ("the longest answer under 300 tokens", "'longest' is not recorded"),
        ("the worst accuracy above 50%", "'worst' is not recorded"),
        ("accuracy may not fall except by 1%", "exception"),
    ],
)
def test_what_is_not_recorded_of_that(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        "accuracy on all problems",
        "raise benchmark accuracy",
        "improve all problem sets",
        "accuracy of the model",
        "length of the answers",
        "performance in terms of accuracy",
        "policy entropy",
        "maximum accuracy",
        "the lowest KL",
        "training speed",
        "flops of the loss",
        "at most 300 tokens per problem",
        "pass@k on AIME24 problems",
    ],
)
def test_what_is_recorded(text):
  check(text)
