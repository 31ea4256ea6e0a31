"""What the Gaussian process knows of a node: one row of numbers each.

Blocks, each standardised: the posterior U of a node, its rise over its parent,
its depth and number of children; the scores on single sets; how training went;
where its gradients place it among the others; what mechanisms it has. The last
two have as many columns as there are mechanisms, so they are weighed down to
what four columns would count: otherwise tags would drown the measurements.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import tree

_BLOCK = 4
_SIGNALS = {
    "entropy": "entropy",
    "kl": "kl",
    "valid_rate": "valid_rate",
    "response_length": "response_length",
    "clip_fraction": "clip_fraction",
}


def of_runs(runs: Sequence[records.Evaluation]) -> dict[str, float]:
  """How training went: `Node.features`, averaged over scored runs.

  Final entropy, KL, share of valid answers, response length and clip fraction
  as `pairing.signal` reads them, the largest KL of a run as `kl_max`, and
  `reward_slope`, the rise of the reward over the run by least squares. No
  clock is read. A feature that no run has is left out.
  """
  found: dict[str, list[float]] = {}
  for run in runs:
    values = {key: pairing.signal(run, of) for key, of in _SIGNALS.items()}
    values["kl_max"] = max(run.curve.get("kl", ()), default=None)
    values["reward_slope"] = _rise(run.curve.get("reward", ()))
    for key, value in values.items():
      if value is not None and np.isfinite(value):
        found.setdefault(key, []).append(float(value))
  return {key: float(np.mean(seen)) for key, seen in sorted(found.items())}


def _rise(values: Sequence[float]) -> float | None:
  """Rise of the least-squares line from one end to the other."""
  if len(values) < 2:
    return None
  time = np.linspace(-0.5, 0.5, len(values))
  return float(time @ np.asarray(values, float) / (time @ time))


def coordinates(
    apart: Float[np.ndarray, "N N"], dimensions: int = _BLOCK
) -> Float[np.ndarray, "N K"]:
  """Places nodes in a few dimensions by their distances (classical scaling).

    B = -1/2 J D² J,  J = I - 1/N,  coordinates = eigenvectors √eigenvalues

  Args:
    apart: D.
    dimensions: the most that are kept, the widest first.

  Returns:
    Coordinates; no column where all distances are 0.
  """
  centre = np.eye(len(apart)) - 1 / len(apart)
  gram = -0.5 * centre @ apart**2 @ centre
  values, vectors = np.linalg.eigh(gram)
  kept = [i for i in np.argsort(-values)[:dimensions] if values[i] > 1e-9]
  return vectors[:, kept] * np.sqrt(values[kept])


def matrix(
    nodes: Sequence[nodes_lib.Node],
    scores: Float[np.ndarray, "N"],
    sets: Float[np.ndarray, "N S"],
    apart: Float[np.ndarray, "N N"],
) -> Float[np.ndarray, "N F"]:
  """All features of all nodes, scaled as the module says.

  Args:
    nodes: the nodes.
    scores: posterior mean of each one's U.
    sets: posterior scores on single sets.
    apart: distances of what the losses do.

  Returns:
    One row a node, constant columns left out.
  """
  numbers = [_position(nodes, scores), sets, _extras(nodes)]
  tags = [coordinates(apart), _mechanisms(nodes)]
  blocks = [_standardised(block) for block in numbers]
  blocks += [_weighed_down(_standardised(block)) for block in tags]
  return np.concatenate(blocks, axis=1)


def _position(
    nodes: Sequence[nodes_lib.Node], scores: np.ndarray
) -> np.ndarray:
  """U, U minus that of the first parent, depth and number of children."""
  parents = nodes_lib.parents(nodes)
  below = tree.children(parents)
  score_of = dict(zip(parents, scores.tolist(), strict=True))
  rows = []
  for node in nodes:
    own = score_of[node.id]
    above = score_of.get((*node.parents, node.id)[0], own)
    rows.append(
        [own, own - above, tree.depth(parents, node.id), len(below[node.id])]
    )
  return np.asarray(rows, float)


def _extras(nodes: Sequence[nodes_lib.Node]) -> np.ndarray:
  """`Node.features`, what a node lacks replaced by the mean of the others."""
  columns = [np.zeros((len(nodes), 0))]
  for name in sorted({name for node in nodes for name in node.features}):
    column = np.asarray([n.features.get(name, np.nan) for n in nodes], float)
    known = np.isfinite(column)
    fill = column[known].mean() if known.any() else 0.0
    columns.append(np.where(known, column, fill)[:, None])
  return np.concatenate(columns, axis=1)


def _mechanisms(nodes: Sequence[nodes_lib.Node]) -> np.ndarray:
  """One 0/1 column for every choice that some node makes."""
  chosen: list[Mapping[str, str]] = [
      node.genome.choices if node.genome else {} for node in nodes
  ]
  pairs = sorted({pair for own in chosen for pair in own.items()})
  return np.asarray(
      [[float(pair in own.items()) for pair in pairs] for own in chosen]
  ).reshape(len(nodes), len(pairs))


def _standardised(block: np.ndarray) -> np.ndarray:
  """Columns of mean 0 and variance 1; those that do not vary are left out."""
  spread = block.std(axis=0)
  varying = spread > 1e-9
  return (block - block.mean(axis=0))[:, varying] / spread[varying]


def _weighed_down(block: np.ndarray) -> np.ndarray:
  """A block of standardised columns that counts as four at most."""
  return block * min(1.0, (_BLOCK / max(block.shape[1], 1)) ** 0.5)
