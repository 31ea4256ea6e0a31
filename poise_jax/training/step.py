"""One optimizer update, in three parts.

  1. forward    params -> logprobs, entropy        compiled once for a policy
  2. candidate  dloss/dlogprobs, dloss/dentropy    compiled once for a loss
  3. backward   cotangents -> gradients -> update  compiled once for a policy

The loss sees the whole optimizer batch and never touches the policy, so a new
candidate recompiles part 2 alone. Residuals of part 1 are handed to part 3, so
there is no second forward pass.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from poise_jax import types
from poise_jax.rollout import scoring


class Tokens(NamedTuple):
  """One optimizer batch: P prompts and N = P·G completions in their order."""

  prompts: Int[Array, "P S"]
  tokens: Int[Array, "N T"]
  mask: Float[Array, "N T"]


class LossOutput(NamedTuple):
  """What part 2 gives.

  Attributes:
    loss: scalar.
    state: next algorithm state.
    metrics: scalars of the algorithm and of the policy.
    cotangents: dloss/dlogprobs and dloss/dentropy, [N, T] each.
  """

  loss: Float[Array, ""]
  state: dict[str, Any]
  metrics: dict[str, Any]
  cotangents: scoring.TokenScores


Vjp = Callable[[scoring.TokenScores], tuple[nnx.State]]
ForwardFn = Callable[[nnx.State, Tokens], tuple[scoring.TokenScores, Vjp]]
DifferentiateFn = Callable[
    [
        types.HParams,
        types.State,
        types.RolloutBatch,
        scoring.TokenScores,
    ],
    LossOutput,
]
BackwardFn = Callable[
    [nnx.State, optax.OptState, Vjp, scoring.TokenScores],
    tuple[nnx.State, optax.OptState, Float[Array, ""]],
]


def make_forward(graphdef: nnx.GraphDef) -> ForwardFn:
  """Makes part 1: token scores, and the function that pulls cotangents back."""
  score_tokens = scoring.make_score_tokens(graphdef)

  @jax.jit
  def forward(
      params: nnx.State, rows: Tokens
  ) -> tuple[scoring.TokenScores, Vjp]:
    return jax.vjp(lambda p: score_tokens(p, *rows), params)

  return forward


def _policy_metrics(batch: types.RolloutBatch) -> types.Metrics:
  """Entropy, KL to the reference (k3) and ratio to the old policy, by token."""
  mask, count = batch.completion_mask, jnp.sum(batch.completion_mask)
  mean = lambda x: jnp.sum(x * mask) / jnp.maximum(count, 1)
  to_ref = (batch.ref_logprobs - batch.logprobs) * mask
  to_old = (batch.logprobs - batch.old_logprobs) * mask
  return {
      "entropy": mean(batch.entropy),
      "kl": mean(jnp.expm1(to_ref) - to_ref),
      "ratio/mean_abs_log": mean(jnp.abs(to_old)),
  }


@functools.lru_cache(maxsize=256)
def make_differentiate(loss_fn: types.LossFn) -> DifferentiateFn:
  """Makes part 2 for one loss; the same loss gives the same compiled function.

  Every row of the batch enters with its `logprobs` and `entropy` replaced by
  the policy's present ones.
  """
  # On a CPU it takes a third of a millisecond either way, and half as long to
  # compile without optimisation.
  on_cpu = jax.default_backend() == "cpu"
  options = {"xla_backend_optimization_level": 0} if on_cpu else None

  @functools.partial(jax.jit, compiler_options=options)
  def differentiate(
      hparams: types.HParams,
      state: types.State,
      batch: types.RolloutBatch,
      scores: scoring.TokenScores,
  ) -> LossOutput:
    shape = batch.completion_mask.shape
    present = scoring.TokenScores(*(x.reshape(shape) for x in scores))

    def loss_of(
        present: scoring.TokenScores,
    ) -> tuple[Float[Array, ""], tuple[types.State, types.Metrics]]:
      full = dataclasses.replace(
          batch, logprobs=present.logprobs, entropy=present.entropy
      )
      loss, next_state, metrics = loss_fn(hparams, state, full)
      return loss, (next_state, metrics | _policy_metrics(full))

    (loss, (next_state, metrics)), cotangents = jax.value_and_grad(
        loss_of, has_aux=True
    )(present)
    flat = scoring.TokenScores(
        *(c.reshape(x.shape) for c, x in zip(cotangents, scores, strict=True))
    )
    return LossOutput(loss, next_state, metrics, flat)

  return differentiate


def make_backward(optimizer: optax.GradientTransformation) -> BackwardFn:
  """Makes part 3: pulls cotangents back to the params and updates them.

  Returns:
    A function giving (params, optimizer state, global gradient norm).
  """

  @jax.jit
  def backward(
      params: nnx.State,
      opt_state: optax.OptState,
      vjp: Vjp,
      cotangents: scoring.TokenScores,
  ) -> tuple[nnx.State, optax.OptState, Float[Array, ""]]:
    (grads,) = vjp(cotangents)
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, norm

  return backward
