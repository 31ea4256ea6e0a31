"""A race as a value: its rules, who is in it, what was measured, who is out.

Every function here is pure: a race is a function of the rules and of the calls
that made it. Rungs come in order. On each a candidate runs the seeds of the
rung; a run that breaks down drops it at once. Where a rung is compared, the
paired difference to the root must not be clearly bad: the upper end of its
confidence sequence below -margin drops the candidate, on the last rung with
every further seed. Cheap rungs need wide margins, for budgets rank candidates
differently.

What to measure next is decided in `racing`.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from poise_jax.discovery.evidence import shrinkage
from poise_jax.evaluation import confidence_sequences

# Effects expected, in sd of a paired difference: it is the bad ones that a
# few seeds can tell, and those are far below the root.
_SCALE = 3.0


@dataclasses.dataclass(frozen=True)
class Rung:
  """One level of the race.

  Attributes:
    name: of the rung, such as smoke, quarter or full.
    budget: name of the budget its trials use.
    seeds: trials that a candidate runs here before it goes on, seeds 0, 1, ...
    margin: points that a candidate may lie below the root; one that certainly
      lies further below is dropped. None compares nothing, so that only a
      break-down drops, and the root need not run.
    cost: of one trial, in trials of the last rung.
  """

  name: str
  budget: str
  seeds: int
  margin: float | None
  cost: float


@dataclasses.dataclass(frozen=True)
class Rules:
  """How a race is run.

  Attributes:
    rungs: in order; further seeds run on the last.
    noise: of a score on the last rung.
    extra: further trials handed out in each round.
    closing: most further trials handed out when the race closes, for each
      candidate that entered.
    at_once: trials chosen together, each of another candidate.
    exploration: posterior sd added to the mean in the index.
    decided: the race ends when the leader's posterior mean, or the root's, is
      above that of all others plus so many posterior sd.
    max_seeds: most seeds of a candidate on any rung.
    finalists: most candidates that are proposed for confirmation.
    final_seeds: fewest seeds of a finalist on the last rung.
    level: error probability of the upper end that drops a candidate.
  """

  rungs: tuple[Rung, ...]
  noise: shrinkage.Noise
  extra: int = 2
  closing: float = 1.5
  at_once: int = 2
  exploration: float = 2.5
  decided: float = 1.5
  max_seeds: int = 8
  finalists: int = 2
  final_seeds: int = 3
  level: float = 0.05

  def __post_init__(self):
    names = [rung.name for rung in self.rungs]
    if not names or len(set(names)) < len(names):
      raise ValueError(
          f"`rungs` must be at least one, with different names, got {names}"
      )
    if self.rungs[-1].margin is None:
      raise ValueError("the last of `rungs` must have a margin, got None")
    for rung in self.rungs:
      if not 1 <= rung.seeds <= self.max_seeds:
        raise ValueError(
            f"`seeds` of rung {rung.name} must lie in [1, max_seeds], got"
            f" {rung.seeds} with {self.max_seeds}"
        )
    if self.at_once < 1:
      raise ValueError(f"`at_once` must be at least 1, got {self.at_once}")


class Measurement(NamedTuple):
  """A trial to run: candidate, name of the rung, training seed."""

  candidate: str
  rung: str
  seed: int


class Observation(NamedTuple):
  """A trial that was run.

  Attributes:
    candidate: id.
    rung: name of the rung.
    seed: training seed.
    score: None if it broke down.
    breakdown: kind of break-down, such as `not_finite`; empty if none.
  """

  candidate: str
  rung: str
  seed: int
  score: float | None
  breakdown: str = ""


class Race(NamedTuple):
  """A race so far; made by `start`, `enter`, `observe` and `close`.

  Attributes:
    names: ids in order of arrival, the root first.
    rounds: rounds entered.
    scores: by candidate, rung and seed, NaN where there is none.
    tried: where a trial was run, whatever came of it.
    breakdowns: by position in `names`: position of the rung, seed, kind.
    rung: position of the rung that each is on; all rungs passed if it is their
      number.
    dropped: who is out.
    closing: no more rounds will come.
  """

  names: tuple[str, ...]
  rounds: int
  scores: Float[np.ndarray, "C R S"]
  tried: Bool[np.ndarray, "C R S"]
  breakdowns: Mapping[int, tuple[int, int, str]]
  rung: Int[np.ndarray, "C"]
  dropped: Bool[np.ndarray, "C"]
  closing: bool


def start(rules: Rules, root: str) -> Race:
  """A race in which only the root runs."""
  shape = (0, len(rules.rungs), rules.max_seeds)
  race = Race(
      names=(),
      rounds=0,
      scores=np.zeros(shape),
      tried=np.zeros(shape, bool),
      breakdowns={},
      rung=np.zeros(0, int),
      dropped=np.zeros(0, bool),
      closing=False,
  )
  return enter(rules, race, [root])._replace(rounds=0)


def enter(rules: Rules, race: Race, candidates: Iterable[str]) -> Race:
  """A round begins: more candidates enter, on the first rung.

  Raises:
    ValueError: if one has entered before.
  """
  new = tuple(candidates)
  names = (*race.names, *new)
  if len(set(names)) < len(names):
    raise ValueError(f"`candidates` must not enter twice, got {new}")
  shape = (len(new), len(rules.rungs), rules.max_seeds)
  return race._replace(
      names=names,
      rounds=race.rounds + 1,
      scores=np.concatenate([race.scores, np.full(shape, np.nan)]),
      tried=np.concatenate([race.tried, np.zeros(shape, bool)]),
      rung=np.concatenate([race.rung, np.zeros(len(new), int)]),
      dropped=np.concatenate([race.dropped, np.zeros(len(new), bool)]),
  )


def close(race: Race) -> Race:
  """No more candidates will enter; the closing seeds may be handed out."""
  return race._replace(closing=True)


def observe(
    rules: Rules, race: Race, observations: Iterable[Observation]
) -> Race:
  """Adds what was measured, and moves or drops the candidates concerned.

  Raises:
    ValueError: if a trial is of no candidate, rung or seed of the race, or if
      the root broke down: then there is nothing to compare with.
  """
  levels = {rung.name: i for i, rung in enumerate(rules.rungs)}
  scores, tried = race.scores.copy(), race.tried.copy()
  breakdowns = dict(race.breakdowns)
  touched = set()
  for seen in observations:
    if (
        seen.candidate not in race.names
        or seen.rung not in levels
        or not 0 <= seen.seed < rules.max_seeds
    ):
      raise ValueError(
          f"`observations` must be of the race's candidates, rungs and"
          f" {rules.max_seeds} seeds, got {seen}"
      )
    c, level = race.names.index(seen.candidate), levels[seen.rung]
    touched.add(c)
    tried[c, level, seen.seed] = True
    if seen.score is None or seen.breakdown:
      place = (level, seen.seed, seen.breakdown or "unknown")
      breakdowns[c] = min(breakdowns.get(c, place), place)
    else:
      scores[c, level, seen.seed] = seen.score
  if 0 in breakdowns:
    raise ValueError(
        f"the root {race.names[0]} must not break down, but did on rung"
        f" {rules.rungs[breakdowns[0][0]].name}: {breakdowns[0][2]}"
    )
  if 0 in touched:  # It may have been what others were waiting for.
    touched = set(range(len(race.names)))
  race = race._replace(scores=scores, tried=tried, breakdowns=breakdowns)
  return _walk(rules, race, sorted(touched - {0}))


def _walk(rules: Rules, race: Race, touched: Sequence[int]) -> Race:
  """Moves those touched up the rungs as far as they come, or drops them."""
  rung, dropped = race.rung.copy(), race.dropped.copy()
  dropped[list(race.breakdowns)] = True
  rows = np.array(touched, int)
  for i, level in enumerate(rules.rungs):
    # Who has passed the last rung goes on being compared on it.
    at = rung[rows] == i
    if level is rules.rungs[-1]:
      at |= rung[rows] > i
    done = race.tried[rows, i, : level.seeds].all(1)
    here = rows[at & done & ~dropped[rows]]
    if level.margin is not None and here.size:
      if np.isnan(race.scores[0, i, : level.seeds]).any():
        continue
      _, high = bounds(rules, race.scores[here, i], race.scores[0, i])
      dropped[here] = high < -level.margin
      here = here[~dropped[here]]
    rung[here] = i + 1
  return race._replace(rung=rung, dropped=dropped)


def bounds(
    rules: Rules, scores: Float[np.ndarray, "C S"], root: Float[np.ndarray, "S"]
) -> tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]]:
  """Both ends for each difference to the root, moderated by known noise.

  Seeds after the first that either lacks do not count.
  """
  gaps = scores - root
  count = int((~np.isnan(gaps)).sum(1).max(initial=0))
  if not count:
    return np.full(len(gaps), -np.inf), np.full(len(gaps), np.inf)
  ends = confidence_sequences.one_sided(
      gaps[:, :count],
      level=rules.level,
      scale=_SCALE,
      prior=confidence_sequences.Prior(
          rules.noise.paired_variance, rules.noise.dof
      ),
  )
  return ends.low[:, -1], ends.high[:, -1]
