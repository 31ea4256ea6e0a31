import numpy as np
import pytest

from poise_jax.archive import records
from poise_jax.discovery.parents import acquisition, grown, replay

WEIGHTS = acquisition.Weights(noise_variance=4.0)


def test_scores_are_posterior_means_by_hand(make):
  kin = {
      c.id: c
      for c in (
          make.candidate(0, "root", role="root", generation=0),
          make.candidate(1, "better", [0]),
          make.candidate(2, "exploded", [0]),
          make.candidate(3, "waiting", [1], generation=2),
      )
  }
  runs = [
      make.evaluation(0, 0, 50.0),
      make.evaluation(1, 0, 60.0),
      make.evaluation(2, 0, 90.0),
      make.evaluation(2, 1, 0.0, outcome="diverged", metrics={}),
  ]
  tree = grown.tree_of(kin, runs, {}, WEIGHTS)
  assert tree.parents["c0ffee-003"] == ("c0ffee-001",)
  assert tree.generation["c0ffee-003"] == 2
  # 51 (the 10th percentile) and 60 have variance 20.25, of which 4 is noise.
  share = 16.25 / 20.25
  assert tree.scores == pytest.approx(
      {"c0ffee-000": 55.5 - 5.5 * share, "c0ffee-001": 55.5 + 4.5 * share}
  )
  assert tree.variances["c0ffee-000"] == pytest.approx(4 * share)


def test_scores_are_of_the_objective(make):
  kin = {
      c.id: c
      for c in (
          make.candidate(0, "root", role="root", generation=0),
          make.candidate(1, "shorter", [0]),
      )
  }
  runs = [make.evaluation(0, 2, 50.0), make.evaluation(1, 0, 40.0)]
  term = {"metric": "response_length", "direction": "min", "weight": 1.0}
  told = {"objective": {"terms": [term]}, "scales": {"response_length": 0.1}}
  tree = grown.tree_of(kin, runs, told, WEIGHTS)
  # 12 and 10 tokens at 0.1 a point: 20 points apart.
  assert tree.scores["c0ffee-001"] > tree.scores["c0ffee-000"] + 10
  none = grown.tree_of(kin, [], told, WEIGHTS)
  assert (none.scores, none.variances) == ({}, {})


def test_reasons_are_those_logged_last(make):
  campaign = make.campaign(config={"rule": "uniform", "weights": {"top_k": 5}})
  assert grown.weights(grown.reasons(campaign, [])).top_k == 5
  log = {"rule": "greedy", "weights": {"top_k": 2, "of_later": 1}}
  logged = records.Decision(
      "c0ffee", "selection", "round 001", log, campaign.created_at
  )
  told = grown.reasons(campaign, [logged])
  assert told["rule"] == "greedy" and grown.weights(told).top_k == 2
  assert grown.weights({}) == acquisition.Weights()


def test_a_round_is_finished_when_all_it_made_is_noted(make):
  campaign = make.campaign(config={"children": 2})
  table = acquisition.Table(("r",), ("r",), 0, {})
  choices = [replay.Round(g, table, (0,), np.ones((1, 1))) for g in (1, 2)]
  made = [
      make.candidate(i, f"loss {i}", [0], generation=(i + 1) // 2)
      for i in range(1, 5)
  ]
  time = campaign.created_at
  notes = [records.Reflection(c.id, "", {}, time) for c in made]
  last = lambda made, notes, decisions=(): grown.finished(
      campaign, made, choices, decisions, notes
  )
  assert last(made, notes) == 2
  assert last(made, notes[:-1]) == 1
  assert last(made[:-1], notes[:-1]) == 1
  race = records.Decision("c0ffee", "race", "x", {}, time)
  assert last(made, [], [race]) == 2
  assert grown.finished(campaign, [], [], [], []) == 0
