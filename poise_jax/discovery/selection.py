"""Choosing the parents of the next round, with every term of the choice.

    s(d) = w_pareto U_pareto + w_perf U_perf + w_div U_div + w_gp α_GP(d)

The form is that of POISE section 3.2 (https://arxiv.org/abs/2603.23951); the
paper names its terms without defining them, and the definitions, weights and
constants here are ours.

No raw score is ever used. With x_i the mean of n_i seeds, s² the variance of
one seed, M the campaign mean and t² the variance between candidates,

    U_i = M + λ_i (x_i - M),    λ_i = t² / (t² + s² / n_i),

so a candidate with one lucky seed is pulled towards M more than one that was
measured five times; the scores on single sets are shrunk by the same λ_i. M
and t² = max(var(x) - s² mean(1/n), s²/100) are taken after raising scores
below their 10th percentile to it: a collapsed candidate would otherwise
inflate t² and with it everybody's λ.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.discovery import genome as genomes
from poise_jax.discovery import potential


@dataclasses.dataclass(frozen=True)
class Node:
  """A scored candidate as selection sees it.

  Attributes:
    id: candidate id.
    parents: ids of its parents, most important first; empty for the root.
    overall: mean Overall over its seeds.
    seeds: number of seeds behind `overall`, at least 1.
    set_scores: score of each problem set; the same sets for every node.
    genome: its description, None if it has none.
    fingerprint: its gradients on the probes, None if it has none.
    features: further numbers for the Gaussian process, such as final entropy
      or response length; one missing in a node counts as the mean.
  """

  id: str
  parents: tuple[str, ...]
  overall: float
  seeds: int
  set_scores: Mapping[str, float]
  genome: genomes.Genome | None = None
  fingerprint: fingerprints.Fingerprint | None = None
  features: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Weights:
  """Weights and constants of the parent score.

  Attributes:
    pareto: weight of the rank among the problem sets.
    performance: weight of the shrunken Overall.
    diversity: weight of the distance to other candidates.
    potential: weight of the Gaussian process on descendant gain.
    branch_penalty: subtracted for each parent already chosen from the same
      branch below the root.
    noise_variance: s², variance of Overall from one seed to the next.
    neighbours: nearest nodes that U_div averages over.
    top_k: descendants that the gain averages over.
    discount: weight of a gain for each generation it took.
    gain_scale: gain, in points, at which the target saturates.
    exploration: standard deviations added to the predicted gain.
  """

  pareto: float = 0.25
  performance: float = 0.30
  diversity: float = 0.15
  potential: float = 0.30
  branch_penalty: float = 0.1
  noise_variance: float = 4.0
  neighbours: int = 3
  top_k: int = 3
  discount: float = 0.85
  gain_scale: float = 2.5
  exploration: float = 1.0


class Selection(NamedTuple):
  """Parents, best first, and term name -> value for every node considered."""

  parents: tuple[str, ...]
  terms: dict[str, dict[str, float]]


Distance = Callable[[Node, Node], float]


def distance(a: Node, b: Node) -> float:
  """Distance of what two losses do, else of their descriptions; at most 1."""
  one, other = a.fingerprint, b.fingerprint
  if one is not None and other is not None and one.suite == other.suite:
    return fingerprints.distance(one, other)
  if a.genome is None or b.genome is None:
    return 0.0 if a.genome is b.genome else 1.0
  return genomes.distance(a.genome, b.genome)


def shrinkage(
    scores: np.ndarray, seeds: Sequence[int], noise_variance: float
) -> tuple[float, np.ndarray]:
  """Campaign mean M and factors λ of the posterior means (see the module).

  Args:
    scores: mean Overall of each node.
    seeds: number of seeds behind each.
    noise_variance: s².

  Returns:
    (M, λ); λ is 1 throughout if there is no noise.
  """
  clipped = np.maximum(scores, np.percentile(scores, 10))
  own = noise_variance / np.asarray(seeds, float)
  between = max(float(np.var(clipped) - own.mean()), noise_variance / 100)
  total = between + own
  factors = np.divide(between, total, out=np.ones_like(own), where=total > 0)
  return float(clipped.mean()), factors


def performance(scores: np.ndarray, *, min_range: float = 0.0) -> np.ndarray:
  """U_perf: scores on [0, 1], the lower end at their 10th percentile.

  Args:
    scores: shrunken Overall of each node.
    min_range: smallest range that is stretched to the unit interval, so that
      pure noise is not; the best node has 1 in any case.

  Returns:
    1 for the best node, 0 at and below the percentile; all 1 if all equal.
  """
  low, high = np.percentile(scores, 10), scores.max()
  span = max(high - low, min_range)
  if span <= 0:
    return np.ones_like(scores)
  return np.clip(1 - (high - scores) / span, 0, 1)


def pareto(scores: np.ndarray) -> np.ndarray:
  """U_pareto: the front a node lies on, ordered within by what it dominates.

    U = 1/(k + 1) + strength (1/k - 1/(k + 1))

  with k >= 1 the front in non-dominated sorting and strength the share of the
  other nodes that it dominates. A node on front k thus always lies between
  1/(k + 1) and 1/k. A node dominates another if it is nowhere worse and
  somewhere better.

  Args:
    scores: one row a node, one column a problem set.

  Returns:
    One number in (0, 1] a node.
  """
  better_or_equal = (scores[:, None] >= scores[None]).all(axis=2)
  better = (scores[:, None] > scores[None]).any(axis=2)
  dominates = better_or_equal & better
  count = len(scores)
  front, left, rank = np.zeros(count), np.ones(count, bool), 0
  while left.any():
    rank += 1
    beaten = dominates[left].any(axis=0)
    front[left & ~beaten] = rank
    left &= beaten
  strength = dominates.sum(axis=1) / max(count - 1, 1)
  return 1 / (front + 1) + strength * (1 / front - 1 / (front + 1))


def diversity(
    nodes: Sequence[Node],
    child_counts: Mapping[str, int],
    *,
    distance: Distance,
    neighbours: int,
) -> np.ndarray:
  """U_div: mean distance to the nearest nodes, divided by 1 + #children.

  Args:
    nodes: all nodes.
    child_counts: id -> number of direct children.
    distance: of two nodes, in [0, 1].
    neighbours: how many nearest nodes count; fewer if there are fewer.

  Returns:
    One number in [0, 1] a node; 0 for a node alone.
  """
  values = []
  for node in nodes:
    gaps = sorted(distance(node, o) for o in nodes if o is not node)
    nearest = gaps[:neighbours]
    mean = sum(nearest) / len(nearest) if nearest else 0.0
    values.append(mean / (1 + child_counts[node.id]))
  return np.asarray(values)


def _children(nodes: Sequence[Node]) -> dict[str, list[str]]:
  """Id -> ids of direct children among `nodes`."""
  children: dict[str, list[str]] = {node.id: [] for node in nodes}
  for node in nodes:
    for parent in dict.fromkeys(node.parents):
      if parent in children:
        children[parent].append(node.id)
  return children


def _ancestry(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
  """Id -> ids from the root's child (its branch) down to the node.

  Follows first parents. The root, having none, is a branch of its own.
  """
  parent_of = {node.id: node.parents[:1] for node in nodes}
  paths = {}
  for node in nodes:
    path = [node.id]
    while parent := parent_of.get(path[-1]):
      path.append(parent[0])
    paths[node.id] = tuple(reversed(path[:-1])) or (node.id,)
  return paths


def _gaussian_process_term(
    nodes: Sequence[Node],
    scores: np.ndarray,
    sets: np.ndarray,
    *,
    children: Mapping[str, Sequence[str]],
    weights: Weights,
) -> tuple[np.ndarray, list[float | None]]:
  """α_GP on [0, 1] and the targets it was trained on."""
  score_of = {node.id: float(u) for node, u in zip(nodes, scores, strict=True)}
  targets = []
  for node in nodes:
    depths = potential.descendants(children, node.id)
    gain = potential.descendant_gain(
        score_of[node.id],
        [(score_of[c], depth) for c, depth in depths.items()],
        top_k=weights.top_k,
        discount=weights.discount,
        gain_scale=weights.gain_scale,
    )
    targets.append(gain)
  bound = potential.upper_confidence(
      _features(nodes, scores, sets, children),
      targets,
      exploration=weights.exploration,
  )
  span = np.ptp(bound)
  scaled = (bound - bound.min()) / span if span > 0 else np.zeros_like(bound)
  return scaled, targets


def _features(
    nodes: Sequence[Node],
    scores: np.ndarray,
    sets: np.ndarray,
    children: Mapping[str, Sequence[str]],
) -> np.ndarray:
  """What the Gaussian process knows of a node, one row each."""
  score_of = dict(zip((n.id for n in nodes), scores, strict=True))
  paths = _ancestry(nodes)
  own = [
      [
          score_of[n.id],
          score_of[n.id] - score_of.get((*n.parents, n.id)[0], score_of[n.id]),
          len(paths[n.id]) if n.parents else 0,
          len(children[n.id]),
      ]
      for n in nodes
  ]
  blocks = [np.asarray(own, float), sets]
  for name in sorted({name for n in nodes for name in n.features}):
    column = np.asarray([n.features.get(name, np.nan) for n in nodes], float)
    known = np.isfinite(column)
    fill = column[known].mean() if known.any() else 0.0
    blocks.append(np.where(known, column, fill)[:, None])
  blocks.extend(_mechanism_columns(nodes))
  return np.concatenate(blocks, axis=1)


def _mechanism_columns(nodes: Sequence[Node]) -> list[np.ndarray]:
  """One 0/1 column for every choice that some node makes."""
  chosen = [n.genome.choices.items() if n.genome else () for n in nodes]
  return [
      np.asarray([[float(pair in own)] for own in chosen])
      for pair in sorted({pair for own in chosen for pair in own})
  ]


def _terms(
    nodes: Sequence[Node], weights: Weights, distance: Distance
) -> dict[str, dict[str, float]]:
  """Id -> every term of the score, the score, and what they rest on."""
  raw = np.asarray([node.overall for node in nodes], float)
  seeds = [node.seeds for node in nodes]
  centre, factors = shrinkage(raw, seeds, weights.noise_variance)
  scores = centre + factors * (raw - centre)
  names = sorted(nodes[0].set_scores)
  sets = np.asarray([[n.set_scores[s] for s in names] for n in nodes], float)
  sets = sets.mean(axis=0) + factors[:, None] * (sets - sets.mean(axis=0))
  children = _children(nodes)
  alpha, targets = _gaussian_process_term(
      nodes, scores, sets, children=children, weights=weights
  )
  terms = {
      "raw": raw,
      "shrunken": scores,
      "pareto": pareto(sets),
      "performance": performance(scores, min_range=weights.noise_variance**0.5),
      "diversity": diversity(
          nodes,
          {k: len(v) for k, v in children.items()},
          distance=distance,
          neighbours=weights.neighbours,
      ),
      "potential": alpha,
  }
  terms["score"] = sum(
      getattr(weights, name) * terms[name]
      for name in ("pareto", "performance", "diversity", "potential")
  )
  logged = {
      node.id: {name: float(column[i]) for name, column in terms.items()}
      for i, node in enumerate(nodes)
  }
  for node, target in zip(nodes, targets, strict=True):
    if target is not None:
      logged[node.id]["descendant_gain"] = target
  return logged


def _greedy(
    totals: Mapping[str, float],
    branches: Mapping[str, str],
    *,
    count: int,
    penalty: float,
) -> tuple[str, ...]:
  """Best first; every parent taken from a branch costs the branch `penalty`."""
  chosen: list[str] = []
  left = dict(totals)
  while left and len(chosen) < count:
    used = [branches[c] for c in chosen]
    best = max(left, key=lambda c: left[c] - penalty * used.count(branches[c]))
    chosen.append(best)
    del left[best]
  return tuple(chosen)


def select(
    nodes: Sequence[Node],
    *,
    count: int,
    weights: Weights,
    distance: Distance = distance,
) -> Selection:
  """Chooses the parents of a round.

  A pure function: equal inputs give equal choices, and in a tie the node that
  comes first wins. Canaries and diverged candidates are for the caller to
  leave out.

  Args:
    nodes: the scored candidates, the root among them.
    count: parents wanted.
    weights: see `Weights`.
    distance: of two nodes, in [0, 1], for U_div.

  Returns:
    Up to `count` distinct parents (fewer if there are fewer nodes; the caller
    cycles through them), and for every node, as plain finite floats: `raw`,
    `shrunken`, `pareto`, `performance`, `diversity`, `potential`, `score`,
    and `descendant_gain` where it has descendants.

  Raises:
    ValueError: if `nodes` is empty or `count` < 1.
  """
  if not nodes or count < 1:
    raise ValueError(
        "`nodes` must not be empty and `count` at least 1, got"
        f" {len(nodes)} nodes and count {count}"
    )
  logged = _terms(nodes, weights, distance)
  parents = _greedy(
      {id_: own["score"] for id_, own in logged.items()},
      {id_: path[0] for id_, path in _ancestry(nodes).items()},
      count=count,
      penalty=weights.branch_penalty,
  )
  return Selection(parents, logged)
