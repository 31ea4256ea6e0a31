import pytest

from poise_jax.discovery.directives import clauses, parts, words
from poise_jax.discovery.objectives import objective as objectives

Term, Constraint = objectives.Term, objectives.Constraint


def of(text):
  (clause,) = clauses.split(words.read(text))
  return parts.of(clause)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("keep it simple", [Term("description_length", "min")]),
        ("keep accuracy high", [Constraint("overall", ">=", 0.98, True)]),
        ("keep KL low", [Term("kl", "min")]),
        ("keep KL from rising", [Constraint("kl", "<=", 1.02, True)]),
        ("hold entropy steady", [Constraint("entropy", ">=", 0.98, True),
                                 Constraint("entropy", "<=", 1.02, True)]),
        ("avoid long answers", [Term("response_length", "min")]),
        ("no longer answers", [Constraint("response_length", "<=", 1.02, True)]),
        ("too slow", [Term("train_seconds", "min")]),
        ("as accurate as the root", [Constraint("overall", ">=", 1.0, True)]),
        ("ignore speed", [parts.Free("train_seconds")]),
        ("mainly accuracy", [Term("overall", "max", 2.0)]),
        ("avoid the KL term", [parts.Ban("kl")]),
        ("accuracy over brevity",
         [parts.Importance(("overall",), ("response_length",), 2.0, (1, -1))]),
    ],
)  # fmt: skip
def test_readings(text, expected):
  assert of(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("use length penalties", "only be banned"),
        ("not without losing accuracy", "negates twice"),
        ("low accuracy", "more is better"),
        ("worse accuracy", "without a limit"),
        ("no accuracy", "rise or fall"),
        ("don't maximise entropy", "no aim"),
        ("ideally without losing accuracy", "would be dropped"),
        ("be better", "needs a metric"),
        ("accuracy may drop a little", "by how much"),
        ("if entropy rises", "a condition"),
        ("where accuracy is high", "a condition"),
        ("accuracy below the root's", "more is better"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    of(text)
