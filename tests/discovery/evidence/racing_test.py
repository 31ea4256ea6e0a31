"""The race: rungs, pairing, drops, allotment, closing; replayed exactly."""

import dataclasses

import numpy as np

from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.evidence import racing, shrinkage

RUNGS = (
    race_lib.Rung("smoke", "smoke", 1, None, 0.1),
    race_lib.Rung("quarter", "quarter", 1, 10.0, 0.25),
    race_lib.Rung("full", "quick", 1, 0.0, 1.0),
)
RULES = race_lib.Rules(RUNGS, shrinkage.Noise(1.0, 0.1), max_seeds=6)


def _world(effects, breakdowns=None, seed=0, log=None):
  """Measures with scores that depend on the trial alone."""
  breakdowns = breakdowns or {}

  def one(run):
    if breakdowns.get(run.candidate) == run.rung:
      return race_lib.Observation(*run, None, "not finite")
    key = [seed, RUNGS.index(_rung(run.rung)), run.seed]
    shared, own = np.random.default_rng(key).normal(size=(2, 30))
    score = 50 + 0.3 * shared[0] + own[sorted(effects).index(run.candidate)]
    return race_lib.Observation(*run, float(score + effects[run.candidate]))

  def measure(batch):
    if log is not None:
      log.append(batch)
    return [one(run) for run in batch]

  return measure


def _rung(name):
  return next(rung for rung in RUNGS if rung.name == name)


def _race(rules, rounds, measure):
  race = race_lib.start(rules, "root")
  for candidates in rounds:
    race = race_lib.enter(rules, race, candidates)
    race = racing.advance(rules, race, measure)
  return racing.advance(rules, race_lib.close(race), measure)


EFFECTS = {"root": 0.0, "a": 0.0, "b": 3.0, "c": -0.5, "d": 0.2, "e": -20.0}
ROUNDS = [("a", "b", "c"), ("d", "e")]


def test_new_candidates_climb_one_rung_after_the_other():
  log = []
  race = race_lib.start(RULES, "root")
  race = race_lib.enter(RULES, race, ["a", "b"])
  racing.advance(RULES, race, _world(EFFECTS, log=log))
  M = race_lib.Measurement
  assert log[0] == (M("a", "smoke", 0), M("b", "smoke", 0))
  # The root runs where it is compared, and only once.
  assert log[1] == (
      M("root", "quarter", 0),
      M("a", "quarter", 0),
      M("b", "quarter", 0),
  )
  assert log[2] == (M("root", "full", 0), M("a", "full", 0), M("b", "full", 0))
  # Two further trials a round, each with its partner.
  assert log[3][0] == M("root", "full", 1)
  assert len(log[3]) == 3 and len(log) == 4


def test_who_breaks_down_is_out_at_once_with_its_kind():
  log = []
  measure = _world(EFFECTS, {"a": "smoke", "c": "full"}, log=log)
  race = _race(RULES, ROUNDS, measure)
  places = {s.candidate: s for s in racing.standings(RULES, race)}
  assert places["a"].status is racing.Status.BROKE_DOWN
  assert places["a"].reason == "not finite on rung smoke with seed 0"
  assert places["c"].rung == "full"
  runs = [run for batch in log for run in batch]
  assert [r.rung for r in runs if r.candidate == "a"] == ["smoke"]
  assert len([r for r in runs if r.candidate == "c"]) == 3


def test_a_cheap_rung_drops_only_the_clearly_bad():
  race = _race(RULES, ROUNDS, _world(EFFECTS))
  places = {s.candidate: s for s in racing.standings(RULES, race)}
  assert places["e"].status is racing.Status.LOSER
  assert places["e"].rung == "quarter"
  assert places["e"].high < -10 and "below -10" in places["e"].reason


def test_losers_stop_by_the_upper_end_on_the_last_rung():
  race = _race(RULES, ROUNDS, _world(EFFECTS | {"c": -9.0}))
  places = {s.candidate: s for s in racing.standings(RULES, race)}
  assert places["c"].status is racing.Status.LOSER
  assert places["c"].rung == "full" and places["c"].high < 0


def test_the_better_candidate_gets_the_seeds_and_leads():
  race = _race(RULES, ROUNDS, _world(EFFECTS))
  seeds = dict(zip(race.names, race.tried[:, -1].sum(1), strict=True))
  assert seeds["b"] == max(seeds[c] for c in "abcd")
  assert racing.finalists(RULES, race)[0] == "b"
  places = {s.candidate: s for s in racing.standings(RULES, race)}
  assert places["b"].status is racing.Status.FINALIST
  assert places["b"].expected > 1.0
  assert places["a"].status in (
      racing.Status.PASSED_OVER,
      racing.Status.FINALIST,
  )


def test_the_allowance_is_a_limit():
  rules = dataclasses.replace(RULES, decided=100.0)
  race = _race(rules, ROUNDS, _world(EFFECTS | {"e": 0.1}))
  further = race.tried[1:, -1].sum() - 5
  assert further == 2 * 2 + 7  # two rounds; 1.5 for each of five, rounded down
  none = dataclasses.replace(RULES, extra=0, closing=0.0)
  race = _race(none, ROUNDS, _world(EFFECTS))
  assert race.tried[1:, -1].sum() == 4
  assert racing.finalists(none, race) == ()  # one seed is no final


def test_nobody_is_proposed_who_is_not_expected_to_be_better():
  worse = {name: -4.0 * (name != "root") for name in EFFECTS}
  race = _race(RULES, ROUNDS, _world(worse))
  assert racing.finalists(RULES, race) == ()


def test_a_race_is_replayed_exactly_from_stored_trials():
  """Killed after any trial, it asks for the same trials in the same order."""
  log = []
  whole = _race(RULES, ROUNDS, _world(EFFECTS, {"c": "full"}, log=log))
  wanted = [run for batch in log for run in batch]
  truth = _world(EFFECTS, {"c": "full"})
  for killed in range(0, len(wanted), 3):
    stored = {run: truth([run])[0] for run in wanted[:killed]}
    new = []

    def measure(batch, stored=stored, new=new):
      missing = [run for run in batch if run not in stored]
      new.extend(missing)
      stored.update({run: truth([run])[0] for run in missing})
      return [stored[run] for run in batch]

    again = _race(RULES, ROUNDS, measure)
    assert new == wanted[killed:]
    np.testing.assert_array_equal(again.scores, whole.scores)


def test_the_order_within_a_batch_does_not_matter():
  straight = _race(RULES, ROUNDS, _world(EFFECTS))
  turned = _race(RULES, ROUNDS, lambda b: _world(EFFECTS)(b)[::-1])
  np.testing.assert_array_equal(straight.scores, turned.scores)
