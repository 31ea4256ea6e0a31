"""Races through a campaign: what is asked for is measured, once."""

import numpy as np
import pytest

from poise_jax.discovery import heats
from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.evidence import racing, shrinkage

LEVEL = {"grpo": 50.0, "dapo": 53.0, "rloo": 30.0, "gspo": 50.5}


def _overall(name, split, seed):
  del split
  if name == "cispo" and seed == 1:
    return None
  return LEVEL.get(name, 50.0) + np.sin(12.9898 * seed)


@pytest.fixture(scope="module")
def rules():
  return race_lib.Rules(
      rungs=(race_lib.Rung("full", "tiny", 2, 0.0, 1.0),),
      noise=shrinkage.Noise(1.0),
      max_seeds=4,
  )


def test_the_better_gets_the_seeds_and_is_a_finalist(
    scripted, rules, plain_worth
):
  names = tuple(LEVEL) + ("cispo",)
  campaign, laboratory = scripted(_overall, names)
  root, *children = campaign.candidates
  race = race_lib.start(rules, root.id)
  race = heats.enter(campaign, rules, race, children[:2], plain_worth)
  race = heats.enter(campaign, rules, race, children[2:], plain_worth)
  race = heats.advance(campaign, rules, race_lib.close(race), plain_worth)
  by_name = {c.name: c for c in campaign.candidates}
  assert racing.finalists(rules, race)[0] == by_name["dapo"].id
  standings = {s.candidate: s for s in racing.standings(rules, race)}
  assert standings[by_name["rloo"].id].status == race_status("LOSER")
  assert standings[by_name["cispo"].id].status == race_status("BROKE_DOWN")
  assert "not finite" in standings[by_name["cispo"].id].reason
  seeds = {n: len(campaign.evaluations(c)) for n, c in by_name.items()}
  assert seeds["rloo"] == 2 and seeds["cispo"] == 2
  assert seeds["dapo"] > 2 and seeds["grpo"] >= seeds["dapo"]
  # Again: the same race, and nothing is trained.
  done = len(laboratory.runs)
  again = race_lib.start(rules, root.id)
  again = heats.enter(campaign, rules, again, children[:2], plain_worth)
  again = heats.enter(campaign, rules, again, children[2:], plain_worth)
  again = heats.advance(campaign, rules, race_lib.close(again), plain_worth)
  assert len(laboratory.runs) == done
  np.testing.assert_array_equal(again.scores, race.scores)


def race_status(name):
  return racing.Status[name]
