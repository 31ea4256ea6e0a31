"""Looks back at the choices of parents of a campaign, from its records alone.

Which parents other rules would have taken, what that would have gained by what
was logged (see `replay`), and whether predictions came true (`calibration`).
A campaign that is not over is looked at up to its last finished round.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.parents import (
    acquisition,
    calibration,
    policies,
    replay,
    rules,
)
from poise_jax.discovery.parents import grown as grown_lib

# A rule is not judged on fewer rounds with a choice, or fewer effective draws.
# Where rules do not differ, in 200 simulated campaigns of 3, 5, 10 and 20
# rounds of three draws the 95 % interval misses 0 in 16, 19, 8 and 6 %.
LEAST_ROUNDS = 10
LEAST_DRAWS = 10.0
# Predictions are not judged on fewer nodes.
LEAST_NODES = 10


class Favourite(NamedTuple):
  """What a rule would most likely have drawn next.

  Attributes:
    nodes: ids; several if they were alike.
    odds: of each of them.
  """

  nodes: tuple[str, ...]
  odds: float


class Turn(NamedTuple):
  """One round: what was chosen, and what others would have.

  Attributes:
    generation: of the round.
    nodes: number that could be chosen.
    chosen: ids, in the order of the draws.
    odds: logged, of each draw given those before.
    finished: whether all that it made has been measured.
    favourites: rule -> its most likely draws, each after its first ones.
    others: rule -> its odds of each logged draw given those before.
  """

  generation: int
  nodes: int
  chosen: tuple[str, ...]
  odds: tuple[float, ...]
  finished: bool
  favourites: Mapping[str, tuple[Favourite, ...]]
  others: Mapping[str, tuple[float, ...]]


class Worth(NamedTuple):
  """What another rule would have gained, by both estimates of `replay`.

  Attributes:
    importance: of gains over the root; None if it makes no logged draw.
    importance_own: of gains over the parent itself.
    hindsight: of gains over the root; None if it covers nothing.
    hindsight_own: of gains over the parent itself.
    beyond: share of its odds on nodes that the logged rule could not draw.
    enough: whether rounds and effective draws allow a judgement.
  """

  importance: replay.Estimate | None
  importance_own: replay.Estimate | None
  hindsight: replay.Estimate | None
  hindsight_own: replay.Estimate | None
  beyond: float
  enough: bool


@dataclasses.dataclass(frozen=True)
class Review:
  """All that can be told of the choices of a campaign.

  Attributes:
    campaign: id.
    rule: that was in charge.
    turns: one a round, those under way among them.
    choices: finished rounds with more than one node to choose from.
    worths: rule -> what it would have gained.
    forecasts: each prediction of which something came.
    calibration: of these, None for fewer than two nodes.
    concordance: term -> how its order agrees with gains over the root.
    concordance_own: with gains over the node itself.
  """

  campaign: str
  rule: str
  turns: Sequence[Turn]
  choices: int
  worths: Mapping[str, Worth]
  forecasts: Sequence[calibration.Forecast]
  calibration: calibration.Calibration | None
  concordance: Mapping[str, calibration.Concordance]
  concordance_own: Mapping[str, calibration.Concordance]


def names(asked: Sequence[str], rule: str) -> list[str]:
  """The rules to compare with: those asked for, or all but the one in charge.

  Args:
    asked: names in `replay.alternatives`; `all` is each of them.
    rule: in charge.

  Raises:
    ValueError: listing the rules that there are.
  """
  known = [*replay.alternatives(acquisition.Weights())]
  for name in asked:
    if name not in (*known, "all"):
      raise ValueError(f"`rule` must be one of {[*known, 'all']}, got {name!r}")
  if "all" in asked:
    asked = known
  return [*dict.fromkeys(asked)] or [n for n in rules.RULES if n != rule]


def of(
    campaign: records.Campaign,
    candidates: Sequence[records.Candidate],
    runs: Sequence[records.Evaluation],
    selections: Sequence[records.Selection],
    decisions: Sequence[records.Decision] = (),
    reflections: Sequence[records.Reflection] = (),
    asked: Sequence[str] = (),
) -> Review:
  """Reviews a campaign.

  Args:
    campaign: the campaign.
    candidates: all of them.
    runs: those that candidates are ranked by, see `leaderboard.counted`.
    selections: by round.
    decisions: with the reasons of each choice.
    reflections: a round is finished when all it made have theirs.
    asked: see `names`.

  Returns:
    The review; intervals are the same each time.

  Raises:
    ValueError: if a selection cannot be replayed, or a rule is unknown.
  """
  told = grown_lib.reasons(campaign, decisions)
  rule, weights = str(told.get("rule", "")), grown_lib.weights(told)
  compared = names(asked, rule)
  kin = {c.id: c for c in candidates if c.role in ("root", "generated")}
  for stored in selections:
    if missing := set(stored.terms) - set(kin):
      raise ValueError(
          "`selections` must be of stored candidates, round"
          f" {stored.generation} has {sorted(missing)}"
      )
  found = replay.rounds(selections, {i: c.parents for i, c in kin.items()})
  last = grown_lib.finished(campaign, candidates, found, decisions, reflections)
  others = {name: replay.alternatives(weights)[name] for name in compared}
  over = [c for c in found if c.generation <= last and len(c.table.ids) > 1]
  grown = grown_lib.tree_of(kin, runs, told, weights)
  root = next((i for i, c in kin.items() if c.role == "root"), None)
  count = int(campaign.config.get("parents", 0))
  forecasts = calibration.forecasts(over, grown, weights)
  rng = lambda: np.random.default_rng(0)
  return Review(
      campaign=campaign.id,
      rule=rule,
      turns=[_turn(c, others, count, c.generation <= last) for c in found],
      choices=len(over),
      worths={
          name: _worth(over, grown, *other, root)
          for name, other in others.items()
      },
      forecasts=forecasts,
      calibration=calibration.calibrate(
          forecasts, rng(), margin=weights.gp_margin
      ),
      concordance=calibration.concordance(over, grown, weights, rng(), root),
      concordance_own=calibration.concordance(over, grown, weights, rng()),
  )


def favourites(
    table: acquisition.Table,
    weights: acquisition.Weights,
    policy: policies.Policy,
    count: int,
) -> tuple[Favourite, ...]:
  """The most likely draws of a rule, each after the (first) ones before.

  Args:
    table: what was known.
    weights: of the rule.
    policy: the rule.
    count: draws wanted; there are fewer if the rule wants no more.
  """
  chosen: tuple[int, ...] = ()
  found = []
  while len(chosen) < count and (odds := policy(table, weights, chosen)).any():
    best = float(odds.max())
    rows = np.flatnonzero(odds >= best * (1 - 1e-9)).tolist()
    found.append(Favourite(tuple(table.ids[row] for row in rows), best))
    chosen = (*chosen, rows[0])
  return tuple(found)


def beyond(
    choices: Sequence[replay.Round],
    policy: policies.Policy,
    weights: acquisition.Weights,
) -> float:
  """Share of a rule's odds on nodes that the logged rule could not draw.

  Of these no outcome can tell: above 0, every estimate is about the rest.
  """
  shares = [
      float(policy(choice.table, weights, choice.chosen[:i])[logged <= 0].sum())
      for choice in choices
      for i, logged in enumerate(choice.odds)
  ]
  return float(np.mean(shares)) if shares else 0.0


def _turn(
    choice: replay.Round,
    others: Mapping[str, tuple[policies.Policy, acquisition.Weights]],
    count: int,
    finished: bool,
) -> Turn:
  ids, chosen = choice.table.ids, choice.chosen
  count = max(count, len(chosen))
  logged = [
      float(odds[pick]) for odds, pick in zip(choice.odds, chosen, strict=True)
  ]
  return Turn(
      generation=choice.generation,
      nodes=len(ids),
      chosen=tuple(ids[pick] for pick in chosen),
      odds=tuple(logged),
      finished=finished,
      favourites={
          name: favourites(choice.table, weights, policy, count)
          for name, (policy, weights) in others.items()
      },
      others={
          name: tuple(
              float(policy(choice.table, weights, chosen[:i])[pick])
              for i, pick in enumerate(chosen)
          )
          for name, (policy, weights) in others.items()
      },
  )


def _worth(
    choices: Sequence[replay.Round],
    grown: replay.Grown,
    policy: policies.Policy,
    weights: acquisition.Weights,
    root: str | None,
) -> Worth:
  """All estimates of one rule, each with its own equal random numbers."""
  if not choices:
    return Worth(None, None, None, None, 0.0, False)
  estimate = lambda how, origin: how(
      choices, grown, policy, weights, np.random.default_rng(0), origin
  )
  main = estimate(replay.importance, root)
  return Worth(
      main,
      estimate(replay.importance, None),
      estimate(replay.hindsight, root),
      estimate(replay.hindsight, None),
      beyond(choices, policy, weights),
      main is not None
      and len(choices) >= LEAST_ROUNDS
      and main.support >= LEAST_DRAWS,
  )
