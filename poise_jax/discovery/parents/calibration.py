"""Whether the predictions made in each round came true.

In each round the Gaussian process predicted the gain of every node. A
prediction is compared with what came of the children made from then on, which
it could not know, and with two rivals of the same round: its prior, and one
mean and spread for all nodes. Of the other terms of the choice, which predict
no number, the ranks are compared.
"""

from collections.abc import Mapping, Sequence
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from poise_jax.discovery.parents import acquisition, potential, replay, trust
from poise_jax.evaluation import statistics

LEVELS = (0.5, 0.8, 0.95)
# Terms of the choice whose order is compared with what came.
TERMS = ("pareto", "performance", "diversity", "potential", "gp_mean", "score")
_RESAMPLES = 2000


class Forecast(NamedTuple):
  """A prediction and what came of it.

  Attributes:
    node: id.
    generation: the round in which it was made.
    mean: predicted gain.
    variance: of the prediction, noise of the outcome apart.
    constant: mean and variance that one value for all nodes would have
      predicted.
    outcome: the gain by children made from this round on, and its noise.
  """

  node: str
  generation: int
  mean: float
  variance: float
  constant: tuple[float, float]
  outcome: potential.Gain


class Calibration(NamedTuple):
  """How far the Gaussian process can be believed.

  Attributes:
    forecasts: number of them.
    nodes: different nodes among them.
    coverage: nominal level -> share of outcomes inside that interval, with a
      95 % interval by resampling nodes.
    bias: mean of outcome less prediction, likewise.
    verdict: log scores against the rivals, one entry a node.
  """

  forecasts: int
  nodes: int
  coverage: Mapping[float, statistics.Interval]
  bias: statistics.Interval
  verdict: trust.Verdict


def forecasts(
    choices: Sequence[replay.Round],
    grown: replay.Grown,
    weights: acquisition.Weights,
) -> list[Forecast]:
  """Collects the predictions of all rounds of which something came.

  Nodes that nobody built on afterwards have no outcome. Which were built on is
  the rule's choice, so this says how good the predictions were where they
  mattered, not everywhere.
  """
  found = []
  for choice in choices:
    terms = choice.table.terms
    # The first round knows no gain yet.
    label = terms.get("descendant_gain", np.full(len(choice.table.ids), np.nan))
    known = np.isfinite(label)
    told = [
        potential.Gain(float(y), float(n))
        for y, n in zip(
            label[known],
            terms.get("gain_noise", label)[known],
            strict=True,
        )
    ]
    prior = (0.0, potential.PRIOR_VARIANCE)
    flat = trust.constant(told) if len(told) >= 2 else prior
    for row, gain in replay.prospects(choice, grown, weights).items():
      found.append(
          Forecast(
              choice.table.ids[row],
              choice.generation,
              float(terms["gp_mean"][row]),
              float(terms["gp_sd"][row]) ** 2,
              flat,
              gain,
          )
      )
  return found


def calibrate(
    told: Sequence[Forecast],
    rng: np.random.Generator,
    *,
    margin: float = 1.0,
) -> Calibration | None:
  """Sums up forecasts; None if there are fewer than two nodes among them.

  Forecasts of one node share most of their outcome, so a node counts once in
  the log scores, with the mean over its rounds.

  Args:
    told: from `forecasts`.
    rng: for the intervals.
    margin: as in `trust.judge`.
  """
  by_node: dict[str, list[Forecast]] = {}
  for forecast in told:
    by_node.setdefault(forecast.node, []).append(forecast)
  if len(by_node) < 2:
    return None
  coverage = {}
  for level in LEVELS:
    sums = [
        (sum(_inside(f, level) for f in own), float(len(own)))
        for own in by_node.values()
    ]
    coverage[level] = replay.ratio_interval(np.asarray(sums, float), rng)
  missed = [
      (sum(f.outcome.value - f.mean for f in own), float(len(own)))
      for own in by_node.values()
  ]
  bias = replay.ratio_interval(np.asarray(missed, float), rng)
  rows = [
      np.mean([_scores(f) for f in own], axis=0) for own in by_node.values()
  ]
  verdict = trust.verdict(np.asarray(rows), margin)
  return Calibration(len(told), len(by_node), coverage, bias, verdict)


class Concordance(NamedTuple):
  """How often the higher term led to more; a half is chance.

  Attributes:
    pairs: pairs of nodes of one round that could be compared.
    share: of them in which the higher term led to more, ties half, with a
      95 % interval by resampling nodes.
  """

  pairs: int
  share: statistics.Interval


def concordance(
    choices: Sequence[replay.Round],
    grown: replay.Grown,
    weights: acquisition.Weights,
    rng: np.random.Generator,
    origin: str | None = None,
) -> dict[str, Concordance]:
  """Compares the order of each term with the order of what came.

  Pairs are of nodes of the same round that were both built on from then on,
  with outcomes that differ.

  Args:
    choices: the rounds.
    grown: the tree.
    weights: K, γ and β of the outcomes.
    rng: for the intervals.
    origin: over which gains count, each node itself if None.

  Returns:
    Term name -> concordance; without terms that are not logged, empty if there
    is no pair.
  """
  gains = [replay.prospects(c, grown, weights, origin) for c in choices]
  names = sorted(
      {
          c.table.ids[r]
          for c, own in zip(choices, gains, strict=True)
          for r in own
      }
  )
  place = {name: i for i, name in enumerate(names)}
  found = {}
  for term in TERMS:
    agreed, met = np.zeros((2, len(names), len(names)))
    for choice, own in zip(choices, gains, strict=True):
      if term not in choice.table.terms or not own:
        continue
      values = choice.table.terms[term][[*own]]
      came = np.asarray([gain.value for gain in own.values()])
      order = np.sign(np.subtract.outer(came, came))
      same = np.sign(np.subtract.outer(values, values)) * order
      spots = np.ix_(*2 * [[place[choice.table.ids[row]] for row in own]])
      agreed[spots] += (order != 0) * (1 + same) / 2
      met[spots] += order != 0
    if met.any():
      found[term] = Concordance(int(met.sum()) // 2, _share(agreed, met, rng))
  return found


def _share(
    agreed: np.ndarray, met: np.ndarray, rng: np.random.Generator
) -> statistics.Interval:
  """Σ agreed / Σ met over pairs, resampling the nodes that form them."""
  count = len(met)
  # How often each node is in a resample; a pair counts by the product.
  often = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
  total = ((often @ met) * often).sum(axis=1)
  right = ((often @ agreed) * often).sum(axis=1)[total > 0]
  low, high = np.percentile(right / total[total > 0], [2.5, 97.5]).tolist()
  return statistics.Interval(float(agreed.sum() / met.sum()), low, high)


def _inside(forecast: Forecast, level: float) -> bool:
  """Whether the outcome lies in the central interval of a level."""
  sd = math.sqrt(forecast.variance + forecast.outcome.variance)
  reach = float(stats.norm.ppf(0.5 + level / 2)) * sd
  return abs(forecast.outcome.value - forecast.mean) <= reach


def _scores(forecast: Forecast) -> list[float]:
  """Log scores of process, prior and constant."""
  value, noise = forecast.outcome
  rivals = [
      (forecast.mean, forecast.variance),
      (0.0, potential.PRIOR_VARIANCE),
      forecast.constant,
  ]
  return [trust.log_score(value, mean, v + noise) for mean, v in rivals]
