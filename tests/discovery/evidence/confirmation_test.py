"""Verdicts by hand, their seeds and levels, and what a claim says."""

import dataclasses

import numpy as np
import pytest

from poise_jax.discovery.evidence import confirmation
from poise_jax.evaluation import confidence_sequences

PROTOCOL = confirmation.Protocol("confirm", "embedded", max_seeds=12)
Verdict = confirmation.Verdict
CLEAR = [3.0, 2.5, 3.5, 3.2, 2.8, 3.1, 2.9, 3.0]


def test_nothing_is_decided_before_the_least_seeds():
  early = confirmation.judge(PROTOCOL, CLEAR[:7], level=0.05)
  assert early.verdict is Verdict.PENDING
  assert (early.low, early.high) == (None, None)
  assert confirmation.next_seeds(PROTOCOL, early) == (1007,)
  first = confirmation.judge(PROTOCOL, [], level=0.05)
  assert first.mean is None
  assert confirmation.next_seeds(PROTOCOL, first) == tuple(range(1000, 1008))


def test_after_the_first_seeds_two_are_run_side_by_side():
  pending = confirmation.judge(PROTOCOL, [1.0, -1.0] * 4, level=0.05)
  assert confirmation.next_seeds(PROTOCOL, pending) == (1008, 1009)
  last = confirmation.judge(PROTOCOL, [1.0, -1.0] * 5 + [1.0], level=0.05)
  assert confirmation.next_seeds(PROTOCOL, last) == (1011,)
  alone = dataclasses.replace(PROTOCOL, at_once=1)
  assert confirmation.next_seeds(alone, pending) == (1008,)


def test_a_clear_gain_is_confirmed_with_the_interval_of_these_seeds():
  found = confirmation.judge(PROTOCOL, CLEAR, level=0.04)
  assert found.verdict is Verdict.CONFIRMED
  assert found.mean == pytest.approx(3.0)
  edge = confidence_sequences.boundary(8, 0.04)
  half = edge * np.std(CLEAR, ddof=1) / np.sqrt(8)
  assert found.low == pytest.approx(3 - half)
  assert found.high == pytest.approx(3 + half)
  assert confirmation.next_seeds(PROTOCOL, found) == ()


def test_a_clear_loss_is_contradicted():
  found = confirmation.judge(PROTOCOL, [-x for x in CLEAR], level=0.05)
  assert found.verdict is Verdict.CONTRADICTED


def test_all_seeds_without_a_decision_do_not_confirm():
  mixed = [1.0, -1.0, 2.0, -2.0, 3.0, -3.0] * 2
  assert (
      confirmation.judge(PROTOCOL, mixed[:11], level=0.05).verdict
      is Verdict.PENDING
  )
  found = confirmation.judge(PROTOCOL, mixed, level=0.05)
  assert found.verdict is Verdict.NOT_CONFIRMED
  assert found.reason == "all seeds are used"


def test_it_ends_when_nothing_worthwhile_is_possible():
  protocol = dataclasses.replace(PROTOCOL, worthwhile=2.0)
  small = [0.2, -0.1, 0.1, 0.0, -0.2, 0.1, 0.3, -0.3]
  found = confirmation.judge(protocol, small, level=0.05)
  assert found.verdict is Verdict.NOT_CONFIRMED
  assert found.reason == "an effect of 2 is ruled out"
  # A small gain that is certain is a discovery all the same.
  certain = [1.0 + x / 10 for x in small]
  found = confirmation.judge(protocol, certain, level=0.05)
  assert found.verdict is Verdict.CONFIRMED


def test_who_breaks_down_is_not_better():
  found = confirmation.judge(
      PROTOCOL, CLEAR, level=0.05, breakdown="KL collapse"
  )
  assert found.verdict is Verdict.NOT_CONFIRMED
  assert found.reason == "a run broke down: KL collapse"


def test_a_twin_is_never_better():
  found = confirmation.judge(PROTOCOL, [0.0] * 12, level=0.05)
  assert found.verdict is Verdict.NOT_CONFIRMED


def test_a_claim_names_budget_base_split_and_seeds():
  claim = confirmation.judge(PROTOCOL, CLEAR, level=0.04).claim
  for part in ("confirmed", "embedded", "budget confirm", "split confirm"):
    assert part in claim
  assert "+3.00 points [" in claim and "8 fresh seeds" in claim


def _runner(differences, calls):
  def run(name, seeds):
    calls.append((name, seeds))
    values = differences[name]
    return [values[s - 1000] for s in seeds], ""

  return run


def test_finalists_are_tested_in_order_each_at_its_level():
  calls = []
  bad, good = [-0.5, 0.5] * 6, CLEAR + [3.0] * 4
  findings = confirmation.confirm(
      PROTOCOL,
      ["bad", "good"],
      alpha=0.05,
      shares=(0.8, 0.2),
      run=_runner({"bad": bad, "good": good}, calls),
  )
  assert findings["bad"].verdict is Verdict.NOT_CONFIRMED
  assert findings["bad"].level == pytest.approx(0.04)
  assert findings["good"].verdict is Verdict.CONFIRMED
  assert findings["good"].level == pytest.approx(0.01)
  assert calls[0] == ("bad", tuple(range(1000, 1008)))
  assert calls[1] == ("bad", (1008, 1009))
  assert confirmation.sealed_due(findings) == ("good",)


def test_one_discovery_may_be_enough_or_pass_its_level_on():
  run = _runner({"a": CLEAR, "b": CLEAR, "c": CLEAR}, [])
  shares = (0.8, 0.2)
  names = ["a", "b", "c"]
  one = confirmation.confirm(
      PROTOCOL, names, alpha=0.05, shares=shares, run=run
  )
  assert list(one) == ["a"]
  two = confirmation.confirm(
      PROTOCOL, names, alpha=0.05, shares=shares, run=run, enough=9
  )
  assert list(two) == ["a", "b"]
  assert two["b"].level == pytest.approx(0.05)


def test_the_sealed_split_waits_for_all_verdicts():
  pending = confirmation.judge(PROTOCOL, CLEAR[:3], level=0.05)
  with pytest.raises(ValueError, match="pending: a"):
    confirmation.sealed_due({"a": pending})


def test_differences_must_be_finite():
  with pytest.raises(ValueError, match="`differences` must be finite"):
    confirmation.judge(PROTOCOL, [1.0, float("nan")], level=0.05)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"least_seeds": 13}, "`least_seeds` must lie in"),
        ({"at_once": 0}, "`at_once` must be at least 1"),
        ({"split": "sealed"}, "`split` must not be sealed"),
    ],
)
def test_a_protocol_must_make_sense(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(PROTOCOL, **change)


def test_the_level_holds_although_it_may_stop_at_any_seed():
  rng = np.random.default_rng(0)
  confirmed = 0
  for _ in range(400):
    values = rng.normal(0, 3.0, 12)
    found = confirmation.confirm(
        PROTOCOL,
        ["a"],
        alpha=0.1,
        shares=(1.0,),
        run=_runner({"a": list(values)}, []),
    )
    confirmed += found["a"].verdict is Verdict.CONFIRMED
  assert confirmed / 400 <= 0.1
  assert confirmed > 2
