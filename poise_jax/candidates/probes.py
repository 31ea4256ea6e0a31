"""Small batches that reach every branch of a loss.

All have one shape, so one compilation serves them all. Nothing is random:
values follow from indices. No field holds NaN or infinity.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from poise_jax import types

PROMPTS = 4
GROUP_SIZE = 8
TOKENS = 12
COMPONENTS = 2

# Differences to the old log-probabilities: ratios inside the usual clip
# range, at both of its ends, and far beyond.
_DRIFT = np.array([0.0, 0.05, -0.05, np.log(1.2), np.log(0.8), 1.5, -1.5, 5.0])


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
  `all_masked`.

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
  return {name: build() for name, build in builders.items()}


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


def _pattern(p: int, g: int, t: int, *, modulus: int) -> np.ndarray:
  """Integers in [0, modulus) that differ between neighbours on every axis."""
  a, b, c = np.meshgrid(np.arange(p), np.arange(g), np.arange(t), indexing="ij")
  return (7 * a + 5 * b + 3 * c) % modulus


def _f32(values: np.ndarray | float) -> jnp.ndarray:
  return jnp.asarray(values, jnp.float32)
