"""What a run is worth to the objective of a campaign, in points."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import units


@dataclasses.dataclass(frozen=True)
class Worth:
  """How runs are compared.

  Attributes:
    objective: what to improve, and what to keep.
    root: mean metrics of the root.
    scales: what one point is worth in each metric, from `units.scales`.
  """

  objective: objectives.Objective
  root: Mapping[str, float]
  scales: Mapping[str, float]

  def metrics(
      self, candidate: records.Candidate, run: records.Evaluation
  ) -> dict[str, float]:
    """Everything that an objective may name; see `of_run`."""
    return of_run(candidate, run)

  def score(
      self, candidate: records.Candidate, run: records.Evaluation
  ) -> float:
    """U of one run, in points of Overall.

    A gain cannot buy a broken constraint: where one is broken, at most the
    root's U is left, less what it is broken by.
    """
    own = of_run(candidate, run)
    gain = objectives.utility(self.objective, own, self.root, self.scales)
    broken = objectives.violations(self.objective, own, self.root, self.scales)
    if not broken:
      return gain
    level = objectives.utility(
        self.objective, self.root, self.root, self.scales
    )
    return min(gain, level) - sum(violation.points for violation in broken)


def of_run(
    candidate: records.Candidate, run: records.Evaluation
) -> dict[str, float]:
  """The metrics of a scored run that are the same whenever it is repeated.

  Those stored with it, `tokens` it was trained on, and of the loss itself
  `description_length` (operations) and `flops`. No clock is read.
  """
  found = dict(run.metrics)
  if tokens := run.curve.get("num_tokens"):
    found["tokens"] = float(sum(tokens))
  for name, key in (("description_length", "operations"), ("flops", "flops")):
    value = candidate.intrinsic.get(key)
    if value is not None:
      found[name] = float(value)
  return found


def appraise(
    objective: objectives.Objective,
    groups: Sequence[tuple[records.Candidate, Sequence[records.Evaluation]]],
) -> Worth:
  """Takes scales and the root's level from what was planted.

  Args:
    objective: of the campaign.
    groups: planted candidates with their scored runs, the root first.

  Raises:
    ValueError: if the objective names a metric that is not recorded.
  """
  columns = [[of_run(c, run) for run in runs] for c, runs in groups if runs]
  root = columns[0]
  objectives.checked(objective, root[0])
  return Worth(
      objective,
      {name: float(np.mean([run[name] for run in root])) for name in root[0]},
      units.scales(columns),
  )
