"""What a campaign will cost and could find, before it starts.

Nothing here is a rule of thumb: the campaign is rehearsed some hundred times
with the very rules it will follow (`rehearsal`), on effects such as proposers
make them, and the means are the plan. Power is counted in the same way, on
the harder case of one better candidate among others that equal the root.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np

from poise_jax.discovery.evidence import confirmation, rehearsal, spending
from poise_jax.discovery.evidence import race as race_lib


@dataclasses.dataclass(frozen=True)
class Workload:
  """What is to be done, and how long things take.

  Attributes:
    rounds: of the search.
    per_round: candidates proposed in each.
    seconds: by budget, wall time of one trial while all workers are busy.
    verify_seconds: of one proposal.
    accepted: share of proposals that are trained (the rest is refused, or
      does what another one does).
    breakdown: share of those that break down.
    loss: mean of what a candidate loses against the root, exponential, in
      noise sd. Of 32 offline proposals against GRPO in one campaign half lost
      less than 0.7, a quarter more than 1.3, and none gained 0.2.
    spread: sd of what is added to that, normal, in noise sd.
    confirm_correlation: of two candidates' scores across seeds, in
      confirmations.
  """

  rounds: int
  per_round: int
  seconds: Mapping[str, float]
  verify_seconds: float = 2.0
  accepted: float = 0.95
  breakdown: float = 0.05
  loss: float = 1.2
  spread: float = 0.3
  confirm_correlation: float = 0.02


class Line(NamedTuple):
  """One stage of the plan.

  Attributes:
    stage: such as a rung, or confirmation.
    budget: of its trials, empty if it trains nothing.
    trials: expected.
    minutes: expected.
  """

  stage: str
  budget: str
  trials: float
  minutes: float


class Plan(NamedTuple):
  """What to expect.

  Attributes:
    candidates: proposed.
    trained: expected to be trained.
    lines: stages in order.
    minutes: of all of them.
    minutes_high: what 95 % of rehearsals stayed below, other stages as planned.
    alpha: chance of any false discovery, at most.
    levels: of the confirmations, if none succeeds.
    effects: rehearsed, in points; none if nothing is searched or confirmed.
    power: chance to find and confirm one candidate of that effect.
    chance: power that `detectable` refers to.
    detectable: smallest effect of that power, None if beyond all rehearsed.
    rehearsals: campaigns behind each figure.
    budget: of the confirmations.
    base: base policy that claims will hold for.
  """

  candidates: int
  trained: float
  lines: tuple[Line, ...]
  minutes: float
  minutes_high: float
  alpha: float
  levels: tuple[float, ...]
  effects: tuple[float, ...]
  power: tuple[float, ...]
  chance: float
  detectable: float | None
  rehearsals: int
  budget: str
  base: str


EFFECTS = (0.75, 1.25, 1.75, 2.5)  # in noise sd
CONFIRMATION = "confirmation"

# Runs campaigns through their worlds, by the rules of the one that is planned.
Rehearse = Callable[[Sequence[rehearsal.World]], Sequence[rehearsal.Outcome]]


def make(
    workload: Workload,
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    *,
    alpha: float,
    shares: Sequence[float],
    others: Sequence[Line] = (),
    rehearsals: int = 60,
    chance: float = 0.8,
    workers: int = 1,
) -> Plan:
  """Rehearses the campaign and sums up.

  Args:
    workload: of the campaign.
    rules: of its race.
    protocol: of its confirmations.
    alpha: chance of any false discovery, at most.
    shares: of alpha, see `spending`.
    others: further stages, such as canaries, tuning or ablation.
    rehearsals: campaigns for the cost, and for the power at each effect. 60
      take some 10 s, and give a power to within 0.1.
    chance: power that defines the minimum detectable effect.
    workers: processes; they do not change the plan.

  Raises:
    ValueError: if the seconds of a budget are missing.
  """
  candidates = workload.rounds * workload.per_round

  def rehearse(
      worlds: Sequence[rehearsal.World],
  ) -> Sequence[rehearsal.Outcome]:
    return rehearsal.rehearse_many(
        worlds, rules, protocol, alpha=alpha, shares=shares, workers=workers
    )

  lines, high, effects, power = (), 0.0, (), ()
  if candidates:
    lines, high = _race(workload, rules, protocol, rehearse, rehearsals)
  if candidates and shares:
    effects = tuple(effect * rules.noise.sd for effect in EFFECTS)
    power = _power(workload, rules, rehearse, rehearsals)
  verify = candidates * workload.verify_seconds / 60
  lines = (Line("verify", "", candidates, verify), *lines, *others)
  return Plan(
      candidates=candidates,
      trained=candidates * workload.accepted,
      lines=lines,
      minutes=sum(line.minutes for line in lines),
      minutes_high=high + verify + sum(line.minutes for line in others),
      alpha=alpha,
      levels=tuple(
          spending.next_level(alpha, shares, [False] * k) or 0.0
          for k in range(len(shares))
      ),
      effects=effects,
      power=power,
      chance=chance,
      detectable=_reaches(effects, power, chance),
      rehearsals=rehearsals,
      budget=protocol.budget,
      base=protocol.base,
  )


def _race(
    workload: Workload,
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    rehearse: Rehearse,
    rehearsals: int,
) -> tuple[tuple[Line, ...], float]:
  """What rungs and confirmations take: means, and 95 % of their sums.

  Raises:
    ValueError: if the seconds of a budget are missing.
  """
  stages = [(rung.name, rung.budget) for rung in rules.rungs]
  stages.append((CONFIRMATION, protocol.budget))
  needed = {budget for _, budget in stages}
  if missing := sorted(needed - set(workload.seconds)):
    raise ValueError(
        f"`seconds` must have every budget, got none for {', '.join(missing)}"
    )
  outcomes = rehearse([_typical(workload, rules, i) for i in range(rehearsals)])
  seconds = np.array([workload.seconds[budget] for _, budget in stages])
  trials = np.array([[o.trials[s] for s, _ in stages] for o in outcomes])
  lines = tuple(
      Line(stage, budget, float(n), float(n * each / 60))
      for (stage, budget), n, each in zip(
          stages, trials.mean(0), seconds, strict=True
      )
  )
  return lines, float(np.quantile(trials @ seconds / 60, 0.95))


def _trained(workload: Workload) -> int:
  proposed = workload.rounds * workload.per_round
  return max(round(proposed * workload.accepted), 1)


def _world(
    workload: Workload, rules: race_lib.Rules, effects: np.ndarray
) -> rehearsal.World:
  return rehearsal.World(
      tuple(float(effect) for effect in effects * rules.noise.sd),
      noise=rules.noise.sd,
      correlation=rules.noise.correlation,
      confirm_correlation=workload.confirm_correlation,
      cheap_spread=3 * rules.noise.sd,
      per_round=math.ceil(_trained(workload) / max(workload.rounds, 1)),
  )


def _typical(
    workload: Workload, rules: race_lib.Rules, seed: int
) -> rehearsal.World:
  """Candidates as a proposer makes them."""
  rng = np.random.default_rng([seed, 1])
  count = _trained(workload)
  effects = rng.normal(0.0, workload.spread, count)
  effects -= rng.exponential(workload.loss, count)
  world = _world(workload, rules, effects)
  return dataclasses.replace(world, breakdown=workload.breakdown)


def _power(
    workload: Workload,
    rules: race_lib.Rules,
    rehearse: Rehearse,
    rehearsals: int,
) -> tuple[float, ...]:
  """Share of rehearsals in which one better candidate is found, by effect."""
  count = _trained(workload)
  places = [i * count // rehearsals for i in range(rehearsals)]
  worlds = [
      _world(workload, rules, effect * (np.arange(count) == place))
      for effect in EFFECTS
      for place in places
  ]
  outcomes = rehearse(worlds)
  found = [
      place in outcome.confirmed
      for place, outcome in zip(places * len(EFFECTS), outcomes, strict=True)
  ]
  rates = np.reshape(found, (len(EFFECTS), rehearsals)).mean(1)
  return tuple(float(rate) for rate in np.maximum.accumulate(rates))


def _reaches(
    effects: Sequence[float], power: Sequence[float], chance: float
) -> float | None:
  """The effect at which the power reaches `chance`, between those rehearsed."""
  points = [(0.0, 0.0), *zip(effects, power, strict=True)]
  for (left, low), (right, high) in itertools.pairwise(points):
    if high >= chance:
      return left + (right - left) * (chance - low) / (high - low)
  return None


def as_text(plan: Plan) -> list[str]:
  """The plan as a table for a terminal."""
  lines = [f"{'stage':16} {'budget':12} {'trials':>7} {'minutes':>8}"]
  lines += [
      f"{line.stage:16} {line.budget:12} {line.trials:7.0f} {line.minutes:8.1f}"
      for line in plan.lines
  ]
  lines.append(
      f"{plan.candidates} candidates, about {plan.trained:.0f} trained;"
      f" {plan.minutes:.0f} minutes, in 95 % of rehearsals below"
      f" {plan.minutes_high:.0f}."
  )
  if not plan.power:
    return lines + ["Nothing is confirmed: no discovery can be claimed."]
  levels = ", ".join(f"{level:.3f}" for level in plan.levels)
  if plan.detectable is None:
    found = f"more than {plan.effects[-1]:.1f} points"
  else:
    found = f"{plan.detectable:.1f} points"
  rates = ", ".join(
      f"{effect:.1f}: {rate:.0%}"
      for effect, rate in zip(plan.effects, plan.power, strict=True)
  )
  return lines + [
      (
          f"Any false discovery: at most {plan.alpha:g}; confirmations at"
          f" levels {levels}, more after a success."
      ),
      (
          f"Minimum detectable effect: {found} ({plan.chance:.0%} of"
          f" {plan.rehearsals} rehearsals), budget {plan.budget}, base"
          f" {plan.base}."
      ),
      f"Found and confirmed, by effect in points: {rates}.",
  ]


class Deviation(NamedTuple):
  """Plan and fact of one stage, or of the whole.

  Attributes:
    stage: its name, `total` for the whole.
    planned: minutes.
    actual: minutes.
    ratio: actual / planned, inf if nothing was planned.
    within: whether the ratio lies within the tolerance of 1.
  """

  stage: str
  planned: float
  actual: float
  ratio: float
  within: bool


def compare(
    plan: Plan, minutes: Mapping[str, float], tolerance: float = 0.3
) -> tuple[Deviation, ...]:
  """Sets what happened against the plan, stage by stage, the total last.

  Args:
    plan: from before.
    minutes: spent, by stage; a stage that is missing took none.
    tolerance: of the ratio, around 1.
  """
  planned = {line.stage: line.minutes for line in plan.lines}
  pairs = [
      (stage, planned.get(stage, 0.0), minutes.get(stage, 0.0))
      for stage in dict.fromkeys([*planned, *minutes])
  ]
  pairs.append(("total", plan.minutes, sum(minutes.values())))
  return tuple(_deviation(*pair, tolerance) for pair in pairs)


def _deviation(
    stage: str, planned: float, actual: float, tolerance: float
) -> Deviation:
  if planned > 0:
    ratio = actual / planned
  else:
    ratio = 1.0 if actual == 0 else math.inf
  return Deviation(
      stage, planned, actual, ratio, abs(ratio - 1) <= tolerance + 1e-12
  )
