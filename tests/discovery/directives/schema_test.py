"""Forms that are readings of a directive, and forms that are not."""

import pytest

from poise_jax.discovery import directives
from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.directives import schema as schemas
from poise_jax.discovery.objectives import objective as objectives

TEXT = "I'd rather read less, but don't you dare get things wrong; no dual clip"
METRICS = ("overall", "response_length", "kl", "accuracy/sums2", "valid_rate")
FORM = {
    "terms": [
        {
            "clause": "rather read  LESS",
            "metric": "response_length",
            "direction": "min",
        }
    ],
    "constraints": [
        {
            # Signs need not be the same: those of a keyboard do.
            "clause": "don\u2019t you dare get things wrong",
            "metric": "overall",
            "op": ">=",
            "bound": 0.98,
            "relative": True,
        }
    ],
    "bans": [{"clause": "no dual clip", "mechanism": "clip=dual"}],
}
TERM, LIMIT, BAN = FORM["terms"][0], FORM["constraints"][0], FORM["bans"][0]


def filled(**changes):
  return schemas.Directive.model_validate(FORM | changes)


def limited(**changes):
  return {"constraints": [LIMIT | changes]}


def termed(**changes):
  return {"terms": [TERM | changes]}


def budgeted(**changes):
  spending = {"clause": "rather", "unit": "candidates", "amount": 3}
  return {"budget": [spending | changes]}


def test_a_filled_form_is_a_reading():
  form = filled()
  schemas.check(form, TEXT, METRICS)
  reading = schemas.understood(form, TEXT, METRICS)
  assert reading.objective == objectives.Objective(
      (objectives.Term("response_length", "min"),),
      (objectives.Constraint("overall", ">=", 0.98, True),),
      ("clip=dual",),
  )
  assert reading.budget == directives.Budget() and reading.text == TEXT
  assert directives.explain(reading) == [
      "rather read less                 minimise response_length, weight 1",
      "don't you dare get things wrong  keep overall >= 0.98 of the root's",
      "no dual clip                     do not use clip=dual",
  ]


def test_without_a_term_overall_is_improved():
  form = filled(terms=[], constraints=[LIMIT | {"clause": TEXT}])
  schemas.check(form, TEXT, METRICS)
  found = schemas.understood(form, TEXT, METRICS)
  assert found.objective.terms == objectives.DEFAULT.terms


def test_of_several_budgets_the_tightest_counts():
  text = "ten candidates or so for five dollars, or seven, make it good"
  form = schemas.Directive.model_validate(
      {
          "terms": [
              {"clause": "make it good", "metric": "kl", "direction": "min"}
          ],
          "budget": [
              {
                  "clause": "ten candidates or so",
                  "unit": "candidates",
                  "amount": 10,
              },
              {"clause": "for five dollars", "unit": "dollars", "amount": 5},
              {"clause": "or seven", "unit": "dollars", "amount": 7.5},
          ],
      }
  )
  schemas.check(form, text, METRICS)
  reading = schemas.understood(form, text, METRICS)
  assert reading.budget == directives.Budget(candidates=10, dollars=5.0)
  assert "spend at most 7.5 dollars" in directives.explain(reading)[-1]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict.fromkeys(FORM, []), "must be in a list, got none"),
        (dict(bans=[]), "every word .* got none with 'no dual clip'"),
        (termed(clause="read less"), "got none with 'rather'"),
        (termed(clause="be funny"), "must quote the directive, got 'be funny'"),
        (termed(clause="ther read less"), "must quote the directive"),
        (termed(clause=" "), "must quote the directive, got ''"),
        (dict(unmeasurable=["be nice"]), "must quote .* 'be nice'"),
        (termed(metric="fun"), "`metric` must be one of accuracy/sums2, kl"),
        (termed(metric="accuracy/AIME24", direction="max"), "AIME24"),
        (limited(metric="entropy"), "`metric` must be .* got 'entropy'"),
        (termed(metric="overall"), "`direction` of overall must be"),
        (dict(terms=[TERM, TERM]), "each metric once"),
        (limited(bound=0.0), "between 0 and 100 times the root, got 0"),
        (limited(bound=-0.98), "times the root, got -0.98"),
        (limited(bound=101, relative=False), "between 0 and 100, got 101"),
        (limited(metric="valid_rate", bound=98, relative=False), "0 and 1,"),
        (limited(metric="kl", bound=-1, relative=False), "0 and inf, got -1"),
        (limited(metric="valid_rate", bound=1.95), "out of reach"),
        (dict(constraints=[LIMIT | {"bound": 1.5},
                           LIMIT | {"op": "<=", "bound": 1.2}]),
         "possible together"),
        (dict(bans=[BAN | {"mechanism": "magic"}]), "`mechanism` .* 'magic'"),
        (budgeted(amount=2.5), "candidates must be whole, got 2.5"),
    ],
)  # fmt: skip
def test_what_is_no_reading_is_refused(changes, message):
  with pytest.raises(directives.DirectiveError, match=message):
    schemas.check(filled(**changes), TEXT, METRICS)


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        termed(weight=-1),
        termed(weight=0),
        termed(direction="up"),
        limited(bound="NaN"),
        limited(op="<"),
        budgeted(unit="euros"),
        budgeted(amount=0),
    ],
)
def test_other_types_are_refused(changes):
  with pytest.raises(ValueError):
    filled(**changes)


def test_what_cannot_be_measured_is_an_error_that_lists_what_can():
  form = filled(terms=[], unmeasurable=["RATHER read less"])
  schemas.check(form, TEXT, METRICS)  # as the model should say it
  message = "cannot read 'rather read less': .* accuracy/sums2, kl, overall"
  with pytest.raises(directives.DirectiveError, match=message):
    schemas.understood(form, TEXT, METRICS)


def test_links_between_quotes_need_no_quote():
  text = "Shrink it, as long as sums2 holds, and please keep valid_rate"
  form = schemas.Directive.model_validate(
      {
          "terms": [
              {"clause": "shrink it", "metric": "kl", "direction": "min"}
          ],
          "constraints": [
              LIMIT | {"clause": "sums2 holds", "metric": "accuracy/sums2"},
              LIMIT | {"clause": "keep valid_rate", "metric": "valid_rate"},
          ],
      }
  )
  schemas.check(form, text, METRICS)


def test_a_model_is_told_what_there_is():
  told = schemas.instructions(("accuracy/sums2", *objectives.NAMES))
  assert "\n- accuracy/sums2: part of the problems of a set" in told
  for name in objectives.NAMES:
    assert f"\n- {name}: " in told
  assert all(name in told for name in bans_lib.names())
  assert "worked solutions of held-out problems" in told
  assert "bits of the loss's canonical text" in told
