import json

import pytest

from poise_jax.archive import store
from poise_jax.discovery import leaderboard


def by_name(standings):
  return {standing.name: standing for standing in standings}


def test_order_is_by_mean_then_index_with_the_unscored_last(archive):
  standings = leaderboard.standings(archive, "c0ffee")
  assert [(s.name, s.status) for s in standings] == [
      ("better", "scored"),
      ("root", "scored"),
      ("worse", "scored"),
      ("zero_gradient", "scored"),
      ("broken", "rejected"),
      ("exploded", "diverged"),
      ("waiting", "pending"),
  ]


def test_ties_keep_the_order_of_index(make, campaign, candidates):
  runs = [make.evaluation(index, 0, 40.0) for index in (3, 0, 2)]
  ranked = leaderboard.rank(campaign, candidates, runs)
  assert [s.name for s in ranked[:3]] == ["root", "better", "worse"]


def test_means_seeds_and_sets(archive):
  board = by_name(leaderboard.standings(archive, "c0ffee"))
  better = board["better"]
  assert better.overall_mean == 52.0
  assert better.n_seeds == 2
  assert better.budget == "quick"
  assert better.parents == ("c0ffee-000",)
  assert better.set_means == {
      "accuracy/easy": pytest.approx(0.52),
      "pass_at_k/hard": pytest.approx(0.26),
  }
  assert better.response_length == 10.5


def test_intervals_pool_the_variance_of_all_but_canaries(archive):
  board = by_name(leaderboard.standings(archive, "c0ffee"))
  # Squares: root 2 (1 degree of freedom), better 8 (1), so s2 = 10 / 2 = 5;
  # t(0.975, 2) = 4.302653. Half widths: two seeds 4.302653 * sqrt(5 / 2),
  # one seed 4.302653 * sqrt(5).
  assert board["root"].overall_low == pytest.approx(41 - 6.80309, abs=1e-4)
  assert board["better"].overall_high == pytest.approx(52 + 6.80309, abs=1e-4)
  assert board["worse"].overall_low == pytest.approx(35 - 9.62102, abs=1e-4)
  # The canary: its own single seed, and the variance of the others.
  canary = board["zero_gradient"]
  assert canary.overall_high == pytest.approx(30 + 9.62102, abs=1e-4)


def test_seeds_of_a_canary_do_not_narrow_others(make, campaign, candidates):
  runs = [make.evaluation(1, seed, 30.0) for seed in range(5)]
  runs += [make.evaluation(0, 0, 40.0), make.evaluation(0, 1, 42.0)]
  board = by_name(leaderboard.rank(campaign, candidates, runs))
  # t(0.975, 1) = 12.7062; half width 12.7062 * sqrt(2 / 2).
  assert board["root"].overall_low == pytest.approx(41 - 12.7062, abs=1e-3)


def test_one_seed_each_gives_no_interval(make, campaign, candidates):
  runs = [make.evaluation(0, 0, 40.0), make.evaluation(2, 0, 41.0)]
  for standing in leaderboard.rank(campaign, candidates, runs)[:2]:
    assert standing.overall_low is None
    assert standing.overall_high is None


def test_a_diverged_seed_leaves_no_score(archive):
  exploded = by_name(leaderboard.standings(archive, "c0ffee"))["exploded"]
  assert exploded.overall_mean is None
  assert exploded.n_seeds == 2
  assert exploded.set_means == {}
  assert exploded.response_length is None


def test_other_budgets_and_splits_do_not_count(archive, make):
  before = leaderboard.standings(archive, "c0ffee")
  archive.add_evaluation(make.evaluation(3, 0, 99.0, budget="standard"))
  archive.add_evaluation(make.evaluation(3, 1, 99.0, split="confirm"))
  assert leaderboard.standings(archive, "c0ffee") == before


def test_the_only_budget_used_is_the_one_that_counts(
    make, candidates, evaluations
):
  campaign = make.campaign(config={"budget": "standard"})
  assert leaderboard.search_budget(campaign, evaluations) == "quick"
  assert leaderboard.search_budget(campaign, []) == "standard"
  more = [*evaluations, make.evaluation(3, 0, 99.0, budget="standard")]
  ranked = leaderboard.rank(campaign, candidates, more)
  assert (ranked[0].name, ranked[0].overall_mean) == ("worse", 99.0)


def test_json_has_exactly_the_promised_keys(archive):
  board = leaderboard.as_json(archive, "c0ffee")
  assert set(board) == {"campaign", "candidates"}
  assert board["campaign"] == "c0ffee"
  assert board["candidates"][-1] == {
      "id": "c0ffee-006",
      "name": "waiting",
      "parents": ["c0ffee-000"],
      "status": "pending",
      "overall_mean": None,
      "overall_low": None,
      "overall_high": None,
      "n_seeds": 0,
      "source_sha256": archive.candidates("c0ffee")[6].source_sha256,
  }
  assert json.loads(json.dumps(board, allow_nan=False)) == board


def test_unknown_campaign(archive):
  with pytest.raises(store.ArchiveError, match="campaign nothing is not in"):
    leaderboard.as_json(archive, "nothing")


LENGTH = {
    "terms": [{"metric": "response_length", "direction": "min", "weight": 2.0}],
    "constraints": [
        {"metric": "overall", "op": ">=", "bound": 40.0, "relative": False}
    ],
    "bans": [],
}


def test_an_objective_other_than_overall_is_named(make, archive):
  plain = leaderboard.as_text(archive, "c0ffee")
  assert plain[1].startswith("candidate")
  config = make.campaign().config
  overall = {"terms": [{"metric": "overall", "direction": "max"}]}
  for i, objective in enumerate((overall, LENGTH)):
    changed = config | {"objective": objective}
    archive.add_campaign(make.campaign(id=f"c-{i}", config=changed))
    told = leaderboard.as_text(archive, f"c-{i}")
    assert len(told) == 2 + i
  assert told[1].startswith("Ranked by Overall; the objective is another one: ")
  assert "response_length" in told[1] and "overall" in told[1]
