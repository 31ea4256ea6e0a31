"""The plan: its sums, its words, and what happened beside it."""

import dataclasses

import pytest

from poise_jax.discovery.evidence import confirmation, plan, shrinkage, spending
from poise_jax.discovery.evidence import race as race_lib

RULES = race_lib.Rules(
    rungs=(
        race_lib.Rung("smoke", "smoke", 1, None, 0.1),
        race_lib.Rung("full", "quick", 1, 0.0, 1.0),
    ),
    noise=shrinkage.Noise(2.0, 0.1),
)
PROTOCOL = confirmation.Protocol("confirm", "embedded")
WORKLOAD = plan.Workload(
    rounds=3,
    per_round=3,
    seconds={"smoke": 1.0, "quick": 6.0, "confirm": 20.0},
    accepted=1.0,
    breakdown=0.0,
)
OTHERS = (plan.Line("canaries", "quick", 9.0, 0.9),)


@pytest.fixture(scope="module")
def made():
  return _make(WORKLOAD)


def _make(workload, **changes):
  arguments = {
      "rehearsals": 6,
      "others": OTHERS,
      "shares": spending.weights(2),
  } | changes
  return plan.make(
      workload,
      RULES,
      PROTOCOL,
      alpha=0.05,
      **arguments,
  )


def test_minutes_are_trials_times_seconds(made):
  lines = {line.stage: line for line in made.lines}
  assert lines["verify"].minutes == pytest.approx(9 * 2 / 60)
  assert lines["smoke"].trials == 9
  full = lines["full"]
  assert full.trials >= 9
  assert full.minutes == pytest.approx(full.trials * 6 / 60)
  assert lines["canaries"] == OTHERS[0]
  assert made.minutes == pytest.approx(sum(x.minutes for x in made.lines))
  assert made.minutes_high >= made.minutes - 1e-9
  assert made.candidates == 9 and made.trained == 9


def test_levels_are_those_of_the_spending(made):
  assert made.levels == pytest.approx((0.04, 0.01))


def test_power_grows_and_gives_the_detectable_effect(made):
  assert made.effects == (1.5, 2.5, 3.5, 5.0)
  assert list(made.power) == sorted(made.power)
  assert made.power[-1] == 1.0
  assert 1.5 < made.detectable < 5.0


def test_the_detectable_effect_lies_between_those_rehearsed():
  # From 0.5 at 1 to 0.9 at 2: 0.8 after three quarters of the way.
  found = plan._reaches((1.0, 2.0), (0.5, 0.9), 0.8)
  assert found == pytest.approx(1.75)
  assert plan._reaches((1.0, 2.0), (0.5, 0.7), 0.8) is None


def test_it_is_the_same_every_time(made):
  assert _make(WORKLOAD) == made


def test_without_candidates_nothing_is_rehearsed_or_claimed():
  planned = _make(dataclasses.replace(WORKLOAD, rounds=0, seconds={}))
  assert [line.stage for line in planned.lines] == ["verify", "canaries"]
  assert planned.minutes == planned.minutes_high == pytest.approx(0.9)
  assert planned.detectable is None and planned.power == ()
  text = "\n".join(plan.as_text(planned))
  assert "Nothing is confirmed: no discovery can be claimed." in text
  assert "detectable" not in text and "levels" not in text


def test_without_finalists_the_race_is_planned_and_nothing_claimed():
  planned = _make(WORKLOAD, shares=())
  trials = {line.stage: line.trials for line in planned.lines}
  assert trials["smoke"] == 9 and trials["confirmation"] == 0
  assert planned.levels == () and planned.power == ()
  assert "no discovery can be claimed" in plan.as_text(planned)[-1]


def test_fewer_accepted_are_cheaper(made):
  fewer = _make(dataclasses.replace(WORKLOAD, accepted=0.4))
  assert fewer.trained == pytest.approx(3.6)
  assert fewer.minutes < made.minutes


def test_the_table_says_what_to_expect(made):
  text = "\n".join(plan.as_text(made))
  assert "9 candidates, about 9 trained" in text
  assert "at most 0.05" in text and "0.040, 0.010" in text
  assert f"Minimum detectable effect: {made.detectable:.1f} points" in text
  assert "budget confirm, base embedded" in text
  beyond = "\n".join(plan.as_text(made._replace(detectable=None)))
  assert "more than 5.0 points" in beyond


def test_what_happened_is_set_against_it(made):
  spent = {line.stage: line.minutes for line in made.lines}
  spent["full"] *= 2
  spent["reading"] = 1.0
  rows = {row.stage: row for row in plan.compare(made, spent)}
  assert rows["smoke"].within and rows["smoke"].ratio == pytest.approx(1)
  assert not rows["full"].within and rows["full"].ratio == pytest.approx(2)
  assert not rows["reading"].within
  assert rows["total"].actual == pytest.approx(sum(spent.values()))
  exact = plan.compare(made, {"smoke": made.lines[1].minutes * 1.3})
  assert next(row for row in exact if row.stage == "smoke").within


def test_every_budget_needs_its_seconds():
  workload = dataclasses.replace(WORKLOAD, seconds={"smoke": 1.0})
  with pytest.raises(ValueError, match="got none for confirm, quick"):
    _make(workload)
