import dataclasses

import pytest

from poise_jax.discovery import leaderboard
from poise_jax.report import claims

BASIS = "Budget quick, base policy 0123456789ab, problems of the search split"


def standing(name, role, mean, low=None, high=None, status="scored"):
  return leaderboard.Standing(
      id=name,
      name=name,
      role=role,
      parents=(),
      status=status,
      overall_mean=mean,
      overall_low=low,
      overall_high=high,
      n_seeds=2,
      budget="quick",
      source_sha256="",
      set_means={},
      response_length=None,
  )


ROOT = standing("grpo", "root", 40.0, 39.0, 41.0)
AHEAD = standing("ahead", "generated", 45.0, 44.0, 46.0)
MAYBE = standing("maybe", "generated", 41.5, 40.5, 42.5)
BEHIND = standing("behind", "generated", 39.0, 38.0, 40.0)
CANARY = standing("zero_gradient", "canary", 30.0, 29.0, 31.0)


def test_basis_names_budget_base_and_split(make, campaign, evaluations):
  assert claims.basis(campaign, evaluations) == BASIS
  assert claims.basis(campaign, []) == BASIS
  nameless = make.campaign(config={"budget": "quick"})
  assert "base policy not recorded" in claims.basis(nameless, [])
  hashed = make.campaign(config={"budget": "quick", "base_sha256": "feed" * 16})
  assert "base policy feedfeedfeed," in claims.basis(hashed, [])


@pytest.mark.parametrize(
    ("standings", "start"),
    [
        (
            [AHEAD, ROOT, CANARY],
            "Ahead of the root by 5.0; the intervals do no",
        ),
        ([MAYBE, ROOT], "Not established: ahead by 1.5, but the intervals ov"),
        ([ROOT, BEHIND], "Nothing beat the root."),
        (
            [dataclasses.replace(AHEAD, overall_low=None), ROOT],
            "Not established: ahead by 5.0, but too few seeds",
        ),
    ],
)
def test_the_best_is_judged_by_its_interval(standings, start):
  claim = claims.result(standings, BASIS)[0]
  assert claim.startswith(start)
  assert f"root grpo 40.0 [39.0 to 41.0], 2 seeds, budget quick ({BASIS})" in (
      claim
  )


LENGTH = {"terms": [{"metric": "response_length", "direction": "min"}]}
OVERALL = {"terms": [{"metric": "overall", "direction": "max"}]}


def test_what_is_not_overall_is_said(make):
  shorter = make.campaign(config={"objective": LENGTH})
  (told,) = claims.objective(shorter)
  assert (
      "response_length" in told and "compared by Overall all the same" in told
  )
  unit, found = claims.confirmed(shorter, ["x: +2.00 points over the root."])
  assert "in points of the objective" in unit and found.startswith("x: +2.00")
  assert claims.confirmed(shorter, []) == []
  for config in ({}, {"objective": OVERALL}):
    plain = make.campaign(config=config)
    assert claims.objective(plain) == []
    assert claims.confirmed(plain, ["x"]) == ["x"]


@pytest.mark.parametrize(
    ("standings", "start"),
    [
        ([AHEAD, ROOT], "Ahead of the root by 5.0 in Overall; the intervals"),
        ([MAYBE, ROOT], "Not established: ahead by 1.5 in Overall, but the i"),
        ([ROOT, BEHIND], "Nothing beat the root in Overall. The best"),
        (
            [dataclasses.replace(AHEAD, overall_low=None), ROOT],
            "Not established: ahead by 5.0 in Overall, but too few seeds for",
        ),
    ],
)
def test_a_lead_is_in_overall_where_something_else_is_wanted(standings, start):
  claim, *_ = claims.result(standings, BASIS, is_objective=False)
  assert claim.startswith(start)


def test_a_canary_is_never_the_best():
  lucky = dataclasses.replace(CANARY, overall_mean=90.0)
  assert claims.result([lucky, ROOT, BEHIND], BASIS)[0].startswith("Nothing")


def test_a_lead_comes_with_a_warning_of_luck():
  _, caution = claims.result([AHEAD, ROOT, BEHIND], BASIS)
  assert "best of 2 generated candidates" in caution


def test_nothing_to_compare():
  pending = standing("grpo", "root", None, status="pending")
  assert claims.result([AHEAD, pending], BASIS) == [
      "The root is not scored: there is nothing to compare with."
  ]
  assert "No generated candidate is scored" in claims.result([ROOT], BASIS)[0]


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [
        (CANARY, "Passed: below the root, intervals apart."),
        (dataclasses.replace(CANARY, overall_high=39.5), "Weak: below"),
        (dataclasses.replace(CANARY, overall_high=None), "Weak: below"),
        (dataclasses.replace(CANARY, overall_mean=40.0), "FAILED"),
        (
            standing("zero", "canary", None, status="diverged"),
            "Passed: zero diverged",
        ),
        (standing("zero", "canary", None, status="pending"), "Open: zero"),
    ],
)
def test_canaries_are_judged_against_the_root(canary, verdict):
  (sentence,) = claims.canaries([ROOT, canary])
  assert sentence.startswith(verdict)


def test_a_canary_names_its_place():
  (sentence,) = claims.canaries([AHEAD, ROOT, CANARY])
  assert "place 3 of 3" in sentence


def test_no_canaries():
  assert claims.canaries([ROOT])[0].startswith("No canaries")
