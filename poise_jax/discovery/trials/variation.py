"""Budgets that a candidate is explained at: a named one with something changed.

A variation has a name of its own, with all of it in the text, so that no run of
one is ever compared with a run of another:

    explain:quick rate=0.5 lag=2 hparams.clip_eps=0.4

Even one that changes nothing is told from its budget by its name. What a search
has measured for itself and what explains its winners thus stay apart.
"""

import dataclasses
from typing import Any

from poise_jax.discovery.trials import budgets, flip_noise, robustness
from poise_jax.training import loop

_MARK = "explain:"
_CONSTANT = "hparams."


@dataclasses.dataclass(frozen=True)
class Variation:
  """A budget with something changed; by default nothing.

  Attributes:
    budget: name of the budget.
    rate: factor on its learning rate.
    group_size: completions of a prompt, in place of the budget's unless 0.
    completion_length: most tokens of a completion, likewise.
    lag: rollouts that the sampling policy is behind.
    false_positive: share of wrong answers that training rewards.
    false_negative: share of right answers that it does not.
    constants: of the candidate, with other values than those of its source.
  """

  budget: str
  rate: float = 1.0
  group_size: int = 0
  completion_length: int = 0
  lag: int = 0
  false_positive: float = 0.0
  false_negative: float = 0.0
  constants: tuple[tuple[str, float], ...] = ()

  @property
  def changes(self) -> dict[str, Any]:
    """What is not as in the budget, by name; JSON-like."""
    usual = Variation(self.budget)
    changed = {
        field: getattr(self, field)
        for field in _NUMBERS
        if getattr(self, field) != getattr(usual, field)
    }
    return changed | {_CONSTANT + name: value for name, value in self.constants}

  @property
  def name(self) -> str:
    """Of the varied budget; `read` is the inverse."""
    told = [f"{name}={value!r}" for name, value in self.changes.items()]
    return " ".join([_MARK + self.budget, *told])

  @property
  def hardship(self) -> loop.Hardship:
    """What training meets that is not of its configuration."""
    rates = flip_noise.Rates(self.false_positive, self.false_negative)
    errs = rates != flip_noise.Rates()
    return loop.Hardship(
        self.lag, flip_noise.make_flip(rates) if errs else None
    )

  def applied(self, budget: budgets.Budget) -> budgets.Budget:
    """The budget with what is changed in its sizes."""
    usual = budget.train
    condition = robustness.Condition(
        group_size=self.group_size or usual.group_size,
        completion_length=self.completion_length or usual.completion_length,
        **{name: getattr(self, name) for name in _UNSIZED},
        base="",
    )
    train = robustness.train_config(condition, usual)
    rate = self.rate * usual.learning_rate
    return dataclasses.replace(
        budget,
        name=self.name,
        train=dataclasses.replace(train, learning_rate=rate),
    )


_UNSIZED = ("lag", "false_positive", "false_negative")
_NUMBERS = {
    "rate": float,
    "group_size": int,
    "completion_length": int,
    "lag": int,
    "false_positive": float,
    "false_negative": float,
}


def read(name: str) -> Variation | None:
  """The variation of this name; None for the name of a plain budget.

  Raises:
    ValueError: if it is neither.
  """
  if not name.startswith(_MARK):
    return None
  budget, *told = name.removeprefix(_MARK).split(" ")
  numbers: dict[str, Any] = {}
  constants = []
  try:
    for item in told:
      key, value = item.split("=")
      if key.startswith(_CONSTANT):
        constants.append((key.removeprefix(_CONSTANT), float(value)))
      else:
        numbers[key] = _NUMBERS[key](value)
  except (KeyError, ValueError) as error:
    raise ValueError(
        f"`name` must be that of a variation, such as {_MARK}quick rate=0.5,"
        f" got {name!r}"
    ) from error
  return Variation(budget, **numbers, constants=tuple(constants))
