"""What is declared before a winner is explained, and how its runs are read.

Everything is measured at a variation of one budget (`variation`), so that no run
of an explanation is ever taken for one of the search. Choices are made on seeds
and problems of the search, effects told from fresh seeds on the CONFIRM split.

What an objective limits relative to the root is judged by one level of the root
throughout, that of confirmations. It is the right one for fresh seeds at the
budget of confirmations, without hardship. On the problems of the search, at
another budget, and where training is made harder or the base policy is another
one, the root itself would reach another level. There a limit is a little too
lax or too strict, for winner and root alike.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.dissection import equal_cost
from poise_jax.discovery.evidence import breakdown
from poise_jax.discovery.trials import trial
from poise_jax.discovery.trials import variation as variations
from poise_jax.tasks import arithmetic

# What a run of a candidate is worth, in points.
Score = Callable[[records.Candidate, records.Evaluation], float]


@dataclasses.dataclass
class Plan:
  """How a winner is explained; 0, or nothing, leaves a part out.

  Not frozen, for launch scripts to override fields; `checked` validates.

  Attributes:
    budget: name of the budget of all trials; empty for that of confirmations,
      which whoever makes campaigns fills in.
    first_seed: of those that choices are made with; fresh ones begin 100 later.
    floor: points that a run counts that broke down: the lowest score there is.
    ablation_trials: most trials of the ablation.
    margin: points that a smaller program may lose and still be no worse; of
      what was confirmed at most half of the effect, or nothing might be left of
      it.
    alpha: error probability of the ablation.
    pairs: most pairs of each comparison with the winner.
    effect_pairs: pairs for the effect of each part.
    statements: also takes the text apart where mechanisms are known; where they
      are not, that is done anyway.
    max_variants: most programs that are put through the gate.
    settings: tried in tuning, of the winner and of the root.
    tuning_seeds: of each setting.
    fresh_seeds: that tuned and untuned ones are compared with.
    hard_seeds: of each hard condition.
    false_positive: error rates of the verifier, beside 0.
    false_negative: likewise.
    group_sizes: beside that of the budget.
    lags: of the sampling policy in rollouts, beside 0.
    lengths: shares of the usual limit of length, beside 1.
    bases: other base policies; the second one of the campaign has been asked
      by then.
  """

  budget: str = ""
  first_seed: int = 2000
  floor: float = 0.0
  ablation_trials: int = 72
  margin: float = 4.0
  alpha: float = 0.1
  pairs: int = 8
  effect_pairs: int = 4
  statements: bool = False
  max_variants: int = 150
  settings: int = 5
  tuning_seeds: int = 2
  fresh_seeds: int = 4
  hard_seeds: int = 3
  false_positive: tuple[float, ...] = (0.1,)
  false_negative: tuple[float, ...] = (0.1,)
  group_sizes: tuple[int, ...] = (2, 4, 16, 32)
  lags: tuple[int, ...] = (2,)
  lengths: tuple[float, ...] = (0.8,)
  bases: tuple[str, ...] = ()

  def checked(self) -> "Plan":
    """Returns itself, if it can be followed.

    Raises:
      ValueError: naming the field, as one of `explain` of a campaign.
    """
    for name, least in _LEAST.items():
      if getattr(self, name) < least:
        raise ValueError(
            f"`explain.{name}` must be at least {least}, got"
            f" {getattr(self, name)}"
        )
    for name, (low, high) in _RANGES.items():
      if not all(low <= value <= high for value in getattr(self, name)):
        raise ValueError(
            f"`explain.{name}` must lie in [{low:g}, {high:g}], got"
            f" {getattr(self, name)}"
        )
    for name in ("pairs", "tuning_seeds", "fresh_seeds", "hard_seeds"):
      if getattr(self, name) > _BLOCK:
        raise ValueError(
            f"`explain.{name}` must be at most {_BLOCK}, or seeds would be"
            f" used for two things, got {getattr(self, name)}"
        )
    if self.effect_pairs > self.pairs:
      raise ValueError(
          "`explain.effect_pairs` must be at most `explain.pairs`,"
          f" {self.pairs}, got {self.effect_pairs}"
      )
    if not 0 < self.margin < math.inf:
      raise ValueError(
          f"`explain.margin` must be positive and finite, got {self.margin}"
      )
    if not 0 < self.alpha < 1:
      raise ValueError(f"`explain.alpha` must lie in (0, 1), got {self.alpha}")
    return self

  @property
  def trials(self) -> int:
    """Most trials that the explanation of one winner takes."""
    # Winner and root as they are, each at its best, and the root matched.
    tuned = 2 * self.settings * self.tuning_seeds + 5 * self.fresh_seeds
    hard = 2 * self.hard_seeds * (1 + self.conditions)
    return (
        self.ablation_trials
        + (tuned if self.settings else 0)
        + (hard if self.conditions else 0)
    )

  @property
  def conditions(self) -> int:
    """Hard conditions, beside the usual one."""
    return sum(
        len(getattr(self, name))
        for name in (
            *("false_positive", "false_negative", "group_sizes"),
            *("lags", "lengths", "bases"),
        )
    )

  def chosen_by(self, count: int) -> tuple[int, ...]:
    """The first seeds that choices are made with."""
    return tuple(range(self.first_seed, self.first_seed + count))

  def fresh(self, count: int) -> tuple[int, ...]:
    """The first seeds that nothing is chosen by."""
    first = self.first_seed + _BLOCK
    return tuple(range(first, first + count))


_BLOCK = 100
_LEAST = {
    "first_seed": 0,
    "ablation_trials": 0,
    "pairs": 2,
    "effect_pairs": 0,
    "max_variants": 0,
    "settings": 0,
    "tuning_seeds": 1,
    "fresh_seeds": 1,
    "hard_seeds": 0,
}
_RANGES = {
    "false_positive": (0.0, 1.0),
    "false_negative": (0.0, 1.0),
    "group_sizes": (2, math.inf),
    "lags": (0, math.inf),
    "lengths": (0.01, math.inf),
}


class Means(NamedTuple):
  """What an explanation is made with.

  Attributes:
    campaign: of the winner.
    score: what a run is worth.
    plan: what was declared.
  """

  campaign: campaign_lib.Campaign
  score: Score
  plan: Plan

  @property
  def root(self) -> records.Candidate:
    """What winners are compared with."""
    return self.campaign.candidates[0]

  @property
  def where(self) -> str:
    """What all that is found depends on, for sentences."""
    return f"at budget {self.plan.budget}, base {self.campaign.home.base}"

  def wanted(
      self,
      candidate: records.Candidate,
      seed: int,
      base: str = "",
      **changes: Any,
  ) -> trial.Measurement:
    """A trial at a variation of the budget; a seed tells which problems.

    Args:
      candidate: to train with.
      seed: from `Plan.chosen_by` or `Plan.fresh`.
      base: that of the search unless given.
      **changes: fields of `variation.Variation`.
    """
    fresh = seed >= self.plan.first_seed + _BLOCK
    split = arithmetic.Split.CONFIRM if fresh else arithmetic.Split.SEARCH
    name = variations.Variation(self.plan.budget, **changes).name
    setting = trial.Setting(name, split, base or self.campaign.home.base)
    return trial.Measurement(candidate, seed, setting)

  def measured(
      self, wanted: Sequence[trial.Measurement]
  ) -> list[equal_cost.Run]:
    """Makes trials of candidates that were admitted, side by side."""
    runs = self.campaign.measure(wanted)
    return [
        self._read(measurement.candidate, run)
        for measurement, run in zip(wanted, runs, strict=True)
    ]

  def _read(
      self, candidate: records.Candidate, run: records.Evaluation
  ) -> equal_cost.Run:
    """A stored run without its clock, which would tell two machines apart."""
    broken = breakdown.find(run.reason, run.curve)
    if broken is not None:
      return equal_cost.Run(self.plan.floor, broken.detail, run.curve)
    return equal_cost.Run(self.score(candidate, run), "", run.curve)


def as_json(value: Any) -> Any:
  """Records as dicts by field, for the archive."""
  if dataclasses.is_dataclass(value):
    fields = [field.name for field in dataclasses.fields(value)]
    return {name: as_json(getattr(value, name)) for name in fields}
  if hasattr(value, "_asdict"):
    return {name: as_json(item) for name, item in value._asdict().items()}
  if isinstance(value, Mapping):
    return {str(name): as_json(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [as_json(item) for item in value]
  return value
