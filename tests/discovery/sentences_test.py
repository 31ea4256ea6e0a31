"""Sentences say what there is, and name the budget that it is from."""

import pytest

from poise_jax.discovery import sentences, yardstick
from poise_jax.discovery.evidence import pairing
from poise_jax.evaluation import statistics


@pytest.fixture
def two(make):
  """Root and child with runs at these budgets: (budget, scores by seed)."""

  def two(*runs):
    return [
        pairing.Evidence(
            f"c-{index}",
            name,
            {},
            [
                make.evaluation(index, seed, scores[index], budget=budget)
                for seed, (budget, *scores) in enumerate(runs)
            ],
        )
        for index, name in enumerate(("grpo", "child"))
    ]

  return two


def test_why_a_run_broke_down(make):
  assert sentences.fault(make.evaluation(0, 0, 40.0)) == ""
  gone = {"outcome": "diverged", "metrics": {}}
  run = make.evaluation(0, 0, 0.0, reason="non-finite loss at step 1", **gone)
  assert sentences.fault(run) == "non-finite loss at step 1"
  run = make.evaluation(0, 0, 0.0, **gone)
  assert sentences.fault(run) == "no reason"
  far = make.evaluation(0, 0, 40.0, curve={"kl": [0.1, 5.0, 5.0, 5.0]})
  assert sentences.fault(far) == "KL of 5 nats a token, above 3"


def test_why_somebody_got_no_further(make, two):
  root, child = two(("quarter", 30.0, 18.5))
  told = sentences.stopped(child, root, yardstick.OVERALL)
  assert told == (
      "Overall -11.50 at the quarter budget against its parent, not measured"
      " further"
  )
  lost = make.evaluation(
      1, 1, 0.0, budget="smoke", outcome="diverged", reason="NaN", metrics={}
  )
  child.evaluations.append(lost)
  told = sentences.stopped(child, root, yardstick.OVERALL)
  assert told == "broke down in training at the smoke budget: NaN"
  nobody = pairing.Evidence("c-2", "other", {}, [])
  told = sentences.stopped(nobody, root, yardstick.OVERALL)
  assert told == "not compared with its parent"


def test_a_score_alone_names_other_budgets(two):
  _, child = two(("quick", 0.0, 60.0), ("quick", 0.0, 61.0))
  alone = sentences.versus(child, {}, yardstick.OVERALL, "quick")
  assert alone == ["Overall 60.50 in 2 runs, compared with none."]
  _, child = two(("quick", 0.0, 60.0), ("quarter", 0.0, 30.0))
  alone = sentences.versus(child, {}, yardstick.OVERALL, "quick")
  assert alone == [
      "Overall 60.00 in 1 run, 30.00 in 1 run (quarter budget), compared with"
      " none."
  ]


def test_what_is_open_of_a_limit_is_said(two):
  root, child = two(("quick", 1.0, 2.0))
  limits = {
      "overall >= 1 x root": yardstick.Limit(
          statistics.Interval(0.5, -2.0, 3.0), 1.0, 3
      ),
      "valid_rate >= 0.5": yardstick.Limit(
          statistics.Interval(0.25, 0.2, 0.3), 0.0, 3
      ),
  }
  assert sentences.limits(limits) == (
      "Limits, beside the root: overall >= 1 x root by +0.50 [-2.00, +3.00]"
      " with a margin of 1.00 (open); valid_rate >= 0.5 by +0.25 [+0.20, +0.30]"
      " with a margin of 0.00 (kept)."
  )
  assert sentences.limits({}) == ""
  assert sentences.limits(None) == "Whether its limits are kept is not known."
  assert sentences.suggestion("keep", child, root, limits, []) == (
      "Suggestion: keep, and confirm on fresh seeds; open is whether it keeps"
      " overall >= 1 x root."
  )
