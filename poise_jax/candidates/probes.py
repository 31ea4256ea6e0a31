"""Small batches that reach every branch of a loss.

All have one shape, so one compilation serves them all. Nothing is random:
values follow from indices. No field holds NaN or infinity.

A loss may turn on a number: so many tokens, so stale, so far into the run. Two
that turn on different numbers are told apart only if some probe lies between
them, so lengths, ages, rewards, pass rates and moments of the run are ladders,
not a few values. And as a size of the batch is a number too, there is a second
suite of other sizes, for those that are about to be called the same.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from poise_jax import types

PROMPTS = 4
GROUP_SIZE = 8
# At least as many as a completion of the embedded task has.
TOKENS = 32
COMPONENTS = 2
# Of the second suite: sizes that nobody writes into a loss, and completions as
# long as those of real runs.
OTHER_SIZES = (3, 5, 2053, 3)
_OTHERS = "mixed off_policy truncated near_clip streams large_rewards run_0"

# Of stale completions, in updates; exponentials of them are still numbers.
_AGES = (*range(1, 17), *range(18, 33, 2), *range(36, 65, 4))
# The largest reward, likewise.
_LARGEST_REWARD = 8.0
_LAST_STEP = 20_000
_RUNS = 10

# Differences to the old log-probabilities: ratios inside the usual clip
# range, close to both of its ends, and far beyond. Not at its ends, where
# rounding decides.
_DRIFT = np.array(
    [0.0, 0.05, -0.05, np.log(1.195), np.log(0.805), 1.5, -1.5, 5.0]
)

# (correct, valid, lengths, and by name what else is special) to a batch.
_MakeFn = Callable[..., types.RolloutBatch]
_Batches = dict[str, types.RolloutBatch]


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
  beginning), `large_rewards` (up to ±8), `run_0` to `run_9` (some of all that
  is above, at ten moments of the run).

  Each has its own step, progress and pass rates.

  Args:
    prompts: P.
    group_size: G.
    tokens: T.
    components: K, at least 2.
  """
  cast = _cast(prompts, group_size, tokens)
  make = functools.partial(_batch, sizes=(tokens, components))
  batches = (
      _by_verdict(cast, make)
      | _by_policy(cast, make)
      | _by_reward(cast, make)
      | _by_confidence(cast, make)
      | {"large_rewards": _with_large_rewards(make, cast)}
      | {f"run_{i}": _rich(make, cast, i) for i in range(_RUNS)}
  )
  return _timed(batches)


def other_suite(
    fixed: Mapping[str, int] | None = None,
) -> dict[str, types.RolloutBatch]:
  """Builds batches of other sizes: what a loss does there, too.

  Args:
    fixed: sizes P, G, T, K that a loss cannot do without.
  """
  sizes = dict(zip("PGTK", OTHER_SIZES, strict=True)) | dict(fixed or {})
  whole = suite(*(sizes[axis] for axis in "PGTK"))
  return {name: whole[name] for name in _OTHERS.split()}


class _Cast(NamedTuple):
  """Who succeeds and how long completions are: numbers [P, G] to pick from.

  Attributes:
    prompt: p of each completion.
    copy: g of each.
    tokens: T, the most a completion can have.
    full: lengths, all T.
    some: lengths from 1 to T, far apart within a group.
    uneven: lengths from 0 to T, in another order.
    rank: 0 to 1, each once, likewise.
    ages: of stale completions.
    never: 0 for all.
    always: 1 for all.
    mixed: prompt 0 has one success in its group, the others more and more.
    first: 1 for the first of each group.
    halved: 1 for every other one.
  """

  prompt: np.ndarray
  copy: np.ndarray
  tokens: int
  full: np.ndarray
  some: np.ndarray
  uneven: np.ndarray
  rank: np.ndarray
  ages: np.ndarray
  never: np.ndarray
  always: np.ndarray
  mixed: np.ndarray
  first: np.ndarray
  halved: np.ndarray


def _cast(prompts: int, group_size: int, tokens: int) -> _Cast:
  p, g = np.meshgrid(np.arange(prompts), np.arange(group_size), indexing="ij")
  rank = 0.5 * (1.0 + _spread(prompts, group_size, 1)[..., 0])
  turned = np.roll(rank, prompts * group_size // 3)
  bend = 1.0 if rank.size >= tokens else 2.0  # More short ones, of few.
  ladder = np.asarray(_AGES, float)
  ages = ladder[np.linspace(0, len(ladder) - 1, rank.size).astype(int)]
  ages = ages[np.argsort(rank, axis=None)]
  return _Cast(
      prompt=p,
      copy=g,
      tokens=tokens,
      full=np.full_like(p, tokens),
      some=1 + np.rint((tokens - 1) * rank**bend).astype(int),
      uneven=np.rint(tokens * turned**bend).astype(int),
      rank=rank,
      ages=ages.reshape(p.shape),
      never=np.zeros_like(p),
      always=np.ones_like(p),
      mixed=(g * prompts <= p * group_size).astype(int),
      first=(g == 0).astype(int),
      halved=g % 2,
  )


def _by_verdict(c: _Cast, make: _MakeFn) -> _Batches:
  """Batches that differ in who succeeds, who is cut off, and in lengths."""
  index = _pattern(*c.prompt.shape, c.tokens, modulus=len(_DRIFT))
  drift, kept = _DRIFT[index], 1 - c.halved
  return {
      "mixed": make(c.mixed, c.always, c.some),
      "off_policy": make(c.mixed, c.always, c.full, drift=drift, ages=c.ages),
      "all_fail": make(c.never, c.always, c.some),
      "all_pass": make(c.always, c.always, c.some),
      "all_invalid": make(c.never, c.never, c.some),
      "one_valid": make(c.first, c.first, c.some),
      "truncated": make(c.mixed * kept, kept, c.full, truncated=c.halved),
      "padded": make(
          c.mixed, c.always, c.uneven, drift=drift, ages=np.flip(c.ages)
      ),
      "all_masked": make(c.never, c.never, c.never),
      "some_invalid": make(c.mixed * kept, kept, c.some),
  }


def _by_policy(c: _Cast, make: _MakeFn) -> _Batches:
  """Batches whose other policies are away from the one being optimised."""
  base = make(c.mixed, c.always, c.some)
  whole = make(c.mixed, c.always, c.full)
  far = _spread(*c.prompt.shape, c.tokens)
  drifted = 0.4 * far * np.linspace(0.0, 1.0, c.tokens)
  return {
      "near_clip": _moved(
          whole, np.roll(c.ages, 3), old_logprobs=-np.log(2.0) * far
      ),
      "far_reference": _moved(base, 0.0, ref_logprobs=6.0 * far),
      "mismatch": _moved(base, 0.0, sampler_logprobs=np.log(8.0) * far),
      "stale": _moved(
          base, c.ages, old_logprobs=drifted, sampler_logprobs=1.3 * drifted
      ),
  }


def _by_reward(c: _Cast, make: _MakeFn) -> _Batches:
  """Batches whose rewards are more, or rarer, than right and wrong."""
  base = make(c.mixed, c.always, c.some)
  graded = 0.5 + 0.02 * ((3 * c.prompt + c.copy) % 5)
  brief, kept = 1.0 - c.some / c.tokens, 1 - c.halved
  return {
      "small_spread": dataclasses.replace(base, rewards=_f32(graded)),
      "streams": _with_streams(make(c.mixed * kept, kept, c.some), brief),
      "failed_streams": _with_streams(make(c.never, kept, c.some), brief),
      "solved_streams": _with_streams(make(c.always, c.always, c.some), brief),
      "lone_success": make(c.first * (c.prompt == 0), c.always, c.some),
  }


def _by_confidence(c: _Cast, make: _MakeFn) -> _Batches:
  """Batches of a policy that is sure, as at the end of a run, or is not."""
  base = make(c.mixed, c.always, c.some)
  return {
      "sure": _at(base, scale=0.02, step=900, progress=0.99),
      "surer": _at(base, scale=0.01, step=950, progress=0.995),
      "unsure": _at(base, scale=4.0, step=0, progress=0.0),
  }


def _with_large_rewards(make: _MakeFn, c: _Cast) -> types.RolloutBatch:
  """Rewards up to ±8, positive where the answer is right."""
  size = _LARGEST_REWARD * (0.05 + 0.95 * c.rank)
  return dataclasses.replace(
      make(c.mixed, c.always, np.flip(c.some)),
      rewards=_f32(np.where(c.mixed > 0, size, -size)),
  )


def _rich(make: _MakeFn, c: _Cast, turn: int) -> types.RolloutBatch:
  """Something of everything, in which completions take turns."""
  index = _pattern(*c.prompt.shape, c.tokens, modulus=len(_DRIFT))
  roll = lambda values: np.roll(values, 7 * turn)
  kept = 1 - roll(c.rank < 0.15)
  lengths = roll(c.some)
  batch = make(
      c.mixed * kept,
      kept,
      lengths,
      truncated=1.0 * (lengths == c.tokens),
      drift=_DRIFT[(index + turn) % len(_DRIFT)],
      ages=roll(c.ages),
  )
  return _with_streams(batch, 1.0 - lengths / c.tokens)


def _timed(batches: _Batches) -> _Batches:
  """Gives each batch its own moment of the run, and pass rates of prompts.

  Batches that are alike are early and late ones, in progress and in steps.
  """
  count = len(batches)
  places = np.arange(count)
  # Multiples of the golden and the bronze mean: spread however cut off.
  early = np.argsort(np.argsort(places * 0.6180339887 % 1.0))
  other = np.argsort(np.argsort(places * 0.3027756377 % 1.0))
  timed: _Batches = {}
  for place, (name, batch) in enumerate(batches.items()):
    rates = np.linspace(0.0, 1.0, batch.rewards.shape[0])
    # To and fro between 0 and 1.
    rates = np.abs((rates + 1.0 + 0.6180339887 * place) % 2.0 - 1.0)
    fields = {"history_pass_rate": _f32(rates)}
    if name not in ("sure", "surer", "unsure"):
      fields["progress"] = _f32((early[place] + 0.5) / count)
      step = max(other[place], _LAST_STEP ** (other[place] / (count - 1)) - 1)
      fields["step"] = jnp.asarray(round(step), jnp.int32)
    timed[name] = dataclasses.replace(batch, **fields)
  return timed


def _batch(
    correct: np.ndarray,
    valid: np.ndarray,
    lengths: np.ndarray,
    *,
    truncated: np.ndarray | float = 0.0,
    drift: np.ndarray | float = 0.0,
    ages: np.ndarray | float = 0.0,
    sizes: tuple[int, int],
) -> types.RolloutBatch:
  """Fills in the fields that follow from what is special.

  Args:
    correct: 0 or 1, [P, G], like the next two.
    valid: whether an answer can be parsed.
    lengths: in tokens.
    truncated: whether the limit came first; [P, G] or for all.
    drift: log-probabilities less the old ones; [P, G, T] or for all.
    ages: updates since the completion was sampled; [P, G] or for all.
    sizes: T and K.
  """
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
      truncated=_f32(np.broadcast_to(truncated, correct.shape)),
      lengths=_f32(lengths),
      staleness=_f32(np.broadcast_to(ages, correct.shape)),
      reward_components=_f32(streams),
      history_pass_rate=_f32(np.linspace(0.0, 1.0, prompts)),
      step=jnp.asarray(3, jnp.int32),
      progress=_f32(0.25),
  )


def _moved(
    batch: types.RolloutBatch, ages: np.ndarray | float, **away: np.ndarray
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
  ages = np.broadcast_to(ages, batch.rewards.shape)
  return dataclasses.replace(batch, staleness=_f32(ages), **fields)


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
