"""Directives steer a campaign, or are refused; nothing is dropped."""

import pytest

from poise_jax.discovery import directives, search_config, steering
from poise_jax.discovery.objectives import objective

SHORT = "Shorter answers without losing accuracy; keep it simple."


def test_a_directive_sets_the_objective():
  config = search_config.SearchConfig(directive=SHORT, rounds=5)
  steered = steering.steer(config)
  assert {t.metric: t.direction for t in steered.objective.terms} == {
      "response_length": "min",
      "description_length": "min",
  }
  (kept,) = steered.objective.constraints
  assert (kept.metric, kept.op, kept.relative) == ("overall", ">=", True)
  assert (steered.rounds, steered.directive) == (5, SHORT)
  assert steered.checked() is steered
  assert steering.steer(steered) == steered
  stored = steering.provenance(SHORT)
  assert stored["text"] == SHORT and len(stored["lines"]) == 3
  assert objective.from_json(stored["objective"]) == steered.objective


def test_without_one_nothing_changes():
  config = search_config.SearchConfig()
  assert steering.steer(config) is config


def test_a_limit_of_candidates_caps_the_rounds():
  text = "Maximise accuracy with at most 10 candidates."
  config = search_config.SearchConfig(directive=text, rounds=9, children=3)
  assert steering.steer(config).rounds == 3


@pytest.mark.parametrize(
    ("text", "changes", "error", "words"),
    [
        ("make it sparkle", {}, directives.DirectiveError, "sparkle"),
        (
            "Maximise accuracy. Use at most 2 candidates.",
            {},
            ValueError,
            "`children` must be at most the 2 candidates",
        ),
        (
            "Maximise accuracy; the search may take at most 2 hours.",
            {},
            ValueError,
            "must not limit time",
        ),
        (
            "Maximise accuracy and spend up to $5.",
            {},
            ValueError,
            "must not limit dollars",
        ),
        (
            SHORT,
            {
                "objective": objective.Objective(
                    terms=(objective.Term("entropy", "max"),)
                )
            },
            ValueError,
            "not both",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(text, changes, error, words):
  config = search_config.SearchConfig(directive=text, **changes)
  with pytest.raises(error, match=words):
    steering.steer(config)
