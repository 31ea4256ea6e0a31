"""Overall or an objective: what was gained, which limits hold, what to do."""

import pytest

from poise_jax.discovery import yardstick
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.evaluation import statistics

SHORT = objectives.Objective(
    (objectives.Term("response_length", "min"),),
    (
        objectives.Constraint("overall", ">=", 1.0, relative=True),
        objectives.Constraint("valid_rate", ">=", 0.5),
    ),
)
NOTHING = yardstick.Prior(0.0, 0.0)


@pytest.fixture
def short(make):
  """Two tokens are worth a point; the root has 50 points with 20 tokens."""
  root = {"overall": 50.0, "response_length": 20.0, "valid_rate": 0.9}
  worth = worths.Worth(SHORT, root, {"response_length": 2.0})
  both = (make.candidate(0, "root"), make.candidate(1, "child"))
  return yardstick.Yardstick(worth, {one.id: one for one in both})


@pytest.fixture
def evidence(make):
  """Candidate by index with (Overall, length) of each seed."""

  def evidence(index, *values, **changes):
    runs = [
        make.evaluation(
            index,
            seed,
            overall,
            metrics={
                "overall": overall,
                "response_length": length,
                "valid_rate": 0.75,
            },
            **changes,
        )
        for seed, (overall, length) in enumerate(values)
    ]
    return pairing.Evidence(f"c-{index}", "root", {}, runs)

  return evidence


def test_a_gain_is_what_the_terms_say(short, evidence):
  root = evidence(0, (50.0, 20.0), (48.0, 22.0))
  child = evidence(1, (49.0, 12.0), (48.0, 10.0))
  own = short.compare(child, root, NOTHING)
  # 8 and 12 tokens fewer, at two for a point; a point of Overall in one of two.
  assert own.gain.mean == pytest.approx(5.0)
  assert own.gap.mean == pytest.approx(-0.5)
  assert own.name == "root" and own.pairs.seeds == (0, 1)
  plain = yardstick.OVERALL.compare(child, root, NOTHING)
  assert plain.gain == plain.gap == own.gap
  assert yardstick.OVERALL.plain and not short.plain
  assert short.compare(child, child, NOTHING) is None


def test_a_prior_moderates_the_gain_and_limits_of_overall(short, evidence):
  root = evidence(0, (50.0, 20.0), (50.0, 20.0), (50.0, 20.0))
  child = evidence(1, (50.0, 12.0), (50.0, 12.0), (50.0, 12.0))
  prior = yardstick.Prior(11.25, 8.0)
  own = short.compare(child, root, prior)
  # s² = 8 * 11.25 / 10 = 9, t_10 = 2.228139, over three seeds.
  half = 2.228139 * (9 / 3) ** 0.5
  assert own.gain.low == pytest.approx(4.0 - half, abs=1e-5)
  limits = short.limits(child, root, prior)
  overall, valid = limits.values()
  assert list(limits) == ["overall >= 1 x root", "valid_rate >= 0.5"]
  assert overall.slack.high == pytest.approx(half, abs=1e-5)
  # No worse than the root is no more than 2 % worse.
  assert (overall.margin, overall.seeds) == (pytest.approx(1.0), 3)
  assert overall.standing == "open" and not overall.short
  # What is recorded without noise is seen as it is.
  assert valid.slack == pytest.approx((0.25, 0.25, 0.25))
  assert valid.standing == "kept" and valid.margin == 0.0


def test_runs_without_a_score_compare_nothing(short, make):
  root, child = (
      pairing.Evidence(
          name, name, {}, [make.evaluation(index, 0, 0.0, metrics={})]
      )
      for index, name in enumerate(("root", "child"))
  )
  assert short.compare(child, root, NOTHING) is None
  assert short.limits(child, root, NOTHING) is None
  assert short.limits(root, root, NOTHING) == {}
  assert yardstick.OVERALL.limits(child, root, NOTHING) == {}


def _limit(low, high, margin=1.0, seeds=3):
  slack = statistics.Interval((low + high) / 2, low, high)
  return {"x": yardstick.Limit(slack, margin, seeds)}


UP, DOWN, ROUND = (
    statistics.Interval(sum(ends) / 2, *ends)
    for ends in ((1.0, 3.0), (-3.0, -1.0), (-1.0, 3.0))
)


@pytest.mark.parametrize(
    ("gap", "seeds", "limits", "expected"),
    [
        (UP, 3, {}, "keep"),
        (UP, 2, {}, "undecided"),
        (DOWN, 3, {}, "drop"),
        (ROUND, 9, {}, "undecided"),
        (None, 0, {}, "undecided"),
        (statistics.Interval(5.0, None, None), 3, {}, "undecided"),
        (UP, 3, _limit(-4.0, 3.0), "keep"),  # open, and kept on average
        (UP, 3, _limit(-4.0, 1.0), "undecided"),  # missed on average
        (UP, 3, _limit(-4.0, -2.0), "drop"),  # surely missed
        (UP, 3, _limit(-4.0, -2.0, seeds=2), "undecided"),
        (UP, 3, None, "undecided"),
        (DOWN, 3, None, "drop"),
    ],
)
def test_what_to_do(gap, seeds, limits, expected):
  assert yardstick.decide(gap, seeds, limits) == expected


def test_an_objective_in_words():
  assert yardstick.wanted(objectives.DEFAULT) == ""
  told = yardstick.wanted(
      objectives.Objective(
          (objectives.Term("response_length", "min", 2.0),),
          (objectives.Constraint("overall", ">=", 0.98, True),),
          ("kl_penalty",),
      )
  )
  assert told.startswith("lower response_length (weight 2); keep overall >=")
  assert told.endswith("without kl_penalty")
