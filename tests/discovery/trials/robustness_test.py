"""Plans by enumeration, areas by hand."""

import dataclasses
import math

import pytest

from poise_jax.discovery.trials import robustness
from poise_jax.training import config as config_lib

NOMINAL = robustness.Condition(0.0, 0.0, 8, 0, 31, "embedded")
USUAL = config_lib.TrainConfig(
    steps=2, prompts=24, group_size=8, epochs=1, minibatches=4,
    learning_rate=1e-4,
)  # fmt: skip


def test_a_plan_changes_one_thing_at_a_time():
  along = [
      robustness.Axis("false_positive", (0.0, 0.05, 0.1)),
      robustness.Axis("group_size", (2, 4, 8, 16, 32), math.log2),
      robustness.Axis("completion_length", (19, 25, 31)),
      robustness.Axis("base", ("embedded", "other"), None),
  ]
  plan = robustness.conditions(NOMINAL, along)
  assert plan[0] == NOMINAL
  assert len(set(plan)) == len(plan) == 1 + 2 + 4 + 2 + 1
  for condition in plan[1:]:
    changed = [
        field.name
        for field in dataclasses.fields(condition)
        if getattr(condition, field.name) != getattr(NOMINAL, field.name)
    ]
    assert len(changed) == 1
  assert {c.group_size for c in plan} == {2, 4, 8, 16, 32}
  assert {c.completion_length for c in plan} == {19, 25, 31}


@pytest.mark.parametrize(
    "size, prompts", [(2, 96), (4, 48), (8, 24), (16, 12), (32, 8)]
)
def test_a_rollout_keeps_its_completions_where_it_can(size, prompts):
  condition = dataclasses.replace(NOMINAL, group_size=size)
  found = robustness.train_config(condition, USUAL)
  # 192 completions; 32 a group would be 6 prompts, which 4 parts do not allow.
  assert (found.prompts, found.group_size) == (prompts, size)
  assert found.completion_length == 31
  tiny = dataclasses.replace(USUAL, prompts=4, group_size=4)
  assert robustness.train_config(condition, tiny).prompts >= 4


def test_areas_by_hand():
  linear = robustness.Axis("lag", (0, 1, 3))
  # (0 to 1: 15; 1 to 3: 2 · 30) / 3
  assert robustness.area(linear, [10.0, 20.0, 40.0]) == pytest.approx(25.0)
  octaves = robustness.Axis("group_size", (2, 8, 16), math.log2)
  assert robustness.area(octaves, [0.0, 30.0, 60.0]) == pytest.approx(25.0)
  bases = robustness.Axis("base", ("a", "b"), None)
  assert robustness.area(bases, [1.0, 4.0]) == 2.5


def _measured(axis, child, root):
  """Scores by value, [values][seeds]."""
  points = [
      dataclasses.replace(NOMINAL, **{axis.field: v}) for v in axis.values
  ]
  return {
      point: robustness.Scores(tuple(c), tuple(r))
      for point, c, r in zip(points, child, root, strict=True)
  }


def test_compares_areas_seed_by_seed():
  axis = robustness.Axis("lag", (0, 2, 4))
  root = [[50.0, 60.0], [40.0, 50.0], [30.0, 40.0]]
  child = [[51.0, 63.0], [46.0, 58.0], [41.0, 53.0]]
  (found,) = robustness.compare(NOMINAL, [axis], _measured(axis, child, root))
  # Areas: root 40 and 50, child 46 and 58; at rest the child is 1 and 3 ahead.
  assert (found.child, found.root) == (52.0, 45.0)
  assert found.area.mean == pytest.approx(7.0)
  # Two seeds, 6 and 8: sd √2, t_1 = 12.706, half width 12.706.
  assert found.area.low == pytest.approx(7.0 - 12.706, abs=1e-3)
  assert [d.mean for d in found.differences] == [2.0, 7.0, 12.0]
  assert found.loss.mean == pytest.approx(-5.0)


def test_intervals_hold_for_all_axes_at_once():
  one = robustness.Axis("lag", (0, 2))
  two = robustness.Axis("false_positive", (0.0, 0.1))
  scores = [[5.0, 6.0, 8.0]] * 2, [[4.0, 6.0, 7.0]] * 2
  measured = _measured(one, *scores) | _measured(two, *scores)
  (alone,) = robustness.compare(NOMINAL, [one], measured)
  first, second = robustness.compare(NOMINAL, [one, two], measured)
  assert first.area == second.area
  assert first.area.high > alone.area.high
  # 97.5 % of two degrees of freedom: t = 6.2053 against 4.3027.
  wider = (first.area.high - first.area.mean) / (
      alone.area.high - alone.area.mean
  )
  assert wider == pytest.approx(6.2053 / 4.3027, rel=1e-3)


def test_words():
  axis = robustness.Axis("group_size", (2, 8), math.log2)
  say = lambda child: next(
      robustness.sentences(
          robustness.compare(
              NOMINAL,
              [axis],
              _measured(axis, [child] * 2, [[5.0, 5.1, 5.2]] * 2),
          )
      )
  )
  assert say([9.0, 9.1, 9.3]).startswith("Better over group size 2 to 8: 9.1")
  assert say([1.0, 1.1, 1.1]).startswith("Worse over group size")
  assert say([5.0, 5.3, 5.0]).startswith("No difference shown over group size")


@pytest.mark.parametrize(
    "axis, drop, message",
    [
        (
            robustness.Axis("lag", (0, 2, 1)),
            0,
            "must be at least two that rise",
        ),
        (robustness.Axis("lag", (0,)), 0, "must be at least two that rise"),
        (
            robustness.Axis("lag", (0, 2, 4)),
            1,
            "`measured` must have Condition",
        ),
    ],
)
def test_refuses_what_has_no_area(axis, drop, message):
  scores = [[1.0, 2.0]] * len(axis.values)
  measured = _measured(axis, scores, scores)
  for condition in list(measured)[1 : 1 + drop]:
    del measured[condition]
  with pytest.raises(ValueError, match=message):
    robustness.compare(NOMINAL, [axis], measured)


def test_refuses_uneven_seeds():
  axis = robustness.Axis("lag", (0, 2))
  measured = _measured(axis, [[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0], [1.0]])
  with pytest.raises(ValueError, match=r"same seeds .* got \[1, 2\]"):
    robustness.compare(NOMINAL, [axis], measured)
