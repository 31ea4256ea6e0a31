"""Verdicts by hand, their seeds and levels, and what a claim says."""

import dataclasses

import numpy as np
import pytest

from poise_jax.discovery.evidence import confirmation
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import slacks as slacks_lib
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


def test_a_root_that_breaks_down_is_nothing_to_compare_with():
  found = confirmation.judge(
      PROTOCOL, CLEAR, level=0.05, root_breakdown="non-finite loss"
  )
  assert found.verdict is Verdict.NOT_CONFIRMED
  assert found.reason == "a run of the root broke down: non-finite loss"


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
    return confirmation.Measured([values[s - 1000] for s in seeds])

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


def _judged(gains, slacks, **options):
  found = confirmation.judge(
      PROTOCOL, gains, level=0.05, slacks={"kl <= 1": slacks}, **options
  )
  return found, found.constraints["kl <= 1"]


def test_a_gain_has_to_keep_every_constraint():
  kept, slack = _judged(CLEAR, CLEAR)
  assert kept.verdict is Verdict.CONFIRMED
  # By the same numbers, the same ends.
  assert (slack.mean, slack.low, slack.high) == (kept.mean, kept.low, kept.high)
  assert slack.kept and not slack.broken
  assert "; kl <= 1: +3 to spare [+" in kept.claim

  broken, slack = _judged(CLEAR, [-x for x in CLEAR])
  assert broken.verdict is Verdict.NOT_CONFIRMED
  assert broken.reason == "breaks kl <= 1"
  assert slack.broken and "; kl <= 1: -3 to spare [-" in broken.claim

  open_, slack = _judged(CLEAR, [1.0, -1.0] * 4)
  assert open_.verdict is Verdict.PENDING
  assert not slack.kept and not slack.broken
  used, _ = _judged(CLEAR + [3.0] * 4, [1.0, -1.0] * 6)
  assert used.verdict is Verdict.NOT_CONFIRMED
  assert used.reason == (
      "all seeds are used, without showing that it keeps kl <= 1"
  )


def test_a_certain_gain_is_not_given_up_for_being_small():
  """While it is open whether a constraint is kept."""
  protocol = dataclasses.replace(PROTOCOL, worthwhile=5.0)
  slacks = {"kl <= 1": [1.0, -1.0] * 4}
  found = confirmation.judge(protocol, CLEAR, level=0.05, slacks=slacks)
  assert found.verdict is Verdict.PENDING
  alone = confirmation.judge(
      protocol, [0.1, -0.1] * 4, level=0.05, slacks=slacks
  )
  assert alone.reason == "an effect of 5 is ruled out"


@pytest.mark.parametrize(
    "slack, verdict",
    [
        (0.0, Verdict.CONFIRMED),
        (0.1, Verdict.CONFIRMED),
        (-0.1, Verdict.NOT_CONFIRMED),
    ],
)
def test_what_never_varies_is_certain(slack, verdict):
  found, of_it = _judged(CLEAR, [slack] * 8)
  assert found.verdict is verdict
  assert of_it[:3] == (slack, slack, slack)


def test_a_margin_is_tolerated_and_said_unless_a_miss_is_certain():
  near = [0.1, -0.1] * 4
  assert _judged(CLEAR, near)[0].verdict is Verdict.PENDING
  found, _ = _judged(CLEAR, near, margins={"kl <= 1": 0.5})
  assert found.verdict is Verdict.CONFIRMED
  assert found.claim.endswith("], margin 0.5")
  missed, slack = _judged(
      CLEAR, [x - 0.3 for x in near], margins={"kl <= 1": 0.5}
  )
  assert slack.kept and slack.broken
  assert missed.reason == "breaks kl <= 1"


def test_slacks_are_finite_and_of_the_same_seeds():
  with pytest.raises(ValueError, match="`slacks` must be of the seeds of the"):
    _judged(CLEAR, CLEAR[1:])
  with pytest.raises(ValueError, match="`slacks` must be finite"):
    _judged(CLEAR, [float("inf")] * 8)


SHORT = objectives.Objective(
    (objectives.Term("response_length", "min"),),
    (objectives.Constraint("overall", ">=", 0.98, relative=True),),
)


def _shares_confirmed(lost, level, campaigns, **changes):
  """Of candidates 8 tokens shorter at so many points, beside 50 and 40."""
  protocol = dataclasses.replace(PROTOCOL, **changes)
  rng = np.random.default_rng(7)

  def drawn(overall, length, luck):
    found = np.array([overall, length]) + np.array([2.5, 0.5]) * luck
    return dict(zip(("overall", "response_length"), found, strict=True))

  def pair():
    """A candidate and the root with one seed; half the variance is shared."""
    shared, own, other = rng.normal(size=(3, 2)) * np.sqrt(0.5)
    ours = drawn(50.0 - lost, 32.0, shared + own)
    return ours, drawn(50.0, 40.0, shared + other)

  def run(name, seeds):
    pairs = [pair() for _ in seeds]
    # What the noise makes of it: 8 tokens are 40 points.
    worth = lambda one: objectives.utility(
        SHORT,
        one,
        {"overall": 50.0, "response_length": 40.0},
        {"response_length": 0.2},
    )
    spare = [slacks_lib.of(SHORT, *both) for both in pairs]
    return confirmation.Measured(
        [worth(own) - worth(root) for own, root in pairs],
        {name: [one[name] for one in spare] for name in spare[0]},
    )

  confirmed = 0
  for _ in range(campaigns):
    (found,) = confirmation.confirm(
        protocol, ["a"], alpha=level, shares=(1.0,), run=run
    ).values()
    confirmed += found.verdict is Verdict.CONFIRMED
  return confirmed / campaigns


def test_a_gain_cannot_buy_a_broken_constraint():
  """Two points are lost where one may be; and exactly the one."""
  looks = {"max_seeds": 24, "at_once": 8}
  assert _shares_confirmed(2.0, 0.05, 300, **looks) <= 0.05
  assert 0 < _shares_confirmed(1.0, 0.2, 200, **looks) <= 0.2


def test_what_is_shorter_and_loses_nothing_is_confirmed():
  """A margin of 0.4 sd takes many seeds: measured 1.00; in 24 seeds 0.26."""
  many = {"max_seeds": 160, "at_once": 8}
  assert _shares_confirmed(0.0, 0.05, 100, **many) >= 0.9
