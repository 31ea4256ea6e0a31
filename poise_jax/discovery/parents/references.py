"""What a proposer is shown beside the parent: references in three tiers.

Candidates that nobody beats, candidates that work differently from the parent,
and some from elsewhere in the tree by lot (POISE section 3.2,
https://arxiv.org/abs/2603.23951; how each tier is filled is ours).
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import pareto, tree
from poise_jax.discovery.parents import posterior as posteriors
from poise_jax.discovery.proposer import genome as genomes

Tier = Literal["pareto", "complementary", "exploratory"]


class Reference(NamedTuple):
  """A candidate to be shown.

  Attributes:
    id: of the candidate.
    tier: why it is shown.
    contrast: to the parent, in [0, 1].
  """

  id: str
  tier: Tier
  contrast: float


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How many references each tier has at most."""

  pareto: int = 2
  complementary: int = 2
  exploratory: int = 2


def contrast(
    one: nodes_lib.Node,
    other: nodes_lib.Node,
    distance: nodes_lib.Distance = nodes_lib.distance,
) -> float:
  """How differently two candidates are built and act, in [0, 1].

  The mean of the distance of their gradients and that of their mechanisms;
  the former alone where one has no genome.
  """
  apart = [distance(one, other)]
  if one.genome is not None and other.genome is not None:
    apart.append(genomes.distance(one.genome, other.genome))
  return sum(apart) / len(apart)


def choose(
    nodes: Sequence[nodes_lib.Node],
    parent: str,
    known: posteriors.Posterior,
    rng: np.random.Generator,
    *,
    sizes: Sizes = Sizes(),
    distance: nodes_lib.Distance = nodes_lib.distance,
) -> tuple[Reference, ...]:
  """Chooses the references for one parent, none of them twice.

  - Pareto: those that no other dominates, the best posterior mean first.
  - Complementary: of the better half by posterior mean, those in the greatest
    contrast to the parent; a collapsed candidate is different, but no example.
  - Exploratory: by lot from the nodes neither above nor below the parent.

  Args:
    nodes: the scored candidates, as for `selection.select`.
    parent: id of the one to build on; never a reference itself.
    known: posterior of the nodes, from `posterior.of`.
    rng: source of the lot; equal states give equal references.
    sizes: of the tiers; a tier that runs out of nodes is shorter.
    distance: of two nodes, in [0, 1].

  Raises:
    ValueError: if `parent` is not among `nodes`.
  """
  ids = [node.id for node in nodes]
  if parent not in ids:
    raise ValueError(f"`parent` must be one of {ids}, got {parent!r}")
  own = nodes[ids.index(parent)]
  apart = [contrast(own, node, distance) for node in nodes]
  order = np.argsort(-known.mean, kind="stable").tolist()
  left = [i for i in order if ids[i] != parent]
  taken: list[Reference] = []

  def take(tier: Tier, rows: Sequence[int], count: int) -> None:
    seen = {reference.id for reference in taken}
    free = [i for i in rows if ids[i] not in seen][:count]
    taken.extend(Reference(ids[i], tier, apart[i]) for i in free)

  dominated = pareto.dominates(known.columns, known.violation)
  front = pareto.fronts(dominated)
  take("pareto", [i for i in left if front[i] == 1], sizes.pareto)
  better = left[: (len(left) + 1) // 2]
  take(
      "complementary",
      sorted(better, key=lambda i: -apart[i]),
      sizes.complementary,
  )
  parents = nodes_lib.parents(nodes)
  family = tree.ancestors(parents, parent) | set(
      tree.descendants(tree.children(parents), parent)
  )
  outside = [i for i in range(len(ids)) if i in left and ids[i] not in family]
  shuffled = [outside[i] for i in rng.permutation(len(outside))]
  take("exploratory", shuffled, sizes.exploratory)
  return tuple(taken)
