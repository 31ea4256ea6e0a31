import json

import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.proposer import genome as genomes

Term, Constraint = objectives.Term, objectives.Constraint
ROOT = {
    "overall": 47.8,
    "response_length": 473.6,
    "pass_at_k/aime": 0.5,
    "heldout_perplexity": 8.0,
}
# DACE of the paper's table 4: 51.7 points at 335.7 words, 0.709 of the root's.
DACE = {
    "overall": 51.7,
    "response_length": 335.7,
    "pass_at_k/aime": 0.567,
    "heldout_perplexity": 8.0,
}


def test_overall_alone_is_overall():
  assert objectives.utility(objectives.DEFAULT, DACE, ROOT) == pytest.approx(
      51.7
  )
  only = {"overall": 40.0}
  assert objectives.utility(objectives.DEFAULT, only, ROOT) == 40.0


def test_utility_by_hand():
  # 5 % of 473.6 is 23.68, so 137.9 words less are 5.823480 points.
  shorter = objectives.Objective((Term("response_length", "min"),))
  assert objectives.utility(shorter, DACE, ROOT) == pytest.approx(
      47.8 + 5.823480, abs=1e-5
  )
  # (3 * 3.9 + 1 * 5.823480) / 4 points above the root.
  both = objectives.Objective(
      (Term("overall", "max", 3.0), Term("response_length", "min", 1.0))
  )
  assert objectives.utility(both, DACE, ROOT) == pytest.approx(
      47.8 + 4.380870, abs=1e-5
  )
  # At 50 words a point: 137.9 / 50.
  assert objectives.utility(
      shorter, DACE, ROOT, {"response_length": 50.0}
  ) == pytest.approx(47.8 + 2.758)


def test_utility_of_the_root_is_its_overall_whatever_the_objective():
  odd = objectives.Objective(
      (Term("pass_at_k/aime", "max", 2.0), Term("heldout_perplexity", "min"))
  )
  assert objectives.utility(odd, ROOT, ROOT) == ROOT["overall"]
  # 0.067 of a share is 6.7 points, two thirds of the weight.
  assert objectives.utility(odd, DACE, ROOT) == pytest.approx(
      47.8 + 6.7 * 2 / 3
  )


def test_direction_turns_the_sign():
  up = objectives.Objective((Term("response_length", "max"),))
  down = objectives.Objective((Term("response_length", "min"),))
  rise = objectives.utility(up, DACE, ROOT) - 47.8
  assert rise < 0
  assert objectives.utility(down, DACE, ROOT) - 47.8 == pytest.approx(-rise)
  both = objectives.Objective((*down.terms, Term("overall", "max")))
  assert objectives.columns(both, DACE) == [-335.7, 51.7]


def test_constraints_by_hand():
  limited = objectives.Objective(
      constraints=(
          Constraint("response_length", "<=", 0.7, True),
          Constraint("overall", ">=", 1.0, True),
          Constraint("pass_at_k/aime", ">=", 0.6),
          Constraint("heldout_perplexity", "<=", 1.0, True),
      )
  )
  # 0.7 * 473.6 = 331.52: 4.18 words over, at 23.68 a point. 0.033 short.
  broken = objectives.violations(limited, DACE, ROOT)
  assert [str(b.constraint) for b in broken] == [
      "response_length <= 0.7 x root",
      "pass_at_k/aime >= 0.6",
  ]
  assert [b.points for b in broken] == pytest.approx(
      [4.18 / 23.68, 3.3], abs=1e-6
  )
  kept = objectives.Objective(
      constraints=(Constraint("response_length", "<=", 0.71, True),)
  )
  assert objectives.violations(kept, DACE, ROOT) == ()


def test_relative_limits_of_negative_and_zero_values():
  at_most = Constraint("kl", "<=", 1.5, True)
  assert at_most.limit({"kl": 2.0}) == pytest.approx(3.0)
  assert at_most.limit({"kl": -2.0}) == pytest.approx(-1.0)
  assert at_most.limit({"kl": 0.0}) == 0.0
  assert Constraint("kl", "<=", 0.5).limit({}) == 0.5


def test_missing_and_unusable_metrics_are_named():
  wanted = objectives.Objective((Term("train_seconds", "min"),))
  with pytest.raises(
      ValueError, match="`metrics` must hold train_seconds.*overall"
  ):
    objectives.utility(wanted, DACE, ROOT | {"train_seconds": 2.0})
  with pytest.raises(ValueError, match="`root_metrics` must hold"):
    objectives.utility(wanted, DACE | {"train_seconds": 2.0}, ROOT)
  with pytest.raises(ValueError, match="must be finite, got nan for overall"):
    objectives.utility(objectives.DEFAULT, {"overall": float("nan")}, ROOT)
  flat = objectives.Objective((Term("kl", "min"),))
  with pytest.raises(ValueError, match="what one point is worth in kl"):
    objectives.utility(flat, {"kl": 0.1}, {"kl": 0.0})


def test_checked_lists_what_can_be_measured():
  wanted = objectives.Objective(constraints=(Constraint("tokens", "<=", 1e6),))
  assert objectives.checked(wanted, {"overall", "tokens"}) is wanted
  with pytest.raises(ValueError, match="got tokens; there are kl, overall"):
    objectives.checked(wanted, {"overall", "kl"})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Term("lenght", "min"), "`metric` must be one of overall.*"),
        (lambda: Term("accuracy/", "max"), "got 'accuracy/'"),
        (lambda: Term("overall", "max", 0.0), "`weight` of overall"),
        (lambda: Term("overall", "max", float("inf")), "`weight` of overall"),
        (lambda: Constraint("kl", "<=", float("nan")), "`bound` of kl"),
        (lambda: objectives.Objective(()), "at least one metric"),
        (
            lambda: objectives.Objective(
                (Term("kl", "min"), Term("kl", "max"))
            ),
            "each metric once",
        ),
        (
            lambda: objectives.Objective(
                constraints=(
                    Constraint("kl", ">=", 0.5),
                    Constraint("kl", "<=", 0.4),
                )
            ),
            "possible together, got kl >= 0.5 and kl <= 0.4",
        ),
        (lambda: objectives.Objective(bans=("kl", " ")), "names of mechanisms"),
    ],
)
def test_what_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
    "value, message",
    [
        ({"terms": [{"metric": "kl", "direction": "down"}]}, "direction"),
        (
            {
                "terms": [{"metric": "kl", "direction": "min"}],
                "constraints": [{"metric": "kl", "op": "<", "bound": 1}],
            },
            "'<='.*'>='",
        ),
        ({}, "what `objective.to_json` writes"),
        ({"terms": [{"metric": "kl"}]}, "what `objective.to_json` writes"),
        ({"terms": [], "goal": 1}, "unknown keys"),
    ],
)
def test_json_that_is_no_objective(value, message):
  with pytest.raises(ValueError, match=message):
    objectives.from_json(value)


def test_json_round_trip():
  full = objectives.Objective(
      (Term("accuracy/easy", "max", 2.0), Term("flops", "min", 0.5)),
      (Constraint("entropy", ">=", 0.8, True),),
      ("length", "clip=dual"),
  )
  text = json.dumps(objectives.to_json(full), allow_nan=False)
  assert objectives.from_json(json.loads(text)) == full
  assert full.metrics == ("accuracy/easy", "flops", "entropy")
  plain = {"terms": [{"metric": "overall", "direction": "max"}]}
  assert objectives.from_json(plain) == objectives.DEFAULT


def test_bans_name_slots_and_choices():
  dapo = objectives.mechanism_names(genomes.named("dapo").choices)
  grpo = objectives.mechanism_names(genomes.named("grpo").choices)
  assert {"clip", "clip=clip_higher"} <= dapo
  assert "clip" not in grpo and "clip=symmetric" in grpo
  banned = objectives.Objective(bans=("clip", "kl", "baseline=group_mean"))
  assert objectives.breaches(banned, dapo) == ("clip", "baseline=group_mean")
  assert objectives.breaches(objectives.DEFAULT, dapo) == ()


def test_directions_are_shares_with_a_sign():
  shorter = objectives.Term("response_length", "min", 1.0)
  found = objectives.directions(
      objectives.Objective((shorter, objectives.Term("overall", "max", 3.0)))
  )
  assert found == {"response_length": -0.25, "overall": 0.75}
