"""A directive in plain language, made to steer a campaign."""

import dataclasses
from typing import Any

from poise_jax.discovery import directives, search_config
from poise_jax.discovery.objectives import objective as objectives


def steer(config: search_config.SearchConfig) -> search_config.SearchConfig:
  """The configuration with its directive read; itself without one.

  The objective is that of the directive. A limit of candidates caps the rounds.

  Raises:
    directives.DirectiveError: if a clause cannot be measured or understood.
    ValueError: if there is an objective as well, or a limit that a campaign
      cannot keep.
  """
  if not config.directive:
    return config
  reading = directives.parse(config.directive)
  if config.objective not in (objectives.DEFAULT, reading.objective):
    raise ValueError(
        "give `directive` or `objective`, not both, got"
        f" {config.directive!r} and {config.objective}"
    )
  if reading.budget.seconds is not None:
    raise ValueError(
        "`directive` must not limit time: a campaign that the clock stops would"
        " not end the same when it is repeated; see --plan_only, and choose"
        " --config.rounds"
    )
  if reading.budget.dollars is not None:
    raise ValueError(
        "`directive` must not limit dollars while no model is asked; drop that"
        " clause"
    )
  most = reading.budget.candidates
  rounds = config.rounds
  if most is not None:
    rounds = min(rounds, most // config.children)
    if not rounds:
      raise ValueError(
          f"`children` must be at most the {most} candidates of `directive`, got"
          f" {config.children}"
      )
  return dataclasses.replace(config, objective=reading.objective, rounds=rounds)


def provenance(text: str) -> dict[str, Any]:
  """A directive and what each clause of it became, JSON-like."""
  reading = directives.parse(text)
  return {
      "text": text,
      "lines": directives.explain(reading),
      "objective": objectives.to_json(reading.objective),
      "mended": [list(pair) for pair in reading.mended],
  }
