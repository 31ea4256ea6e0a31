import json

import pytest

from poise_jax.discovery.directives import schema as schemas
from poise_jax.discovery.directives import words
from poise_jax.discovery.objectives import objective as objectives

TEXT = "I'd rather read less, but don't you dare get things wrong; no dual clip"
FORM = {
    "terms": [
        {
            "clause": "rather read  less",
            "metric": "response_length",
            "direction": "min",
        }
    ],
    "constraints": [
        {
            "clause": "don't you dare get things wrong",
            "metric": "overall",
            "op": ">=",
            "bound": 0.98,
            "relative": True,
        }
    ],
    "bans": [{"clause": "no dual clip", "mechanism": "clip=dual"}],
}


def changed(**changes):
  return json.dumps(FORM | changes)


def test_a_filled_form_is_an_objective():
  assert schemas.from_json(json.dumps(FORM), TEXT) == objectives.Objective(
      (objectives.Term("response_length", "min"),),
      (objectives.Constraint("overall", ">=", 0.98, True),),
      ("clip=dual",),
  )
  only = schemas.from_json(changed(terms=[]), TEXT)
  assert only.terms == objectives.DEFAULT.terms


@pytest.mark.parametrize(
    "reply, message",
    [
        ("{", "filled `Directive`"),
        ("[]", "filled `Directive`"),
        ("{}", "got nothing"),
        (changed(extra=1), "extra"),
        (changed(unmeasurable=["be nice"]), "'be nice'"),
        (changed(bans=[{"clause": "no dual clip", "mechanism": "magic"}]),
         "magic"),
        (changed(terms=[{"clause": "be funny", "metric": "kl",
                         "direction": "min"}]), "quote the directive"),
        (changed(terms=[{"clause": "read less", "metric": "fun",
                         "direction": "min"}]), "`metric` must be"),
        (changed(terms=[{"clause": " ", "metric": "kl", "direction": "min"}]),
         "quote the directive"),
        (changed(terms=[FORM["terms"][0] | {"weight": -1}]), "weight"),
        (changed(constraints=[FORM["constraints"][0] | {"bound": "NaN"}]),
         "bound"),
        (changed(terms=[FORM["terms"][0]] * 2), "each metric once"),
    ],
)  # fmt: skip
def test_what_is_refused(reply, message):
  with pytest.raises(words.DirectiveError, match=message):
    schemas.from_json(reply, TEXT)


def test_a_model_is_told_what_there_is():
  assert "pass_at_k/SET" in schemas.instructions()
  assert "clip=dual" in schemas.instructions()
  assert set(json.loads(schemas.schema())["properties"]) == {
      "terms", "constraints", "bans", "budget", "unmeasurable"
  }  # fmt: skip
