"""Whether the Gaussian process knows anything: its log score against rivals.

A gain of a node and that of its parent rest on the same descendants, so a
label is predicted from those outside its own line (neither above nor below it)
only; leaving out just the one would let the process copy the answer.
"""

from collections.abc import Collection, Mapping, Sequence
import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.discovery.parents import potential

# A label is predicted from no fewer than this many others.
LEAST = 4


class Verdict(NamedTuple):
  """How well labels were predicted that the process had not seen.

  Attributes:
    labels: labels that could be predicted so.
    process: mean log score of the Gaussian process, in nats a label.
    prior: that of its prior, which knows no label.
    constant: that of one mean and spread for all nodes.
    advantage: of the process over the better of the two, in nats a label.
    error: standard error of the advantage.
    trusted: whether the advantage is above its standard error.
  """

  labels: int
  process: float
  prior: float
  constant: float
  advantage: float
  error: float
  trusted: bool


UNKNOWN = Verdict(0, 0.0, 0.0, 0.0, 0.0, 0.0, False)


def log_score(value: float, mean: float, variance: float) -> float:
  """Log density of N(mean, variance) at `value`, in nats."""
  miss = (value - mean) ** 2 / variance
  return -0.5 * (miss + math.log(2 * math.pi * variance))


def constant(gains: Sequence[potential.Gain]) -> tuple[float, float]:
  """One mean for all gains and the variance of a new node's gain around it.

    mean = Σ y/(v + n) / Σ 1/(v + n),   v = max(var(y) - mean(n), 0)

  with n the noise of each label.

  Returns:
    (mean, v + 1 / Σ 1/(v + n)), noise of the new label apart.
  """
  values = np.asarray([gain.value for gain in gains])
  noise = np.asarray([gain.variance for gain in gains])
  between = max(float(values.var(ddof=1) - noise.mean()), 0.0)
  weights = 1 / (between + noise)
  mean = float(values @ weights / weights.sum())
  return mean, between + float(1 / weights.sum())


def judge(
    inputs: Float[np.ndarray, "N F"],
    labelled: Sequence[int],
    gains: Sequence[potential.Gain],
    lines: Sequence[Collection[int]],
    *,
    margin: float = 1.0,
) -> Verdict:
  """Compares the process with its rivals on labels outside their own line.

  Args:
    inputs: as for `potential.predict`.
    labelled: as for `potential.predict`.
    gains: as for `potential.predict`.
    lines: for each row, the rows above and below it.
    margin: standard errors by which the process has to be ahead. Errors are
      taken as if labels were independent, which they are not quite.

  Returns:
    The verdict; `UNKNOWN` if fewer than four labels can be predicted.
  """
  known = dict(zip(labelled, gains, strict=True))
  gram = potential.kernel(inputs)(
      inputs if inputs.shape[1] else np.zeros((len(inputs), 1))
  )
  rows = []
  for row, gain in known.items():
    others = [i for i in labelled if i != row and i not in lines[row]]
    if len(others) >= LEAST:
      rows.append(_scores(gram, row, gain, {i: known[i] for i in others}))
  if len(rows) < LEAST:
    return UNKNOWN
  return verdict(np.asarray(rows), margin)


def verdict(scores: Float[np.ndarray, "N 3"], margin: float = 1.0) -> Verdict:
  """Sums up log scores of process, prior and constant, one row a label."""
  process, prior, flat = scores.mean(axis=0).tolist()
  rival = 1 if prior >= flat else 2
  ahead = scores[:, 0] - scores[:, rival]
  error = float(ahead.std(ddof=1) / math.sqrt(len(ahead)))
  advantage = float(ahead.mean())
  trusted = advantage > margin * error
  return Verdict(len(scores), process, prior, flat, advantage, error, trusted)


def _scores(
    gram: np.ndarray,
    row: int,
    gain: potential.Gain,
    others: Mapping[int, potential.Gain],
) -> list[float]:
  """Log scores of one label by process, prior and constant."""
  rows, told = [*others], [*others.values()]
  noise = np.diag([other.variance for other in told])
  pull = np.linalg.solve(gram[np.ix_(rows, rows)] + noise, gram[rows, row])
  predicted = [
      (
          float(pull @ [other.value for other in told]),
          float(gram[row, row] - pull @ gram[rows, row]),
      ),
      (0.0, potential.PRIOR_VARIANCE),
      constant(told),
  ]
  return [log_score(gain.value, m, v + gain.variance) for m, v in predicted]
