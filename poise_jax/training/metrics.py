"""What training measures: parts that can be added up before they are divided.

A metric is not a number but what is needed to merge it with its like: a mean is
(sum, denominator), an extreme is a minimum or a maximum. So a metric of a
batch is the same from one batch, its minibatches, or its shards on many
devices. On the device: `rollout_metrics`, `policy_metrics`, `add`. On the host:
`sampled_metrics`, `combine`, then `values`. Names are TRL's where TRL has the
quantity.
"""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from poise_jax import types
from poise_jax.algorithms import kl, masks, ratios
from poise_jax.rollout import scoring

Scalar = Float[Array, ""] | float


class Fraction(NamedTuple):
  """A mean: `total / count`, and no value where `count` is 0."""

  total: Scalar
  count: Scalar


class Total(NamedTuple):
  """A sum, such as a number of tokens."""

  total: Scalar


class Moments(NamedTuple):
  """A standard deviation over samples, as `torch.std` has it.

  Its value is sqrt(squares / (count - 1)), and none with fewer than two.

  Attributes:
    count: of samples.
    mean: of samples.
    squares: sum of squared distances from the mean; sums of plain squares
      would cancel.
  """

  count: Scalar
  mean: Scalar
  squares: Scalar


class Lowest(NamedTuple):
  """A minimum; infinity where there was nothing to compare, and no value."""

  extreme: Scalar


class Highest(NamedTuple):
  """A maximum; minus infinity where there was nothing, and no value."""

  extreme: Scalar


Metric = Fraction | Total | Moments | Lowest | Highest


def add(a: Metric, b: Metric) -> Metric:
  """Merges two parts of one metric; on arrays, traced or not, and on floats.

  Raises:
    TypeError: if the two are not of one kind.
  """
  if type(a) is not type(b):
    raise TypeError(
        "`a` and `b` must be parts of one metric, of the same kind, got"
        f" {type(a).__name__} and {type(b).__name__}"
    )
  xp = jnp if isinstance(a[0], jax.Array) or isinstance(b[0], jax.Array) else np
  match a:
    case Lowest():
      return Lowest(xp.minimum(a.extreme, b.extreme))
    case Highest():
      return Highest(xp.maximum(a.extreme, b.extreme))
    case Moments():
      return _merge(a, b)
    case _:
      return type(a)(*(x + y for x, y in zip(a, b, strict=True)))


def _merge(a: Moments, b: Moments) -> Moments:
  """Merges moments (Chan, Golub and LeVeque), also of nothing."""
  count = a.count + b.count
  share = b.count / (count + (count == 0))
  shift = b.mean - a.mean
  return Moments(
      count,
      a.mean + shift * share,
      a.squares + b.squares + shift * shift * a.count * share,
  )


def combine(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
  """Merges the metrics of minibatches, updates or hosts, in double precision.

  Waits for the device. A name may be missing from some parts; each metric is
  that of the parts which have it.

  Raises:
    TypeError: if parts have different kinds of metric by one name.
  """
  merged: dict[str, Metric] = {}
  for part in jax.device_get([dict(part) for part in parts]):
    for name, metric in part.items():
      exact = type(metric)(*map(float, metric))
      merged[name] = add(merged[name], exact) if name in merged else exact
  return merged


def value(metric: Metric) -> float | None:
  """Divides; None where there was nothing to measure. Waits for the device.

  NaN comes out only where a measured quantity was NaN.
  """
  match type(metric)(*map(float, jax.device_get(metric))):
    case Fraction(total, count):
      return total / count if count else None
    case Total(total):
      return total
    case Moments(count, _, squares):
      return math.sqrt(squares / (count - 1)) if count > 1 else None
    case Lowest(extreme):
      return None if extreme == math.inf else extreme
    case Highest(extreme):
      return None if extreme == -math.inf else extreme


def values(metrics: Mapping[str, Metric]) -> dict[str, float]:
  """Gives `value` by name, leaving out what has none. Waits for the device."""
  pairs = {k: value(metric) for k, metric in jax.device_get(metrics).items()}
  return {name: number for name, number in pairs.items() if number is not None}


def parts(metrics: Mapping[str, Metric]) -> dict[str, list[float]]:
  """Gives what means and deviations were divided of. Waits for the device.

  So that lines of a file can be merged: a mean is [sum, count], a deviation
  [count, mean, sum of squares]. Sums and extremes are such parts themselves,
  and are left out, as is what is not finite.
  """
  found = {
      name: [float(number) for number in metric]
      for name, metric in jax.device_get(dict(metrics)).items()
      if isinstance(metric, Fraction | Moments)
  }
  return {k: v for k, v in found.items() if all(map(math.isfinite, v))}


def _mean(
    x: Float[Array, "*N"], keep: Bool[Array, "*N"] | None = None
) -> Fraction:
  if keep is None:
    return Fraction(jnp.sum(x), jnp.float32(x.size))
  return Fraction(
      jnp.sum(jnp.where(keep, x, 0.0)), jnp.sum(keep, dtype=jnp.float32)
  )


def _lowest(x: Float[Array, "*N"], keep: Bool[Array, "*N"]) -> Lowest:
  return Lowest(jnp.min(jnp.where(keep, x, jnp.inf), initial=jnp.inf))


def _highest(x: Float[Array, "*N"], keep: Bool[Array, "*N"]) -> Highest:
  return Highest(jnp.max(jnp.where(keep, x, -jnp.inf), initial=-jnp.inf))


def _moments(x: Float[Array, "*N"]) -> Moments:
  mean = jnp.sum(x) / max(x.size, 1)
  return Moments(jnp.float32(x.size), mean, jnp.sum((x - mean) ** 2))


def rollout_metrics(
    batch: types.RolloutBatch,
    components: Sequence[str] = ("correct", "format_valid"),
) -> dict[str, Metric]:
  """Measures the batch of one rollout: rewards, groups and lengths.

  Pure, to be jitted; of a sharded batch it gives the whole batch's metrics.

  `reward_std` is the mean over groups of the standard deviation (dividing by
  G) of rewards in a group; TRL 1.16 has by this name the deviation over all
  completions, which is `rewards/<component>/std` here as there. A group is
  passed by `correct`, and has spread if its `rewards` differ. `num_tokens` and
  `effective_tokens` (of groups with spread) count completion tokens of this
  batch, neither prompts nor earlier batches. Of a batch that dynamic sampling
  has chosen, `sampled_metrics` come in the place of what they name.

  Args:
    batch: complete groups.
    components: names of `reward_components`, in order; the others are called
      component_2 and so on.

  Raises:
    ValueError: if there are more names than components.
  """
  present = batch.reward_components.shape[-1]
  if len(components) > present:
    raise ValueError(
        "`components` must name no more than the reward components of the"
        f" batch, {present}, got {tuple(components)}"
    )
  names = [*components]
  names += [f"component_{k}" for k in range(len(names), present)]
  metrics: dict[str, Metric] = {
      "reward": _mean(batch.rewards),
      "reward_std": _mean(jnp.std(batch.rewards, axis=1)),
  }
  for k, name in enumerate(names):
    stream = batch.reward_components[..., k]
    metrics[f"rewards/{name}/mean"] = _mean(stream)
    metrics[f"rewards/{name}/std"] = _moments(stream)
  return metrics | _group_metrics(batch) | _length_metrics(batch)


def sampled_metrics(grades: scoring.Grades) -> dict[str, Metric]:
  """Measures a policy by all that it wrote, where a batch was chosen.

  The chosen groups are mixed, and say nothing of how often the policy is right.
  In double precision on the host: how much was sampled differs by step, and
  nothing is to compile anew.

  Args:
    grades: of every group that was sampled, [N, G], on the host.

  Returns:
    Those of `rollout_metrics` that tell of the policy: rewards, groups that are
    all right or all wrong, validity, lengths, and `num_tokens`, all that were
    written. Spread and `effective_tokens` remain those of the batch.
  """
  correct, valid, truncated, lengths = (np.float64(x) for x in grades)
  mean = lambda x: Fraction(float(x.sum()), float(x.size))
  passed, ended = correct.mean(axis=1), lengths[truncated <= 0]
  extremes = lambda name, x: {
      f"completions/min_{name}": Lowest(float(x.min(initial=math.inf))),
      f"completions/max_{name}": Highest(float(x.max(initial=-math.inf))),
  }
  found: dict[str, Metric] = {"reward": mean(correct)}
  for name, x in (("correct", correct), ("format_valid", valid)):
    squares = float(((x - x.mean()) ** 2).sum())
    found[f"rewards/{name}/mean"] = mean(x)
    moments = Moments(float(x.size), float(x.mean()), squares)
    found[f"rewards/{name}/std"] = moments
  return (
      found
      | extremes("length", lengths)
      | extremes("terminated_length", ended)
      | {
          "frac_groups_all_pass": mean(passed == 1),
          "frac_groups_all_fail": mean(passed == 0),
          "frac_invalid": mean(1 - valid),
          "valid_rate": mean(valid),
          "num_tokens": Total(float(lengths.sum())),
          "completions/mean_length": mean(lengths),
          "completions/mean_terminated_length": mean(ended),
          "completions/clipped_ratio": mean(truncated),
      }
  )


def _group_metrics(batch: types.RolloutBatch) -> dict[str, Metric]:
  """Says how many groups teach something, and how many tokens are in them."""
  spread = masks.nonzero_spread(batch.rewards)
  tokens = jnp.sum(batch.completion_mask > 0, axis=2, dtype=jnp.float32)
  return {
      "frac_reward_zero_std": _mean(1.0 - spread),
      "frac_groups_all_pass": _mean(masks.solved_groups(batch.correct)),
      "frac_groups_all_fail": _mean(masks.failed_groups(batch.correct)),
      "frac_invalid": _mean(1.0 - batch.format_valid),
      "valid_rate": _mean(batch.format_valid),
      "effective_tokens": Total(jnp.sum(tokens * spread)),
      "num_tokens": Total(jnp.sum(tokens)),
  }


def _length_metrics(batch: types.RolloutBatch) -> dict[str, Metric]:
  """Measures all completions, and those that ended by themselves."""
  lengths, ended = batch.lengths, batch.truncated <= 0
  everything = jnp.ones_like(ended)
  return {
      "completions/mean_length": _mean(lengths),
      "completions/min_length": _lowest(lengths, everything),
      "completions/max_length": _highest(lengths, everything),
      "completions/mean_terminated_length": _mean(lengths, ended),
      "completions/min_terminated_length": _lowest(lengths, ended),
      "completions/max_terminated_length": _highest(lengths, ended),
      "completions/clipped_ratio": _mean(batch.truncated),
  }


def mismatch_metrics(
    batch: types.RolloutBatch, trainer_logprobs: Float[Array, "P G T"]
) -> dict[str, Metric]:
  """Compares the trainer's log-probabilities with the sampler's, by token.

  Pure, to be jitted. Log-ratios are clamped to ±20; `mismatch/k3` estimates
  KL(sampler || trainer) in nats, and below 1e-3 is healthy. How far a sampler
  is behind counts as well.

  Args:
    batch: with `sampler_logprobs`.
    trainer_logprobs: of a forward pass of the trainer, before any update.
  """
  mask, live = batch.completion_mask, batch.completion_mask > 0
  to_trainer = trainer_logprobs, batch.sampler_logprobs, mask
  gap = jnp.abs(ratios.log_ratio(*to_trainer))
  ratio = ratios.token_ratio(*to_trainer)
  k3 = kl.k3(batch.sampler_logprobs, trainer_logprobs, mask)
  mean, highest = _mean(gap, live), _highest(gap, live)
  return {
      "sampling/sampling_logp_difference/mean": mean,
      "sampling/sampling_logp_difference/max": highest,
      "sampling/importance_sampling_ratio/mean": _mean(ratio, live),
      "sampling/importance_sampling_ratio/min": _lowest(ratio, live),
      "sampling/importance_sampling_ratio/max": _highest(ratio, live),
      "mismatch/k3": _mean(k3, live),
      "mismatch/abs_mean": mean,
      "mismatch/abs_max": highest,
  }


def policy_metrics(
    batch: types.RolloutBatch, *, has_reference: bool = True
) -> dict[str, Metric]:
  """Measures the policy of one update, by token: entropy, KL, ratio to old.

  Pure, to be jitted. Log-ratios are clamped to ±20, so that `kl` (k3, in nats)
  is large rather than infinite where policies part.

  Args:
    batch: with `logprobs` and `entropy` of the policy being optimised.
    has_reference: whether `ref_logprobs` mean anything; if not, `kl` is
      (0, 0) and has no value.
  """
  mask, live = batch.completion_mask, batch.completion_mask > 0
  to_old = ratios.log_ratio(batch.logprobs, batch.old_logprobs, mask)
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  return {
      "entropy": _mean(batch.entropy, live),
      "kl": _mean(divergence, live & has_reference),
      "ratio/mean_abs_log": _mean(jnp.abs(to_old), live),
  }
