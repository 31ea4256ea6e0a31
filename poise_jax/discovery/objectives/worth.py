"""What a run is worth to the objective of a campaign, in points."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import slacks, units
from poise_jax.tasks import arithmetic


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

  def beside(
      self, root: records.Candidate, runs: Sequence[records.Evaluation]
  ) -> "Worth":
    """The same objective in another setting, by the root's runs there.

    What is limited relative to the root is limited relative to what the root
    reaches with that budget, on those problems and from that base policy.
    """
    return dataclasses.replace(self, root=_means(root, runs))

  def score(
      self, candidate: records.Candidate, run: records.Evaluation
  ) -> float:
    """U of one run, in points of Overall, for a search to go by.

    Where a constraint is broken, at most the root's U is left, less what it is
    broken by. Cheap, and no ground for a claim: by its noise a run now breaks
    a limit and now keeps it, and the mean over runs can rise although the
    limit is broken on average. Claims test `gain` and `slacks` each.
    """
    own = of_run(candidate, run)
    gain = self.gain(candidate, run)
    broken = objectives.violations(self.objective, own, self.root, self.scales)
    if not broken:
      return gain
    level = objectives.utility(
        self.objective, self.root, self.root, self.scales
    )
    return min(gain, level) - sum(violation.points for violation in broken)

  def gain(
      self, candidate: records.Candidate, run: records.Evaluation
  ) -> float:
    """U of one run by the terms alone, whatever it breaks."""
    own = of_run(candidate, run)
    return objectives.utility(self.objective, own, self.root, self.scales)

  def slacks(
      self,
      candidate: records.Candidate,
      run: records.Evaluation,
      root: records.Candidate,
      beside: records.Evaluation,
  ) -> Mapping[str, float]:
    """By how much a run keeps each constraint, by the root's run beside it."""
    return slacks.of(
        self.objective, of_run(candidate, run), of_run(root, beside)
    )

  @property
  def provenance(self) -> dict[str, Any]:
    """What a conclusion tells of the objective behind it; empty for Overall."""
    if self.objective == objectives.DEFAULT:
      return {}
    return {"objective": objectives.to_json(self.objective)}

  @property
  def margins(self) -> Mapping[str, float]:
    """By how much constraints may be missed; see `slacks.margins`."""
    return slacks.margins(self.objective, self.root)


def of_run(
    candidate: records.Candidate, run: records.Evaluation
) -> dict[str, float]:
  """The metrics of a scored run that are the same whenever it is repeated.

  Those stored with it, `tokens` it was trained on, and of the loss itself
  `description_length` (bits of its canonical text, compressed) and `flops` (of
  loss and gradient on a probe). All are recomputed from what is archived, so
  that old archives tell them in the same units, except for absolute limits of
  `description_length` that were stored in operations. No clock is read.
  """
  found = dict(run.metrics)
  if tokens := run.curve.get("num_tokens"):
    found["tokens"] = float(sum(tokens))
  for name, key in (("description_length", "bits"), ("flops", "flops")):
    value = candidate.intrinsic.get(key)
    if value is not None:
      found[name] = float(value)
  return found


# Of every run: what is scored over all sets, how training ended, and the loss.
_ALWAYS = (
    *("overall", "valid_rate", "truncated_rate"),
    *("response_length", "greedy_length", "heldout_perplexity"),
    *("entropy", "kl", "tokens", "description_length", "flops"),
)


def recorded(suite: Sequence[arithmetic.ProblemSet]) -> tuple[str, ...]:
  """Names of all metrics that `of_run` finds, known before any run is made."""
  sets = [f"{one.metric}/{one.name}" for one in suite]
  sampled = [one.name for one in suite if one.metric == "pass_at_k"]
  return (*_ALWAYS, *sets, *(f"pass_at_1/{name}" for name in sampled))


def appraise(
    objective: objectives.Objective,
    groups: Sequence[tuple[records.Candidate, Sequence[records.Evaluation]]],
) -> Worth:
  """Takes scales and the root's level from what was planted.

  Args:
    objective: of the campaign.
    groups: planted candidates with their scored runs, the root first.
  """
  columns = [[of_run(c, run) for run in runs] for c, runs in groups if runs]
  return Worth(objective, _means(*groups[0]), units.scales(columns))


def _means(
    candidate: records.Candidate, runs: Sequence[records.Evaluation]
) -> dict[str, float]:
  metrics = [of_run(candidate, run) for run in runs]
  return {
      name: float(np.mean([of_one[name] for of_one in metrics]))
      for name in metrics[0]
  }
