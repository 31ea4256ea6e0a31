"""Named budgets: how much training and scoring one evaluation gets.

Budgets measure different things: a short one rewards speed, a long hot one
stability. A score without its budget means nothing, so every evaluation
carries the name.
"""

import dataclasses

from poise_jax.evaluation import suite
from poise_jax.training import config


@dataclasses.dataclass(frozen=True)
class Budget:
  """One rung.

  Attributes:
    name: stored with every score.
    train: how long and how fast to train.
    evaluate: how many problems to score; None scores nothing.
  """

  name: str
  train: config.TrainConfig
  evaluate: suite.SuiteConfig | None


QUICK = Budget(
    "quick",
    config.TrainConfig(
        steps=16,
        prompts=16,
        group_size=8,
        epochs=2,
        minibatches=4,
        learning_rate=2e-4,
    ),
    suite.SuiteConfig(sampled_problems=48, greedy_problems=192),
)

# Two steps: whether a loss trains at all.
SMOKE = Budget("smoke", dataclasses.replace(QUICK.train, steps=2), None)

# A quarter of `quick`: whether it is worth more.
QUARTER = Budget(
    "quarter", dataclasses.replace(QUICK.train, steps=4), QUICK.evaluate
)

STANDARD = Budget(
    "standard",
    config.TrainConfig(
        steps=18,
        prompts=24,
        group_size=8,
        epochs=2,
        minibatches=4,
        learning_rate=2e-4,
    ),
    suite.SuiteConfig(sampled_problems=192, greedy_problems=384),
)

CONFIRM = Budget(
    "confirm",
    config.TrainConfig(
        steps=32,
        prompts=24,
        group_size=8,
        epochs=2,
        minibatches=4,
        learning_rate=2e-4,
    ),
    suite.SuiteConfig(sampled_problems=192, greedy_problems=384),
)

ALL = {
    budget.name: budget for budget in (SMOKE, QUARTER, QUICK, STANDARD, CONFIRM)
}


def named(name: str) -> Budget:
  """Looks a budget up.

  Raises:
    ValueError: if there is none of that name.
  """
  if name not in ALL:
    raise ValueError(f"`budget` must be one of {', '.join(ALL)}, got {name!r}")
  return ALL[name]
