"""What to measure next in a race, and how it ended.

Every function here is pure. The loop of a round is

    race = race_lib.enter(rules, race, candidates)
    while batch := next_batch(rules, race):
      race = race_lib.observe(rules, race, measure(batch))

where `measure` runs a trial or reads it back. A search that was killed runs
the same loop from its beginning, and finds what is stored. It must offer whole
batches only, as here: with half a batch the choices after it could differ.

Who has passed all rungs gets further seeds by the index

    posterior mean + exploration · posterior sd

(see `shrinkage`), a few each round and more when the race closes, until the
leader's mean exceeds what anybody else could hope for. These choices need no
error control: whatever comes first is measured again with fresh seeds.
"""

from collections.abc import Callable, Iterable, Sequence
import enum
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.evidence import shrinkage


class Status(enum.StrEnum):
  """Where a candidate stands."""

  RACING = "racing"
  LOSER = "dropped: clearly worse than the root"
  BROKE_DOWN = "dropped: broke down"
  FINALIST = "finalist"
  PASSED_OVER = "finished: others promise more"


class Standing(NamedTuple):
  """One candidate's place in the race, and why.

  Attributes:
    candidate: id.
    status: see `Status`.
    rung: name of the rung it is on, or was dropped on.
    reason: a sentence.
    seeds: scored seeds on that rung.
    low: lower end of the confidence sequence of the difference to the root on
      that rung, None if there is none yet. For deciding, not for claiming.
    high: its upper end.
    expected: posterior mean of the gain over the root on the last rung, None
      before that.
  """

  candidate: str
  status: Status
  rung: str
  reason: str
  seeds: int
  low: float | None
  high: float | None
  expected: float | None


def _gains(rules: race_lib.Rules, race: race_lib.Race) -> shrinkage.Posterior:
  """What is known of the scores on the last rung, of all that still run."""
  runs = np.where(race.dropped[:, None], np.nan, race.scores[:, -1])
  return shrinkage.posterior(runs, rules.noise)


def next_batch(
    rules: race_lib.Rules, race: race_lib.Race
) -> tuple[race_lib.Measurement, ...]:
  """What to measure next; empty if nothing until more candidates enter.

  New candidates climb the rungs first, one rung a batch for all of them; then
  further seeds are handed out, until the allowance for the rounds so far (and
  for closing) is used up. Trials of the root that pairing needs come first.
  """
  batch = _climb(rules, race) or _further(rules, race)
  return _with_partners(rules, race, batch)


def advance(
    rules: race_lib.Rules,
    race: race_lib.Race,
    measure: Callable[
        [Sequence[race_lib.Measurement]], Iterable[race_lib.Observation]
    ],
) -> race_lib.Race:
  """Measures batch after batch, until nothing is left to measure for now."""
  while batch := next_batch(rules, race):
    race = race_lib.observe(rules, race, measure(batch))
  return race


def _climb(
    rules: race_lib.Rules, race: race_lib.Race
) -> list[tuple[int, int, int]]:
  """Missing trials of the lowest rung that anyone still has to run."""
  waiting = ~race.dropped & (race.rung < len(rules.rungs))
  waiting[0] = False
  if not waiting.any():
    return []
  level = int(race.rung[waiting].min())
  seeds = rules.rungs[level].seeds
  here = np.flatnonzero(waiting & (race.rung == level))
  batch = [
      (int(c), level, s)
      for s in range(seeds)
      for c in here
      if not race.tried[c, level, s]
  ]
  # Otherwise only the root's partners are missing.
  return batch or [(0, level, s) for s in range(seeds)]


def _further(
    rules: race_lib.Rules, race: race_lib.Race
) -> list[tuple[int, int, int]]:
  """Next seeds for those with the highest index."""
  last = len(rules.rungs) - 1
  counts = race.tried[:, last].sum(1)
  given = int(np.maximum(counts[1:] - rules.rungs[last].seeds, 0).sum())
  allowance = rules.extra * race.rounds
  runs = (race.rung > last) & ~race.dropped
  if not runs.any() or (given >= allowance and not race.closing):
    return []
  gains = _gains(rules, race)
  if race.closing and not _decided(rules, runs, counts, gains):
    allowance += int(rules.closing * (len(race.names) - 1))
  left = min(allowance - given, rules.at_once)
  runs &= counts < rules.max_seeds
  if left <= 0 or not runs.any():
    return []
  index = np.where(runs, gains.mean + rules.exploration * gains.sd, -np.inf)
  first = np.argsort(-index, kind="stable")[: min(left, int(runs.sum()))]
  return [(int(c), last, int(race.tried[c, last].argmin())) for c in first]


def _decided(
    rules: race_lib.Rules,
    runs: Bool[np.ndarray, "C"],
    counts: Int[np.ndarray, "C"],
    gains: shrinkage.Posterior,
) -> bool:
  """Whether further seeds would hardly change who leads."""
  hopes = np.where(runs, gains.mean + rules.decided * gains.sd, -np.inf)
  if gains.mean[0] >= hopes.max():
    return True
  leader = int(np.where(runs, gains.mean, -np.inf).argmax())
  hopes[leader] = -np.inf
  enough = counts[leader] >= rules.final_seeds
  return bool(enough and gains.mean[leader] >= hopes.max())


def _with_partners(
    rules: race_lib.Rules,
    race: race_lib.Race,
    batch: list[tuple[int, int, int]],
) -> tuple[race_lib.Measurement, ...]:
  """Puts the root's trials in front that comparisons need."""
  partners = [
      (0, level, seed)
      for _, level, seed in batch
      if rules.rungs[level].margin is not None
      and not race.tried[0, level, seed]
  ]
  return tuple(
      race_lib.Measurement(race.names[c], rules.rungs[level].name, seed)
      for c, level, seed in dict.fromkeys([*partners, *batch])
      if not race.tried[c, level, seed]
  )


def finalists(rules: race_lib.Rules, race: race_lib.Race) -> tuple[str, ...]:
  """Who is proposed for confirmation, the most promising first.

  At most `rules.finalists`, by posterior mean, that passed all rungs, ran
  `final_seeds` seeds, and are expected to beat the root. Possibly nobody.
  """
  return tuple(race.names[c] for c in _finalists(rules, race))


def _finalists(rules: race_lib.Rules, race: race_lib.Race) -> list[int]:
  mean = _gains(rules, race).mean
  counts = (~np.isnan(race.scores[:, -1])).sum(1)
  fit = (race.rung == len(rules.rungs)) & ~race.dropped
  fit &= counts >= min(rules.final_seeds, rules.max_seeds)
  order = sorted(np.flatnonzero(fit), key=lambda c: (-mean[c], c))
  return [int(c) for c in order if mean[c] > mean[0]][: rules.finalists]


def standings(
    rules: race_lib.Rules, race: race_lib.Race
) -> tuple[Standing, ...]:
  """Every candidate's place and the reason for it, in order of arrival."""
  chosen = _finalists(rules, race) if race.closing else []
  ends = [
      race_lib.bounds(rules, race.scores[:, i], race.scores[0, i])
      for i in range(len(rules.rungs))
  ]
  gains = _gains(rules, race).mean
  return tuple(
      _standing(rules, race, chosen, ends, gains, c)
      for c in range(1, len(race.names))
  )


def _standing(
    rules: race_lib.Rules,
    race: race_lib.Race,
    chosen: list[int],
    ends: list[tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]]],
    gains: Float[np.ndarray, "C"],
    c: int,
) -> Standing:
  level = min(int(race.rung[c]), len(rules.rungs) - 1)
  if c in race.breakdowns:
    level = race.breakdowns[c][0]
  rung = rules.rungs[level]
  low, high = (float(end[c]) for end in ends[level])
  seeds = int((~np.isnan(race.scores[c, level])).sum())
  if c in race.breakdowns:
    status = Status.BROKE_DOWN
    _, seed, kind = race.breakdowns[c]
    reason = f"{kind} on rung {rung.name} with seed {seed}"
  elif race.dropped[c]:
    status = Status.LOSER
    reason = (
        f"with error at most {rules.level:g} the difference to the root is"
        f" below {high:.2f}, which is below {-(rung.margin or 0.0):g}"
    )
  elif c in chosen:
    status = Status.FINALIST
    reason = f"number {chosen.index(c) + 1} by expected gain"
  elif race.closing:
    status = Status.PASSED_OVER
    reason = "not among the first by expected gain over the root"
  else:
    status, reason = Status.RACING, f"on rung {rung.name}"
  expected = float(gains[c] - gains[0])
  return Standing(
      candidate=race.names[c],
      status=status,
      rung=rung.name,
      reason=reason,
      seeds=seeds,
      low=low if np.isfinite(low) else None,
      high=high if np.isfinite(high) else None,
      expected=expected if np.isfinite(expected) else None,
  )
