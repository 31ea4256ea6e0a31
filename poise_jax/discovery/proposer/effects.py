"""What the campaign has seen of each mechanism, as draws to act on.

A hierarchical linear model of paired differences. A child differs from its
parent by δ points, measured with variance v:

    δ = Σ_s (β[s, new] - β[s, old]) + Σ_c slope[c] Δ[c] + ε,   ε ~ N(0, v)

over the slots s whose choice changed and the constants c that moved by Δ, in
parts of their range. The usual choice of a slot, that of GRPO, has β = 0; of
all others

    β[s, o] = γ + α[s] + η[s, o]
    γ ~ N(m, σ_common²),  α[s] ~ N(0, σ_slot²),  η[s, o] ~ N(0, σ_choice²)

so that what is seen of one choice also tells, less, of the others in its slot
and, little, of adding anything anywhere; the slopes are N(0, σ_slope²). The
mean m is below 0, as most changes do harm: of the 63 descendants in POISE 39
scored below GRPO, and all of them 2 points lower in the mean. Where something
else than Overall is wanted, such as shorter answers, the means of choices and
slopes move by what their own statements predict of it (`hopes`); without that
most of what is tried would have nothing to do with it. All is Gaussian.
With C the prior covariance, μ the prior mean, X the design and
K = X C Xᵀ + diag(v) the posterior is

    mean = μ + C Xᵀ K⁻¹ (δ - X μ),    covariance = C - C Xᵀ K⁻¹ X C.

How large effects are is not known: the prior sds are multiplied by a common
factor with a uniform prior over a few values, weighed by the marginal
likelihood N(δ; X μ, K). Acting on a draw from the posterior (Thompson sampling),
not on its mean, keeps trying what has been tried little.
"""

from collections.abc import Mapping, Sequence
import functools
import types
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms

Effects = dict[tuple[str, str], float]


class Observation(NamedTuple):
  """What one child did to Overall.

  Attributes:
    child: its genome.
    parent: the genome it was made from.
    delta: mean paired difference of the child to its parent, in points.
    variance: of `delta`, in points²; that of the prior noise if None.
  """

  child: genomes.Genome
  parent: genomes.Genome
  delta: float
  variance: float | None = None


class Prior(NamedTuple):
  """Standard deviations of the model, in points of Overall.

  Attributes:
    mean: m, what adding any mechanism does on average; no deviation.
    common: of what adding any mechanism does.
    slot: of what adding a mechanism to one slot does, beyond that.
    choice: of what sets one choice apart from others in its slot.
    slope: of moving a constant through its whole range.
    noise: of one difference whose variance is not given.
    scales: factors on all but the noise, alike before anything is seen.
  """

  mean: float = -1.0
  common: float = 0.5
  slot: float = 0.7
  choice: float = 1.0
  slope: float = 2.0
  noise: float = 3.0
  scales: tuple[float, ...] = (0.5, 1.0, 2.0)


DEFAULT = Prior()
HOPE = 2.0  # points that a prediction is worth before it was tried


class Draw(NamedTuple):
  """One possible truth.

  Attributes:
    choices: (slot, choice) -> effect in points, 0 for the usual ones.
    slopes: constant -> effect of its whole range.
  """

  choices: Effects
  slopes: dict[str, float]


class Posterior(NamedTuple):
  """The model after what was seen.

  Attributes:
    design: X, a row for each observation.
    deltas: δ.
    variances: v.
    prior: of the model.
    mean: μ, of choices and slopes before anything is seen.
    weights: posterior probability of each scale.
  """

  design: Float[np.ndarray, "N F"]
  deltas: Float[np.ndarray, "N"]
  variances: Float[np.ndarray, "N"]
  prior: Prior
  mean: Float[np.ndarray, "F"]
  weights: Float[np.ndarray, "S"]


_CHOICES = tuple(mechanisms.MECHANISMS)
_SLOPES = tuple(knobs.CONSTANTS)
_USUAL = genomes.Genome().choices
_COLUMN = {key: i for i, key in enumerate((*_CHOICES, *_SLOPES))}


def posterior(
    history: Sequence[Observation],
    prior: Prior = DEFAULT,
    wanted: Mapping[str, float] = types.MappingProxyType({}),
) -> Posterior:
  """Conditions the model on what was seen.

  Args:
    history: children and what they did.
    prior: standard deviations.
    wanted: see `hopes`.

  Returns:
    The posterior; the prior if there is no history.
  """
  design = np.array([_features(o.child, o.parent) for o in history])
  design = design.reshape(len(history), len(_COLUMN))
  deltas = np.array([o.delta for o in history], float)
  variances = np.array(
      [prior.noise**2 if o.variance is None else o.variance for o in history],
      float,
  )
  before = _mean(prior) + hopes(wanted)
  logs = []
  for scale in prior.scales:
    cov = _kernel(design, variances, _covariance(prior, scale))
    _, logdet = np.linalg.slogdet(cov)
    missed = deltas - design @ before
    logs.append(-0.5 * (missed @ np.linalg.solve(cov, missed) + logdet))
  odds = np.exp(np.array(logs) - max(logs))
  return Posterior(design, deltas, variances, prior, before, odds / odds.sum())


def draw(rng: np.random.Generator, found: Posterior) -> Draw:
  """Draws all effects at once.

  Draws a scale, effects β' and noise ε' from the prior, and corrects them by
  what was seen: β = β' + C Xᵀ K⁻¹ (δ - X β' - ε') has the posterior exactly.
  """
  prior = found.prior
  scale = float(rng.choice(prior.scales, p=found.weights))
  effects = _drawn_from_prior(rng, prior, scale)
  effects += found.mean - _mean(prior)
  noise = rng.normal(size=len(found.deltas)) * np.sqrt(found.variances)
  if len(found.deltas):
    covariance = _covariance(prior, scale)
    kernel = _kernel(found.design, found.variances, covariance)
    missed = found.deltas - found.design @ effects - noise
    gain = covariance @ found.design.T
    effects = effects + gain @ np.linalg.solve(kernel, missed)
  return _named(effects)


def mean(found: Posterior) -> Draw:
  """The posterior mean of all effects."""
  missed = found.deltas - found.design @ found.mean
  total = found.mean
  for scale, weight in zip(found.prior.scales, found.weights, strict=True):
    covariance = _covariance(found.prior, scale)
    kernel = _kernel(found.design, found.variances, covariance)
    gain = covariance @ found.design.T
    total = total + weight * gain @ np.linalg.solve(kernel, missed)
  return _named(total)


def expected_gain(
    effects: Draw, child: genomes.Genome, parent: genomes.Genome
) -> float:
  """What a draw expects of a child, in points against its parent."""
  gain = 0.0
  for slot, choice in child.choices.items():
    old = getattr(parent, slot)
    if choice != old:
      gain += effects.choices[slot, choice] - effects.choices[slot, old]
  for name, moved in _moves(child, parent).items():
    gain += effects.slopes[name] * moved
  return gain


def _features(child: genomes.Genome, parent: genomes.Genome) -> np.ndarray:
  """One row of the design: choices gained and lost, constants moved."""
  row = np.zeros(len(_COLUMN))
  for slot, choice in child.choices.items():
    old = getattr(parent, slot)
    if choice != old:
      row[_COLUMN[slot, choice]] += 1.0
      row[_COLUMN[slot, old]] -= 1.0
  for name, moved in _moves(child, parent).items():
    row[_COLUMN[name]] = moved
  return row


def _moves(child: genomes.Genome, parent: genomes.Genome) -> dict[str, float]:
  """How far constants moved that both have, in parts of their range."""
  return {
      name: knobs.position(name, value) - knobs.position(name, before)
      for name, value in child.constants.items()
      if (before := parent.constants.get(name, value)) != value
  }


def _named(values: np.ndarray) -> Draw:
  """Columns back to names."""
  numbers = [float(x) for x in values]
  choices = dict(zip(_CHOICES, numbers[: len(_CHOICES)], strict=True))
  slopes = dict(zip(_SLOPES, numbers[len(_CHOICES) :], strict=True))
  return Draw(choices, slopes)


def _drawn_from_prior(
    rng: np.random.Generator, prior: Prior, scale: float
) -> np.ndarray:
  """γ + α + η for every choice that is not usual, then the slopes."""
  common = rng.normal(prior.mean, scale * prior.common)
  slots = {
      slot: rng.normal(0.0, scale * prior.slot) for slot in mechanisms.BY_SLOT
  }
  own = rng.normal(0.0, scale * prior.choice, len(_CHOICES))
  choices = [
      0.0 if choice == _USUAL[slot] else common + slots[slot] + eta
      for (slot, choice), eta in zip(_CHOICES, own, strict=True)
  ]
  slopes = rng.normal(0.0, scale * prior.slope, len(_SLOPES))
  return np.array([*choices, *slopes])


def _added() -> np.ndarray:
  """1.0 for choices that are not the usual ones."""
  return np.array([c != _USUAL[s] for s, c in _CHOICES], float)


def _mean(prior: Prior) -> np.ndarray:
  """μ: of choices that are not the usual ones, and of slopes."""
  return np.concatenate([prior.mean * _added(), np.zeros(len(_SLOPES))])


def hopes(wanted: Mapping[str, float]) -> Float[np.ndarray, "F"]:
  """What choices and slopes are thought to do for what is wanted, in points.

    hope = HOPE Σ_m w_m predicted sign of m

  0 for the usual choices. Evidence soon outweighs it.

  Args:
    wanted: metric -> weight, below 0 where less is better; Overall is left out,
      as every change promises it.
  """
  hope = lambda signs: HOPE * sum(
      weight * signs.get(metric, 0)
      for metric, weight in wanted.items()
      if metric != "overall"
  )
  choices = [hope(mechanisms.MECHANISMS[key].effects) for key in _CHOICES]
  slopes = [hope(knobs.CONSTANTS[name].larger) for name in _SLOPES]
  return np.concatenate([choices * _added(), slopes])


@functools.cache
def _covariance(prior: Prior, scale: float) -> np.ndarray:
  """C: shared by all that is not usual, by slots, and each its own."""
  added = _added()
  slots = np.array([s for s, _ in _CHOICES])
  same = slots[:, None] == slots[None, :]
  both = np.outer(added, added)
  covariance = np.zeros((len(_COLUMN),) * 2)
  count = len(_CHOICES)
  covariance[:count, :count] = both * (
      prior.common**2 + prior.slot**2 * same + prior.choice**2 * np.eye(count)
  )
  covariance[count:, count:] = prior.slope**2 * np.eye(len(_SLOPES))
  return scale**2 * covariance


def _kernel(
    design: np.ndarray, variances: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
  """K: how the differences that were seen vary together."""
  return design @ covariance @ design.T + np.diag(variances)
