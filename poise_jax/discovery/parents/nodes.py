"""A scored candidate as the search sees it, and how far two are apart."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import numpy as np

from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.discovery.proposer import genome as genomes


@dataclasses.dataclass(frozen=True)
class Node:
  """A scored candidate as selection sees it.

  Attributes:
    id: candidate id.
    parents: ids of its parents, most important first; empty for the root.
    overall: mean Overall over its seeds.
    seeds: number of seeds behind `overall`, at least 1.
    set_scores: score of each problem set by metric name; the same sets for
      every node.
    genome: its description, None if it has none.
    fingerprint: its gradients on the probes, None if it has none.
    features: further numbers for the Gaussian process, such as final entropy
      or response length; one missing in a node counts as the mean. What a
      clock measured does not belong here: a repeated search would choose
      otherwise.
    metrics: means of further recorded metrics, for the objective alone.
  """

  id: str
  parents: tuple[str, ...]
  overall: float
  seeds: int
  set_scores: Mapping[str, float]
  genome: genomes.Genome | None = None
  fingerprint: fingerprints.Fingerprint | None = None
  features: Mapping[str, float] = dataclasses.field(default_factory=dict)
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def measured(self) -> dict[str, float]:
    """Everything that an objective may name, metric -> mean over seeds."""
    return {
        **self.features,
        **self.set_scores,
        **self.metrics,
        "overall": self.overall,
    }


Distance = Callable[[Node, Node], float]


def parents(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
  """Id -> parents, as `tree` wants it."""
  return {node.id: node.parents for node in nodes}


def distance(a: Node, b: Node) -> float:
  """Distance of what two losses do, else of their descriptions; at most 1."""
  one, other = a.fingerprint, b.fingerprint
  if one is not None and other is not None and one.suite == other.suite:
    return fingerprints.distance(one, other)
  if a.genome is None or b.genome is None:
    return 0.0 if a.genome is b.genome else 1.0
  return genomes.distance(a.genome, b.genome)


def distances(nodes: Sequence[Node], between: Distance) -> np.ndarray:
  """All distances, one row and one column a node; symmetric, 0 to itself."""
  apart = np.zeros((len(nodes), len(nodes)))
  for i, one in enumerate(nodes):
    for j in range(i):
      apart[i, j] = apart[j, i] = between(one, nodes[j])
  return apart
