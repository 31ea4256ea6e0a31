"""The losses of the catalogue against plain GRPO, on one batch."""

from collections.abc import Callable, Mapping
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.benchmarks import timing

REFERENCE = "grpo"


def make_batch(
    prompts: int, group_size: int, tokens: int, seed: int = 0
) -> types.RolloutBatch:
  """Makes a batch of uneven lengths, a little off-policy, half correct."""
  rng = np.random.default_rng(seed)
  shape = (prompts, group_size, tokens)
  lengths = rng.integers(1, tokens + 1, shape[:2])
  mask = np.arange(tokens) < lengths[..., None]
  old = -rng.exponential(0.5, shape)
  correct = rng.uniform(size=shape[:2]) < rng.uniform(size=(prompts, 1))
  valid = correct | (rng.uniform(size=shape[:2]) < 0.9)
  drift = rng.normal(0.0, 0.1, shape)

  def f32(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)

  return types.RolloutBatch(
      logprobs=f32((old + drift) * mask),
      entropy=f32(rng.uniform(0.0, 2.0, shape) * mask),
      old_logprobs=f32(old * mask),
      sampler_logprobs=f32((old + 0.1 * drift) * mask),
      ref_logprobs=f32((old - drift) * mask),
      completion_mask=f32(mask),
      rewards=f32(correct),
      correct=f32(correct),
      format_valid=f32(valid),
      truncated=f32(lengths == tokens),
      lengths=f32(lengths),
      staleness=jnp.zeros(shape[:2]),
      reward_components=f32(np.stack([correct, valid], axis=-1)),
      history_pass_rate=f32(rng.uniform(size=prompts)),
      step=jnp.asarray(1, jnp.int32),
      progress=jnp.asarray(0.1, jnp.float32),
  )


def compile_loss(
    algorithm: types.Algorithm, batch: types.RolloutBatch
) -> Callable[[], Any]:
  """Compiles value, gradients, next state and metrics on one batch."""
  state = algorithm.init(algorithm.hparams)

  def objective(
      tokens: Mapping[str, jax.Array],
      hparams: types.HParams,
      state: types.State,
      fields: Mapping[str, jax.Array],
  ) -> tuple[jax.Array, Any]:
    moved = types.RolloutBatch(**(fields | tokens))
    loss, *rest = algorithm.loss(hparams, state, moved)
    return loss, rest

  step = jax.jit(jax.value_and_grad(objective, has_aux=True))
  tokens = {"logprobs": batch.logprobs, "entropy": batch.entropy}
  arguments = jax.device_put((tokens, algorithm.hparams, state, vars(batch)))
  compiled = step.lower(*arguments).compile()
  return lambda: jax.block_until_ready(compiled(*arguments))


def run(
    match: str, prompts: int, group_size: int, tokens: int, rounds: int
) -> dict[str, Any]:
  """Times the members whose names match, and the reference beside them.

  Raises:
    ValueError: if `match` is no regular expression, or matches none.
  """
  try:
    names = [n for n in catalog.names() if re.search(match, n)]
  except re.error as error:
    raise ValueError(
        f"--match={match} is not a regular expression: {error}"
    ) from error
  if not names:
    known = ", ".join(catalog.names())
    raise ValueError(f"--match={match} matches none of: {known}")
  batch = make_batch(prompts, group_size, tokens)
  work = {
      name: compile_loss(catalog.make(name), batch)
      for name in dict.fromkeys([REFERENCE, *names])
  }
  return {
      "sizes": [prompts, group_size, tokens],
      "losses": timing.summarise(timing.measure(work, rounds), REFERENCE),
  }


def table(figures: Mapping[str, Any]) -> str:
  """Writes the figures as Markdown, slowest first."""
  rows = ["| loss | ms | x grpo (quartiles) |", "|---|---|---|"]
  found = figures["losses"].items()
  for name, row in sorted(found, key=lambda x: -x[1]["ratio"]):
    spread = f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
    rows.append(
        f"| {name} | {row['milliseconds']:.2f} | {row['ratio']:.2f} ({spread}) |"
    )
  return "\n".join(rows)
