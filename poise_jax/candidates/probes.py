"""Small batches that reach every branch of a loss.

All have one shape, so one compilation serves them all. Nothing is random:
values follow from indices. No field holds NaN or infinity.
"""

from collections.abc import Callable
import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from poise_jax import types

PROMPTS = 4
GROUP_SIZE = 8
TOKENS = 12
COMPONENTS = 2

# Differences to the old log-probabilities: ratios inside the usual clip
# range, close to both of its ends, and far beyond. Not at its ends, where
# rounding decides.
_DRIFT = np.array(
    [0.0, 0.05, -0.05, np.log(1.195), np.log(0.805), 1.5, -1.5, 5.0]
)


def suite(
    prompts: int = PROMPTS,
    group_size: int = GROUP_SIZE,
    tokens: int = TOKENS,
    components: int = COMPONENTS,
) -> dict[str, types.RolloutBatch]:
  """Builds the batches, by name.

  Names say what is special: `mixed` (on-policy, some succeed), `off_policy`
  (ratios around and beyond the clip), `all_fail`, `all_pass`, `all_invalid`,
  `one_valid`, `truncated`, `padded` (all lengths, one completion empty),
  `all_masked`, `some_invalid`, `near_clip` (a ladder of ratios from 1/2 to 2),
  `far_reference` (log-ratios to the reference of up to ±6), `mismatch` (the
  sampler off by up to a factor of 8), `stale` (nine updates old, the drift
  grows along the completion), `small_spread` (graded rewards, deviations below
  0.1), `streams` (rewards that are a sum of components, some negative),
  `failed_streams` and `solved_streams` (the same where nobody, everybody is
  correct), `lone_success` (one in the whole batch), `sure` and `surer`
  (hardly any entropy twice, the end of the run), `unsure` (a lot, the
  beginning).

  Args:
    prompts: P.
    group_size: G.
    tokens: T.
    components: K, at least 2.
  """
  p, g = np.meshgrid(np.arange(prompts), np.arange(group_size), indexing="ij")
  full = np.full_like(p, tokens)
  some = 1 + (3 * p + 2 * g) % tokens
  never, always = np.zeros_like(p), np.ones_like(p)
  # Prompt 0 has one success in its group, the others more and more.
  mixed = (g * prompts <= p * group_size).astype(int)
  first = (g == 0).astype(int)
  halved = g % 2

  def make(
      correct: np.ndarray,
      valid: np.ndarray,
      lengths: np.ndarray,
      cut: np.ndarray = never,
      drift: np.ndarray | float = 0.0,
  ) -> types.RolloutBatch:
    return _batch(
        correct, valid, lengths, cut, drift=drift, sizes=(tokens, components)
    )

  index = _pattern(prompts, group_size, tokens, modulus=len(_DRIFT))
  builders: dict[str, Callable[[], types.RolloutBatch]] = {
      "mixed": lambda: make(mixed, always, some),
      "off_policy": lambda: make(mixed, always, full, drift=_DRIFT[index]),
      "all_fail": lambda: make(never, always, some),
      "all_pass": lambda: make(always, always, some),
      "all_invalid": lambda: make(never, never, some),
      "one_valid": lambda: make(first, first, some),
      "truncated": lambda: make(
          mixed * (1 - halved), 1 - halved, full, cut=halved
      ),
      "padded": lambda: make(
          mixed, always, (5 * p + g) % (tokens + 1), drift=_DRIFT[index]
      ),
      "all_masked": lambda: make(never, never, never),
  }
  batches = {name: build() for name, build in builders.items()}
  far = _spread(prompts, group_size, tokens)
  base = make(mixed, always, some)
  whole = make(mixed, always, full)
  graded = 0.5 + 0.02 * ((3 * p + g) % 5)
  brief = 1.0 - some / tokens
  drifted = 0.4 * far * np.linspace(0.0, 1.0, tokens)
  return batches | {
      "some_invalid": make(mixed * (1 - halved), 1 - halved, some),
      "near_clip": _moved(whole, 1.0, old_logprobs=-np.log(2.0) * far),
      "far_reference": _moved(base, 0.0, ref_logprobs=6.0 * far),
      "mismatch": _moved(base, 0.0, sampler_logprobs=np.log(8.0) * far),
      "stale": _moved(
          base, 9.0, old_logprobs=drifted, sampler_logprobs=1.3 * drifted
      ),
      "small_spread": dataclasses.replace(
          base, rewards=_f32(graded), progress=_f32(0.5)
      ),
      "streams": _with_streams(
          make(mixed * (1 - halved), 1 - halved, some), brief
      ),
      "failed_streams": _with_streams(make(never, 1 - halved, some), brief),
      "solved_streams": _with_streams(make(always, always, some), brief),
      "lone_success": make(first * (p == 0), always, some),
      "sure": _at(base, scale=0.02, step=900, progress=0.99),
      "surer": _at(base, scale=0.01, step=950, progress=0.995),
      "unsure": _at(base, scale=4.0, step=0, progress=0.0),
  }


def _batch(
    correct: np.ndarray,
    valid: np.ndarray,
    lengths: np.ndarray,
    truncated: np.ndarray,
    *,
    drift: np.ndarray | float,
    sizes: tuple[int, int],
) -> types.RolloutBatch:
  """Fills in the fields that follow from what is special."""
  tokens, components = sizes
  prompts, group_size = correct.shape
  mask = np.arange(tokens) < lengths[..., None]
  pattern = _pattern(prompts, group_size, tokens, modulus=11) / 11.0
  logprobs = -0.2 - 2.0 * pattern
  old = logprobs - drift
  streams = np.zeros((prompts, group_size, components))
  streams[..., 0], streams[..., 1] = correct, valid
  return types.RolloutBatch(
      logprobs=_f32(logprobs * mask),
      entropy=_f32((0.1 + pattern) * mask),
      old_logprobs=_f32(old * mask),
      sampler_logprobs=_f32((old + 0.01 * pattern) * mask),
      ref_logprobs=_f32((logprobs + 0.3 * pattern - 0.1) * mask),
      completion_mask=_f32(mask),
      rewards=_f32(correct),
      correct=_f32(correct),
      format_valid=_f32(valid),
      truncated=_f32(truncated),
      lengths=_f32(lengths),
      staleness=_f32(np.full_like(correct, 0 if np.all(drift == 0.0) else 2)),
      reward_components=_f32(streams),
      history_pass_rate=_f32(np.linspace(0.0, 1.0, prompts)),
      step=jnp.asarray(3, jnp.int32),
      progress=_f32(0.25),
  )


def _moved(
    batch: types.RolloutBatch, staleness: float, **away: np.ndarray
) -> types.RolloutBatch:
  """Sets log-probabilities so far away from those of the policy."""
  mask = np.asarray(batch.completion_mask)
  logprobs = np.asarray(batch.logprobs)
  # Nothing is more likely than certain.
  fields = {
      name: _f32(np.minimum(logprobs + shift, 0.0) * mask)
      for name, shift in away.items()
  }
  if "old_logprobs" in away and "sampler_logprobs" not in away:
    fields["sampler_logprobs"] = fields["old_logprobs"]
  age = np.full(batch.rewards.shape, staleness)
  return dataclasses.replace(batch, staleness=_f32(age), **fields)


def _with_streams(
    batch: types.RolloutBatch, brief: np.ndarray
) -> types.RolloutBatch:
  """Rewards correctness, format and brevity, and punishes a bad format."""
  streams = np.array(batch.reward_components)
  if streams.shape[2] > 2:
    streams[..., 2] = brief
  valid = np.asarray(batch.format_valid)
  rewards = np.asarray(batch.correct) + 0.2 * brief - 0.5 * (1.0 - valid)
  return dataclasses.replace(
      batch, rewards=_f32(rewards), reward_components=_f32(streams)
  )


def _at(
    batch: types.RolloutBatch, *, scale: float, step: int, progress: float
) -> types.RolloutBatch:
  """Scales how unsure the policy is, at another point of the run."""
  logprobs = np.asarray(batch.logprobs)
  apart = {
      name: _f32(
          scale * logprobs + (np.asarray(getattr(batch, name)) - logprobs)
      )
      for name in ("old_logprobs", "sampler_logprobs", "ref_logprobs")
  }
  return dataclasses.replace(
      batch,
      logprobs=_f32(scale * logprobs),
      entropy=_f32(scale * np.asarray(batch.entropy)),
      step=jnp.asarray(step, jnp.int32),
      progress=_f32(progress),
      **apart,
  )


def _spread(p: int, g: int, t: int) -> np.ndarray:
  """Numbers from -1 to 1, evenly spaced, each once, neighbours far apart."""
  count = p * g * t
  stride = next(
      s
      for s in range(int(0.38 * count) + 1, 2 * count + 2)
      if math.gcd(s, count) == 1
  )
  order = stride * np.arange(count) % count
  return (2.0 * order / max(count - 1, 1) - 1.0).reshape(p, g, t)


def _pattern(p: int, g: int, t: int, *, modulus: int) -> np.ndarray:
  """Integers in [0, modulus) that differ between neighbours on every axis."""
  a, b, c = np.meshgrid(np.arange(p), np.arange(g), np.arange(t), indexing="ij")
  return (7 * a + 5 * b + 3 * c) % modulus


def _f32(values: np.ndarray | float) -> jnp.ndarray:
  return jnp.asarray(values, jnp.float32)
