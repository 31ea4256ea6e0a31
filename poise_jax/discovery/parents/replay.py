"""What another rule would have done on a stored tree, and what it would gain.

A tree only holds what its own rule built. Two estimates get around that:

- Importance: each draw's outcome is weighted by how much more likely the other
  rule was to make it, Σ w y / Σ w with w = p_other / p_logged, given the draws
  before. Consistent, since the odds were logged and none is 0, but noisy: see
  the effective number of draws.
- Hindsight: the mean, under the odds of the other rule, of what the nodes led
  to that were built on later, Σ p y / Σ p over those. Precise, but what is
  built on more has more descendants to take the best of, and nodes that
  nobody built on are left out: see the share of the odds that is covered.

Outcomes are discounted gains (`potential.descendant_gain`) by what is known at
the end, over the node that was drawn, or over one origin for all: over itself
a poor node gains easily, by children that merely recover. Each draw is judged
on the tree as it was, so what the other rule would have grown before is not
there. Intervals are by resampling whole rounds.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.parents import acquisition, policies, potential, tree
from poise_jax.discovery.parents import selection as selection_lib
from poise_jax.evaluation import statistics

_RESAMPLES = 2000


class Round(NamedTuple):
  """One choice of parents, as it was made.

  Attributes:
    generation: of the round.
    table: what was known.
    chosen: rows drawn, in order.
    odds: of each row in each draw.
  """

  generation: int
  table: acquisition.Table
  chosen: tuple[int, ...]
  odds: Float[np.ndarray, "draws N"]


@dataclasses.dataclass(frozen=True)
class Grown:
  """The tree at the end of a campaign.

  Attributes:
    parents: id -> parents of every candidate, whether it has a score or not.
    generation: id -> the round that made it.
    scores: posterior mean of U of each candidate that has one.
    variances: posterior variance of it.
  """

  parents: Mapping[str, Sequence[str]]
  generation: Mapping[str, int]
  scores: Mapping[str, float]
  variances: Mapping[str, float]


def rounds(
    selections: Sequence[records.Selection], parents: tree.Parents
) -> list[Round]:
  """Reads choices back from the archive.

  Args:
    selections: as stored, with the terms of `selection.select`.
    parents: of every candidate, for the branches.

  Raises:
    ValueError: if a selection has no propensities; it cannot be replayed.
  """
  found = []
  for stored in selections:
    ids = tuple(sorted(stored.terms))
    names = sorted({name for own in stored.terms.values() for name in own})
    terms = {
        name: np.asarray([stored.terms[i].get(name, np.nan) for i in ids])
        for name in names
    }
    keys = [f"{selection_lib.DRAWN}{i + 1}" for i in range(len(stored.parents))]
    if not set(keys) <= set(terms):
      raise ValueError(
          "`selections` must hold the propensities of each draw, round"
          f" {stored.generation} has only {names}; campaigns of earlier"
          " versions cannot be replayed"
      )
    # Those without a score were not part of the tree when it was drawn from.
    listed = {node: parents[node] for node in ids}
    branches = tuple(tree.branch(listed, node) for node in ids)
    root = ids.index(tree.root(listed))
    table = acquisition.Table(ids, branches, root, terms)
    chosen = tuple(ids.index(parent) for parent in stored.parents)
    odds = np.asarray([terms[key] for key in keys])
    found.append(Round(stored.generation, table, chosen, odds))
  return found


def outcomes(
    choice: Round,
    grown: Grown,
    weights: acquisition.Weights,
    origin: str | None = None,
) -> list[float | None]:
  """What each draw of a round led to.

  The gain, over the parent or over `origin`, of the children that this draw
  made and of all that descends from them: 0 if none of these has a score, None
  if nothing was made.
  """
  below = tree.children(grown.parents)
  found: list[float | None] = []
  for row in choice.chosen:
    node = choice.table.ids[row]
    made = [
        child
        for child in below[node]
        if grown.generation[child] == choice.generation
        and grown.parents[child][0] == node
    ]
    gain = _gain(node, made, below, grown, weights, origin or node)
    found.append(None if not made else gain.value if gain else 0.0)
  return found


def prospects(
    choice: Round,
    grown: Grown,
    weights: acquisition.Weights,
    origin: str | None = None,
) -> dict[int, potential.Gain]:
  """Row -> what came of children made in this round or later, where any was."""
  below = tree.children(grown.parents)
  found = {}
  for row, node in enumerate(choice.table.ids):
    made = [
        child
        for child in below[node]
        if grown.generation[child] >= choice.generation
    ]
    gain = _gain(node, made, below, grown, weights, origin or node)
    if gain is not None:
      found[row] = gain
  return found


def _gain(
    node: str,
    made: Sequence[str],
    below: Mapping[str, Sequence[str]],
    grown: Grown,
    weights: acquisition.Weights,
    origin: str,
) -> potential.Gain | None:
  """Discounted gain over `origin` of some children of `node` and their kin."""
  if origin not in grown.scores:
    return None
  # Only these children count, whatever else the node has.
  depths = tree.descendants({**below, node: made}, node)
  return potential.descendant_gain(
      grown.scores[origin],
      grown.variances[origin],
      [
          potential.Relative(grown.scores[c], grown.variances[c], depth)
          for c, depth in depths.items()
          if c in grown.scores
      ],
      top_k=weights.top_k,
      discount=weights.discount,
      gain_scale=weights.gain_scale,
  )


class Estimate(NamedTuple):
  """What a rule would have gained on average, and against the logged one.

  Attributes:
    value: mean outcome of a draw under the rule.
    logged: that of the logged choices, by the same estimate.
    regret: value - logged; above 0 if the rule would have been better.
    support: effective number of draws, (Σw)² / Σw², for importance; share of
      the rule's odds that is covered for hindsight.
  """

  value: statistics.Interval
  logged: statistics.Interval
  regret: statistics.Interval
  support: float


def importance(
    choices: Sequence[Round],
    grown: Grown,
    policy: policies.Policy,
    weights: acquisition.Weights,
    rng: np.random.Generator,
    origin: str | None = None,
) -> Estimate | None:
  """Self-normalised importance weighting; see the module.

  Args:
    choices: the rounds.
    grown: the tree.
    policy: the other rule.
    weights: its weights, and K, γ and β of the outcomes.
    rng: for the intervals.
    origin: over which gains count, the node that was drawn if None.

  Returns:
    The estimate, None if the rule would never have made a logged draw.
  """
  sums, ratios = [], []
  for choice in choices:
    row = np.zeros(4)
    results = outcomes(choice, grown, weights, origin)
    for i, (pick, result) in enumerate(
        zip(choice.chosen, results, strict=True)
    ):
      if result is not None:
        other = policy(choice.table, weights, choice.chosen[:i])[pick]
        ratio = float(other / choice.odds[i, pick])
        ratios.append(ratio)
        row += ratio * result, ratio, result, 1.0
    sums.append(row)
  total = sum(ratios)
  if total <= 0:
    return None
  effective = total**2 / sum(ratio**2 for ratio in ratios)
  return _estimate(np.asarray(sums), effective, rng)


def hindsight(
    choices: Sequence[Round],
    grown: Grown,
    policy: policies.Policy,
    weights: acquisition.Weights,
    rng: np.random.Generator,
    origin: str | None = None,
) -> Estimate | None:
  """Mean outcome under the odds of a rule, by what was built; see the module.

  Args and returns are those of `importance`; None if no node that the rule, or
  no node that the logged one, might have drawn was built on.
  """
  sums, covered = [], []
  for choice in choices:
    row = np.zeros(4)
    gains = prospects(choice, grown, weights, origin)
    rows = [*gains]
    values = np.asarray([gain.value for gain in gains.values()])
    for i, logged in enumerate(choice.odds):
      other = policy(choice.table, weights, choice.chosen[:i])[rows]
      covered.append(float(other.sum()))
      mine = logged[rows]
      row += other @ values, other.sum(), mine @ values, mine.sum()
    sums.append(row)
  if not sum(covered) or not sum(row[3] for row in sums):
    return None
  return _estimate(np.asarray(sums), float(np.mean(covered)), rng)


def _estimate(
    sums: Float[np.ndarray, "R 4"], support: float, rng: np.random.Generator
) -> Estimate:
  """Ratios of sums over rounds: (rule's Σwy, Σw, logged Σy, Σ1)."""
  value = ratio_interval(sums[:, :2], rng)
  logged = ratio_interval(sums[:, 2:], rng)
  draws = sums[_resampled(len(sums), rng)].sum(axis=1)
  held = (draws[:, 1] > 0) & (draws[:, 3] > 0)
  gaps = draws[held, 0] / draws[held, 1] - draws[held, 2] / draws[held, 3]
  low, high = np.percentile(gaps, [2.5, 97.5]).tolist()
  regret = statistics.Interval(value.mean - logged.mean, low, high)
  return Estimate(value, logged, regret, float(support))


def ratio_interval(
    sums: Float[np.ndarray, "R 2"], rng: np.random.Generator
) -> statistics.Interval:
  """Σ numerators / Σ denominators with its 95 % percentile interval.

  Args:
    sums: numerator and denominator of each cluster, which are resampled as
      wholes.
    rng: for the resampling.
  """
  above, below = sums.sum(axis=0)
  draws = sums[_resampled(len(sums), rng)].sum(axis=1)
  held = draws[:, 1] > 0
  low, high = np.percentile(draws[held, 0] / draws[held, 1], [2.5, 97.5])
  return statistics.Interval(float(above / below), float(low), float(high))


def _resampled(count: int, rng: np.random.Generator) -> np.ndarray:
  return rng.integers(count, size=(_RESAMPLES, count))


def alternatives(
    weights: acquisition.Weights,
) -> dict[str, tuple[policies.Policy, acquisition.Weights]]:
  """Rules to replay: the simple ones, and each term left out or alone."""
  terms = ("pareto", "performance", "diversity", "potential")
  found = {name: (rule, weights) for name, rule in policies.POLICIES.items()}
  for term in terms:
    without = dataclasses.replace(weights, **{term: 0.0})
    alone = dataclasses.replace(
        weights, **{name: float(name == term) for name in terms}
    )
    found[f"without_{term}"] = (policies.epistemic, without)
    found[f"{term}_alone"] = (policies.epistemic, alone)
  # The process as if it were trusted in every round.
  found["potential_always"] = (trusting, weights)
  return found


def trusting(
    table: acquisition.Table,
    weights: acquisition.Weights,
    chosen: tuple[int, ...],
) -> Float[np.ndarray, "N"]:
  """The rule of the paper without the fall-back."""
  terms = {**table.terms, "potential_counts": np.ones(len(table.ids))}
  return policies.epistemic(table._replace(terms=terms), weights, chosen)
