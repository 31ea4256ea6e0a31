"""Is it new? The nearest known algorithms, and what sets a loss apart from them.

Judged by what losses do on the probes, see `fingerprint`. Equality there is
not identity, so every match carries the probes that tell the two apart and the
worst difference.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.algorithms import bounds, catalog
from poise_jax.candidates import contract, fingerprint, probes
from poise_jax.candidates import known as known_lib

# Members that no probe tells apart at their default constants.
KNOWN_TWINS = (
    frozenset({"gspo", "gspo_token"}),
    frozenset({"grpo_poise", "grpo_adaptive_kl"}),
)

# Probe -> when it is like that, in words.
_WHERE: Mapping[str, str] = {
    "mixed": "on-policy",
    "off_policy": "far off-policy",
    "all_fail": "where all fail",
    "all_pass": "where all succeed",
    "all_invalid": "where no answer is valid",
    "one_valid": "where one answer of a group is valid",
    "truncated": "where answers are cut off",
    "padded": "with completions without tokens",
    "all_masked": "without tokens",
    "some_invalid": "where valid and invalid answers mix",
    "near_clip": "at ratios between 1/2 and 2",
    "far_reference": "far from the reference",
    "mismatch": "where the sampler differs from the policy",
    "stale": "on stale completions",
    "small_spread": "where the rewards of a group hardly differ (σ < 0.1)",
    "streams": "where rewards carry format and length",
    "lone_success": "where one answer of the batch is right",
    "failed_streams": "where all fail with different rewards",
    "solved_streams": "where all succeed with different rewards",
    "sure": "at low entropy",
    "surer": "at low entropy for long",
    "unsure": "at high entropy",
    "large_rewards": "at rewards of up to ±8",
} | {f"run_{i}": "in the course of a run" for i in range(10)}

# Beyond this distance a change of constants does not explain it.
_FIT_DISTANCE = 0.35
# Values that people write, tried for every constant before any other.
_USUAL = (0.0, 0.5, 1.0, 2.0, 3.0, 0.1, 0.01, 0.001, 0.2, 0.28, 0.3, 0.05, 1e-4)


@dataclasses.dataclass(frozen=True)
class Match:
  """How a loss compares with a known one.

  Attributes:
    name: of the member.
    constants: that differ from its defaults, if they were fitted.
    factor: how many times longer the steps of the loss are; 1 unless that
      makes the two equal.
    differs_on: the probes that tell them apart.
    worst: the probe with the largest relative difference.
    difference: on that probe.
    distance: in [0, 1], see `fingerprint.distance`.
  """

  name: str
  constants: dict[str, float]
  factor: float
  differs_on: tuple[str, ...]
  worst: str
  difference: float
  distance: float

  def to_json(self) -> dict[str, Any]:
    """Renders it as the archive stores it, with its words."""
    return dataclasses.asdict(self) | {
        "differs_on": list(self.differs_on),
        "factor": _short(self.factor),
        "difference": _short(self.difference),
        "distance": _short(self.distance),
        "words": self.words(),
    }

  @property
  def equal(self) -> bool:
    """Whether no probe tells them apart."""
    return not self.differs_on

  def words(self) -> str:
    """Says it in a sentence without a subject: "equals bn_grpo"."""
    constants = " and ".join(f"{k} {v:.4g}" for k, v in self.constants.items())
    name = f"{self.name} with {constants}" if constants else self.name
    if abs(self.factor - 1.0) > fingerprint.TOLERANCE:
      name += f", with steps {self.factor:.3g} times as long"
    measure = f"worst difference {self.difference:.1g} on {self.worst}"
    if self.equal:
      return f"equals {name} ({measure})"
    if len(self.differs_on) <= 3:
      where = ", ".join(_WHERE.get(p, p) for p in self.differs_on)
      return f"is {name}, except {where} ({measure})"
    return (
        f"is nearest to {name}, at distance {self.distance:.2f}; it differs on"
        f" {len(self.differs_on)} probes ({measure})"
    )


def nearest(
    found: fingerprint.Fingerprint, known: known_lib.Library, count: int = 3
) -> tuple[Match, ...]:
  """Compares with all members as they are; takes a few milliseconds.

  Returns:
    The nearest, best first: fewest probes that tell them apart, then distance.
  """
  matches = [match(found, other, name) for name, other in known.known.items()]
  # Few exceptions are told as such, many only as a distance.
  key = lambda m: (min(len(m.differs_on), 4), m.factor != 1.0, m.distance)
  return tuple(sorted(matches, key=key)[:count])


def match(
    found: fingerprint.Fingerprint,
    other: fingerprint.Fingerprint,
    name: str,
    constants: Mapping[str, float] | None = None,
) -> Match:
  """Compares with one known loss, with the same steps or longer ones."""
  choices = []
  distance = fingerprint.distance(found, other)
  for factor in (1.0, fingerprint.common_factor(found, other)):
    apart = fingerprint.differences(found, other, factor)
    probe = max(apart, key=apart.get)
    choices.append(
        Match(
            name=name,
            constants=dict(constants or {}),
            factor=factor,
            differs_on=tuple(
                p for p, d in apart.items() if d > fingerprint.TOLERANCE
            ),
            worst=probe,
            difference=apart[probe],
            distance=distance,
        )
    )
  plain, scaled = choices
  return scaled if len(scaled.differs_on) < len(plain.differs_on) else plain


def fit(
    found: fingerprint.Fingerprint,
    name: str,
    *,
    hints: Sequence[float] = (),
    batches: Mapping[str, types.RolloutBatch] | None = None,
    evaluations: int = 200,
) -> Match:
  """Seeks the constants at which a member does what the loss does.

  One constant after the other: the `hints`, usual values, then ever closer
  around the best so far. Compiles the member once; some 5 ms an evaluation.

  Args:
    found: fingerprint of the loss.
    name: of the member.
    hints: values that the source itself has; they are tried first.
    batches: the probes of `found`.
    evaluations: at most so many.
  """
  batches = probes.suite() if batches is None else batches
  # A preset is its origin with other constants, and is told as such.
  origin = catalog.make(_origin(name))
  take = _taker(origin, batches)
  best = dict(catalog.make(name).hparams)
  error = _error(found, take(best))
  spent = 0
  for key, value in _proposals(best, hints):
    if spent == evaluations or error <= fingerprint.TOLERANCE**2:
      break
    if value == best[key] or bounds.check(key, value):
      continue
    spent += 1
    trial = _error(found, take(best | {key: value}))
    if trial < 0.999 * error:
      best[key], error = value, trial
  changed = {k: v for k, v in best.items() if v != origin.hparams[k]}
  return match(found, take(best), origin.name, changed)


def explain(
    found: fingerprint.Fingerprint,
    known: known_lib.Library,
    *,
    hints: Sequence[float] = (),
    batches: Mapping[str, types.RolloutBatch] | None = None,
) -> tuple[Match, ...]:
  """Says what a loss is: an equal, a relative with other constants, or new.

  As `nearest`, then `fit` for those near enough that constants may be all
  that differs, unless the first is equal anyway; some 0.5 s for each of two.
  """
  matches = nearest(found, known)
  if matches[0].equal:
    return matches
  close = [m.name for m in matches if m.distance <= _FIT_DISTANCE]
  # Entries that share a loss are fitted once, from the nearest of them.
  once = {_origin(name): name for name in reversed(close)}
  fitted = [
      fit(found, name, hints=hints, batches=batches)
      for name in sorted(once.values(), key=close.index)[:2]
  ]
  fitted = [m for m in fitted if m.constants and len(m.differs_on) <= 1]
  key = lambda m: (len(m.differs_on), len(m.constants), m.distance)
  return (*sorted(fitted, key=key), *matches)


def in_words(
    packed: bytes | None,
    known: known_lib.Library | None,
    *,
    hints: Sequence[float] = (),
) -> str:
  """What a loss is, constants fitted, such as "equals grpo with kl_coef 0.02".

  See `explain`, which takes some seconds.

  Args:
    packed: its fingerprint, as a verdict has it.
    known: members to compare it with.
    hints: constants that the source has.

  Returns:
    A sentence without a subject; empty if it was not seen on the usual probes,
    or there is nothing to compare it with.
  """
  if packed is None or known is None:
    return ""
  found = fingerprint.from_bytes(packed)
  if found.suite != known.suite:
    return ""
  return verdict(explain(found, known, hints=hints))


def verdict(matches: Sequence[Match]) -> str:
  """The first match in words; "new" with its neighbour if it is none."""
  first = matches[0]
  if len(first.differs_on) <= 3:
    return first.words()
  return f"new; {first.words()}"


def _taker(
    member: types.Algorithm, batches: Mapping[str, types.RolloutBatch]
) -> Callable[[Mapping[str, float]], fingerprint.Fingerprint]:
  """Compiles a member; gives its fingerprint at any constants."""
  as_arrays = lambda values: {k: jnp.float32(v) for k, v in values.items()}
  first = as_arrays(member.hparams)
  start = lambda h: jax.tree.map(jnp.asarray, member.init(h))
  step = contract.compile_step(
      member, start(first), next(iter(batches.values()))
  )

  def take(hparams: Mapping[str, float]) -> fingerprint.Fingerprint:
    arrays = as_arrays(hparams)
    return fingerprint.take(step, arrays, start(arrays), batches)

  return take


def _error(
    found: fingerprint.Fingerprint, other: fingerprint.Fingerprint
) -> float:
  """Mean squared difference over probes: each counts at most 1."""
  apart = fingerprint.differences(found, other)
  return float(np.mean(np.minimum(list(apart.values()), 1.0) ** 2))


def _proposals(
    best: Mapping[str, float], hints: Sequence[float]
) -> Iterator[tuple[str, float]]:
  """Constants to try, around those that are best at the time."""
  for key in best:
    for value in dict.fromkeys((*hints, *_USUAL)):
      yield key, value
  for width in (3.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001):
    for key in best:
      yield key, best[key] * (1.0 + width)
      yield key, best[key] / (1.0 + width)


def _origin(name: str) -> str:
  """The first entry with the same loss."""
  loss = catalog.describe(name).loss
  return next(n for n in catalog.names() if catalog.describe(n).loss is loss)


def _short(number: float) -> float:
  """Four digits: the others are rounding."""
  return float(f"{number:.4g}")
