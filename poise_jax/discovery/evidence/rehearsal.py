"""Campaigns without training: scores are drawn from a model.

The planner and the confirmations are the very same as in a real campaign; only
what measures is replaced. So error rate, power and cost of a design can be
counted before an hour is spent on it, and what the plan says is what the code
does.

Scores of candidate c with seed s on a budget follow

    y_cs = effect_c + noise (√ρ b_s + √(1 - ρ) e_cs),   b, e ~ N(0, 1)

with the root at effect 0. Cheap rungs rank candidates differently: their
effects have correlation `agreement` with the rank of the true ones.
"""

from collections.abc import Sequence
import concurrent.futures
import dataclasses
import functools
import multiprocessing
from typing import NamedTuple

from jaxtyping import Float
import numpy as np
from scipy import stats

from poise_jax.discovery.evidence import confirmation, racing
from poise_jax.discovery.evidence import race as race_lib


@dataclasses.dataclass(frozen=True)
class World:
  """What a rehearsal draws scores from, in points.

  Attributes:
    effects: true gain of each candidate over the root, on the last rung and
      under confirmation.
    noise: sd of a score from seed to seed.
    correlation: of two candidates' scores across seeds, in the search.
    confirm_correlation: the same under confirmation.
    agreement: rank correlation of cheap rungs with the last one.
    cheap_spread: sd of true effects on cheap rungs.
    breakdown: chance that a candidate breaks down at once.
    per_round: candidates that enter together.
  """

  effects: tuple[float, ...]
  noise: float = 1.0
  correlation: float = 0.14
  confirm_correlation: float = 0.02
  agreement: float = 0.2
  cheap_spread: float = 3.0
  breakdown: float = 0.0
  per_round: int = 3


class Outcome(NamedTuple):
  """What came of one rehearsal.

  Attributes:
    findings: by index of the finalist.
    trials: runs by budget of the search and of confirmation, with the root's.
    cost: the search's trials, each weighted by the cost of its rung, and those
      of confirmation as one each.
    finalists: indices, whether or not they came to be tested.
  """

  findings: dict[int, confirmation.Finding]
  trials: dict[str, int]
  cost: float
  finalists: tuple[int, ...]

  @property
  def confirmed(self) -> tuple[int, ...]:
    """Indices of what was declared a discovery."""
    return tuple(
        i
        for i, finding in self.findings.items()
        if finding.verdict is confirmation.Verdict.CONFIRMED
    )


def _draw(
    rng: np.random.Generator,
    effects: Float[np.ndarray, "C"],
    seeds: int,
    noise: float,
    correlation: float,
) -> Float[np.ndarray, "C+1 S"]:
  """Scores of the root (first) and the candidates."""
  own = rng.normal(size=(len(effects) + 1, seeds))
  shared = rng.normal(size=seeds)
  centre = np.concatenate([[0.0], effects])[:, None]
  luck = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
  return centre + noise * luck


def _cheap_effects(
    rng: np.random.Generator, world: World
) -> Float[np.ndarray, "C"]:
  """Effects on a cheap rung, of the rank correlation wanted."""
  ranks = stats.rankdata(
      np.array(world.effects) + 1e-9 * rng.normal(size=len(world.effects))
  )
  true = stats.norm.ppf((ranks - 0.5) / len(ranks))
  other = rng.normal(size=len(ranks))
  mixed = world.agreement * true + np.sqrt(1 - world.agreement**2) * other
  return world.cheap_spread * mixed


def rehearse(
    world: World,
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    *,
    alpha: float,
    shares: Sequence[float],
    seed: int,
) -> Outcome:
  """Runs one campaign on drawn scores."""
  rng = np.random.default_rng(seed)
  effects = np.array(world.effects)
  scores = {
      rung.name: _draw(
          rng,
          effects if rung is rules.rungs[-1] else _cheap_effects(rng, world),
          rules.max_seeds,
          world.noise,
          world.correlation,
      )
      for rung in rules.rungs
  }
  broken = np.concatenate([[False], rng.random(len(effects)) < world.breakdown])
  fresh = _draw(
      rng,
      effects,
      protocol.max_seeds,
      world.noise,
      world.confirm_correlation,
  )

  def measure(
      batch: Sequence[race_lib.Measurement],
  ) -> list[race_lib.Observation]:
    return [
        race_lib.Observation(*run, None, "not_finite")
        if broken[int(run.candidate)]
        else race_lib.Observation(
            *run, float(scores[run.rung][int(run.candidate), run.seed])
        )
        for run in batch
    ]

  race = race_lib.start(rules, "0")
  for first in range(1, len(effects) + 1, world.per_round):
    last = min(first + world.per_round, len(effects) + 1)
    race = race_lib.enter(rules, race, map(str, range(first, last)))
    race = racing.advance(rules, race, measure)
  race = racing.advance(rules, race_lib.close(race), measure)

  gaps = fresh - fresh[0]
  run = lambda name, seeds: confirmation.Measured(
      [float(gaps[int(name), s - protocol.first_seed]) for s in seeds]
  )
  chosen = racing.finalists(rules, race)
  findings = confirmation.confirm(
      protocol, chosen, alpha=alpha, shares=shares, run=run
  )
  return _outcome(rules, protocol, race, chosen, findings)


def rehearse_many(
    worlds: Sequence[World],
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    *,
    alpha: float,
    shares: Sequence[float],
    first_seed: int = 0,
    workers: int = 1,
) -> list[Outcome]:
  """Rehearses each world, with seeds `first_seed`, `first_seed` + 1, ..."""
  work = functools.partial(
      _rehearse_seeded, rules, protocol, alpha, tuple(shares)
  )
  jobs = list(enumerate(worlds, first_seed))
  if workers <= 1:
    return [work(job) for job in jobs]
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
    return list(pool.map(work, jobs, chunksize=16))


def _rehearse_seeded(
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    alpha: float,
    shares: tuple[float, ...],
    job: tuple[int, World],
) -> Outcome:
  seed, world = job
  return rehearse(world, rules, protocol, alpha=alpha, shares=shares, seed=seed)


def _outcome(
    rules: race_lib.Rules,
    protocol: confirmation.Protocol,
    race: race_lib.Race,
    chosen: Sequence[str],
    findings: dict[str, confirmation.Finding],
) -> Outcome:
  costs = {rung.name: rung.cost for rung in rules.rungs}
  trials = {}
  for i, rung in enumerate(rules.rungs):
    trials[rung.name] = int(race.tried[:, i].sum())
  seeds = [finding.seeds for finding in findings.values()]
  # The root's confirmation runs are shared by all.
  fresh = sum(seeds) + max(seeds, default=0)
  return Outcome(
      findings={int(name) - 1: f for name, f in findings.items()},
      trials=trials | {"confirmation": fresh},
      cost=sum(costs[name] * n for name, n in trials.items()) + fresh,
      finalists=tuple(int(name) - 1 for name in chosen),
  )


def fixed_design(
    world: World,
    protocol: confirmation.Protocol,
    *,
    seeds: int,
    finalists: int,
    alpha: float,
    shares: Sequence[float],
    seed: int,
) -> Outcome:
  """The same campaign without a race: everybody gets the same seeds.

  Root and candidates run `seeds` seeds each, then the best by their means are
  confirmed in the same way. What a race is measured against.
  """
  rng = np.random.default_rng(seed)
  effects = np.array(world.effects)
  scores = _draw(rng, effects, seeds, world.noise, world.correlation)
  fresh = _draw(
      rng, effects, protocol.max_seeds, world.noise, world.confirm_correlation
  )
  gains = (scores[1:] - scores[0]).mean(1)
  order = np.argsort(-gains, kind="stable")[:finalists]
  gaps = fresh[1:] - fresh[0]
  run = lambda name, wanted: confirmation.Measured(
      [float(gaps[int(name), s - protocol.first_seed]) for s in wanted]
  )
  findings = confirmation.confirm(
      protocol,
      [str(i) for i in order],
      alpha=alpha,
      shares=shares,
      run=run,
  )
  sizes = [finding.seeds for finding in findings.values()]
  confirming = sum(sizes) + max(sizes, default=0)
  return Outcome(
      findings={int(name): f for name, f in findings.items()},
      trials={"search": scores.size, "confirmation": confirming},
      cost=scores.size + confirming,
      finalists=tuple(int(i) for i in order),
  )
