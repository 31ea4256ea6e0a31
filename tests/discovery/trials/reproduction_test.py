"""What is compared with what was stored, and what is said of it."""

import dataclasses
import json
import math

import pytest

from poise_jax.archive import records
from poise_jax.discovery.trials import budgets, reproduction, trial
from poise_jax.tasks import embedded

VERSIONS = {"jax": "1", "processor": "fast"}


@pytest.fixture
def stored(make):
  def stored(seed=0, overall=50.0, **changes):
    key = {
        "base": "0123", "versions": VERSIONS,
        "budget": dataclasses.asdict(budgets.QUICK),
    }  # fmt: skip
    run = make.evaluation(2, seed, overall, key=key)
    return dataclasses.replace(run, **changes)

  return stored


def _outcome(run, **changes):
  found = trial.Outcome(run.reason, dict(run.metrics), dict(run.curve))
  return dataclasses.replace(found, **changes)


def test_equal_bits_are_equal_whatever_the_order(stored):
  run = stored()
  turned = dict(reversed(run.curve.items()))
  found = reproduction.compare(
      run, _outcome(run, curve=turned), versions=VERSIONS, others=[run]
  )
  assert found.same_bits and found.kept
  assert not found.environment
  assert reproduction.sentences(found)[-1].startswith("bits: held")


def test_the_last_bit_counts(stored):
  run = stored()
  curve = dict(run.curve) | {"kl": [0.0, math.nextafter(0.1, 1.0)]}
  found = reproduction.compare(
      run, _outcome(run, curve=curve), versions=VERSIONS, others=[run]
  )
  assert found.stored.metrics == found.found.metrics
  assert found.stored.curve != found.found.curve
  # Nothing differs that could be the reason: a promise is broken.
  assert not found.same_bits and not found.kept
  told = reproduction.sentences(found)
  assert "bits: not held, they differ, with nothing to explain it" in told


@pytest.mark.parametrize("task", embedded.ALL.values())
def test_the_task_is_that_of_the_key(stored, task):
  run = stored()
  run = dataclasses.replace(run, key=dict(run.key) | {"task": task.name})
  assert reproduction.task_of(run) is task


@pytest.mark.parametrize("key", [{}, {"task": "carryless-9"}])
def test_another_version_of_a_task_is_another_task(stored, key):
  run = stored()
  run = dataclasses.replace(run, key=dict(run.key) | key)
  with pytest.raises(ValueError, match=f"task {key.get('task')!r} is not avai"):
    reproduction.task_of(run)


@pytest.mark.parametrize(
    "again, held, status", [(50.5, True, True), (80.0, False, False)]
)
def test_elsewhere_a_score_must_be_as_expected(stored, again, held, status):
  runs = [stored(seed, 50.0 + seed) for seed in range(3)]
  outcome = _outcome(runs[0], metrics={"overall": again})
  elsewhere = VERSIONS | {"processor": "slow", "threads": "2"}
  found = reproduction.compare(
      runs[0], outcome, versions=elsewhere, others=runs
  )
  # Of 50, 51, 52: 51 ± 4.3027 · 1 · √(4/3).
  assert found.expected.mean == 51.0
  assert found.expected.high == pytest.approx(
      51 + 4.3027 * math.sqrt(4 / 3), abs=1e-3
  )
  assert found.environment == {
      "processor": ("fast", "slow"), "threads": (None, "2"),
  }  # fmt: skip
  assert (found.in_interval, found.kept) == (held, status)
  told = reproduction.sentences(found)
  assert "processor: 'fast' then, 'slow' now" in told
  word = "held" if held else "not held"
  assert told[-1].startswith(
      f"interval: {word}, Overall {again:.2f} after 50.00"
  )


def test_other_budgets_and_bases_tell_nothing(stored):
  run = stored()
  others = [
      run,
      stored(1, 90.0, budget="confirm"),
      stored(2, 90.0, split="confirm"),
      stored(3, 90.0, key=dict(run.key) | {"base": "other"}),
      stored(4, 0.0, outcome="diverged", metrics={}),
  ]
  outcome = _outcome(run, metrics={"overall": 51.0})
  found = reproduction.compare(
      run, outcome, versions={}, others=others, peers=[[1.0, 3.0], [5.0, 5.0]]
  )
  # Variance of peers: (2 + 0) / 2 = 1 on two degrees of freedom; t_2 = 4.3027.
  assert found.expected.high == pytest.approx(
      50 + 4.3027 * math.sqrt(2), abs=1e-3
  )
  alone = reproduction.compare(run, outcome, versions={}, others=others)
  assert alone.expected is None and alone.in_interval is None
  assert not alone.kept
  assert "interval: cannot be told" in reproduction.sentences(alone)[-1]


def test_many_peers_count_as_four_degrees_of_freedom():
  peers = [[0.0, 2.0]] * 50
  found = reproduction.one_more([7.0], peers)
  # t_4 = 2.7764, variance 2, one run.
  assert found.high == pytest.approx(7 + 2.7764 * 2.0, abs=1e-3)


def test_breaking_down_again_is_as_promised(stored):
  run = stored(outcome="diverged", reason="loss is NaN", metrics={})
  again = _outcome(run)
  found = reproduction.compare(run, again, versions=VERSIONS, others=[run])
  assert found.same_bits
  later = dataclasses.replace(again, diverged="NaN at step 9")
  found = reproduction.compare(run, later, versions={}, others=[run])
  assert not found.same_bits and found.in_interval and found.kept
  fine = stored()
  broken = _outcome(fine, metrics={}, diverged="NaN")
  found = reproduction.compare(fine, broken, versions={}, others=[fine])
  assert found.in_interval is False and not found.kept
  assert "Overall diverged after 50.00" in reproduction.sentences(found)[-1]


def test_chooses_the_first_that_fits(stored):
  runs = [stored(0), stored(0, budget="confirm"), stored(1)]
  choose = reproduction.choose
  assert choose(runs) is runs[0]
  assert choose(runs, budget="confirm") is runs[1]
  assert choose(runs, seed=1, split="search") is runs[2]
  with pytest.raises(
      ValueError, match="no evaluation with seed 2; it has: con"
  ):
    choose(runs, seed=2)
  with pytest.raises(ValueError, match="has no evaluation; it has: none"):
    choose([])


@pytest.mark.parametrize("budget", list(budgets.ALL.values()))
def test_budgets_come_back_from_the_archive(stored, budget):
  plain = records.canonical_json({"budget": dataclasses.asdict(budget)})
  run = stored(key=json.loads(plain))
  assert reproduction.budget_of(run) == budget


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: b | {"hours": 3}, "Budget has no hours"),
        (lambda b: {"name": "x"}, "missing .*train"),
        (lambda b: b | {"train": 3}, "TrainConfig from 3"),
        (lambda b: b | {"train": b["train"] | {"steps": 0}}, "`steps` must be"),
    ],
)
def test_budgets_of_another_version_are_refused(stored, change, message):
  run = stored(key={"budget": change(dataclasses.asdict(budgets.QUICK))})
  with pytest.raises(ValueError, match="'quick' is not available.*" + message):
    reproduction.budget_of(run)
