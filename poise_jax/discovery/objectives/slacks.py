"""By how much constraints are kept, for tests that claim that they are.

    slack = x - limit(root) for `>=`,  limit(root) - x for `<=`

in the metric's own unit. With the runs of a candidate and of the root with the
same seed, limits relative to the root are paired seed by seed.

No number of seeds shows that two values are equal. So a limit at exactly the
root's own value (`no worse than the root`) could never be claimed of a candidate
that is as good as the root; it is tested for non-inferiority, with a margin.
"""

from collections.abc import Mapping

from poise_jax.discovery.objectives import objective as objectives

# Part of the root's value.
MARGIN = 0.02
# Of the loss itself: the same for every seed, so equal is seen to be equal.
_EXACT = ("description_length", "flops")


def of(
    objective: objectives.Objective,
    metrics: objectives.Metrics,
    root_metrics: objectives.Metrics,
) -> Mapping[str, float]:
  """The slack of each constraint; below 0 where it is broken.

  Args:
    objective: only its constraints count here.
    metrics: of a candidate.
    root_metrics: of the root.

  Returns:
    The constraint as text -> slack.

  Raises:
    ValueError: if a metric of a constraint is missing or not finite.
  """
  return {
      str(constraint): constraint.slack(metrics, root_metrics)
      for constraint in objective.constraints
  }


def margins(
    objective: objectives.Objective, root_metrics: objectives.Metrics
) -> Mapping[str, float]:
  """By how much each constraint may be missed where it is claimed to be kept.

  `MARGIN` of the root's value for limits at exactly that value, of metrics
  with noise. 0 for all others: their bound says what margin they leave.

  Args:
    objective: only its constraints count here.
    root_metrics: of the root, known before the test begins.

  Returns:
    The constraint as text -> margin, in the metric's own unit.

  Raises:
    ValueError: if a metric that needs a margin is missing or not finite.
  """
  return {
      str(constraint): MARGIN * abs(constraint.limit(root_metrics))
      if _at_root(constraint)
      else 0.0
      for constraint in objective.constraints
  }


def _at_root(constraint: objectives.Constraint) -> bool:
  exact = constraint.metric in _EXACT
  return constraint.relative and constraint.bound == 1 and not exact
