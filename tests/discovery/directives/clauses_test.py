import pytest

from poise_jax.discovery.directives import clauses, words


def split(text):
  return clauses.split(words.read(text))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("raise accuracy; keep it simple", ["raise accuracy", "keep it simple"]),
        ("higher accuracy at lower KL", ["higher accuracy at", "lower KL"]),
        ("keep KL low", ["keep KL low"]),
        ("brevity without loss of accuracy",
         ["brevity", "without loss of accuracy"]),
        ("accuracy up, length down", ["accuracy up", "length down"]),
        ("raise accuracy in 2 hours", ["raise accuracy in", "2 hours"]),
        ("please; please", []),
        ("if KL falls, raise accuracy", ["if KL falls", "raise accuracy"]),
    ],
)  # fmt: skip
def test_where_clauses_end(text, expected):
  assert [clause.text for clause in split(text)] == expected
