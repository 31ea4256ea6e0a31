"""One optimizer update, in three parts.

  1. forward    params -> logprobs, entropy        compiled once for a policy
  2. candidate  dloss/dlogprobs, dloss/dentropy    compiled once for a loss
  3. backward   cotangents -> gradients -> update  compiled once for a policy

The loss sees the whole optimizer batch and never touches the policy, so a new
candidate recompiles part 2 alone, and no loss can depend on how parts 1 and 3
are cut into micro-batches. With one micro-batch the residuals of part 1 are
handed to part 3 and there is no second forward pass; with more, part 3 runs
each micro-batch forward again, and memory is that of one.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import optax

from poise_jax import types
from poise_jax.rollout import scoring
from poise_jax.training import metrics as metrics_lib


class LossOutput(NamedTuple):
  """What part 2 gives.

  Attributes:
    loss: scalar.
    state: next algorithm state.
    metrics: scalars of the algorithm.
    policy: entropy, KL and ratio of the policy, see `metrics.policy_metrics`.
    cotangents: dloss/dlogprobs and dloss/dentropy, [N, T] each.
  """

  loss: Float[Array, ""]
  state: dict[str, Any]
  metrics: dict[str, Any]
  policy: dict[str, metrics_lib.Metric]
  cotangents: scoring.TokenScores


# Params and cotangents to the gradient of the params.
Vjp = Callable[[nnx.State, scoring.TokenScores], nnx.State]
ScoreRowsFn = Callable[[nnx.State, scoring.Rows], scoring.TokenScores]
ForwardFn = Callable[[nnx.State, scoring.Rows], tuple[scoring.TokenScores, Vjp]]
DifferentiateFn = Callable[
    [
        types.HParams,
        types.State,
        types.RolloutBatch,
        scoring.TokenScores,
    ],
    LossOutput,
]


class Updated(NamedTuple):
  """What part 3 gives.

  Attributes:
    params: after the update.
    opt_state: after the update.
    grad_norm: global norm of the gradient, before clipping.
    skipped: 1.0 if the gradient was not finite; then nothing has changed.
  """

  params: nnx.State
  opt_state: optax.OptState
  grad_norm: Float[Array, ""]
  skipped: Float[Array, ""]


BackwardFn = Callable[
    [nnx.State, optax.OptState, Vjp, scoring.TokenScores], Updated
]


def make_forward(
    score_tokens: scoring.ScoreFn, micro_batches: int = 1
) -> ForwardFn:
  """Makes part 1: token scores, and the function that pulls cotangents back.

  Args:
    score_tokens: the forward pass, see `scoring.make_score_tokens`.
    micro_batches: into how many equal parts the prompts are cut.
  """

  def whole(
      params: nnx.State, rows: scoring.Rows
  ) -> tuple[scoring.TokenScores, Vjp]:
    scores, vjp = jax.vjp(lambda p: score_tokens(p, rows), params)
    return scores, jax.tree_util.Partial(_pull_residuals, vjp)

  def in_parts(
      params: nnx.State, rows: scoring.Rows
  ) -> tuple[scoring.TokenScores, Vjp]:
    scores = _score_in_parts(score_tokens, micro_batches, params, rows)
    pull = functools.partial(_pull_in_parts, score_tokens, micro_batches)
    return scores, jax.tree_util.Partial(pull, rows)

  return jax.jit(whole if micro_batches == 1 else in_parts)


def make_score(score_tokens: scoring.ScoreFn, parts: int = 1) -> ScoreRowsFn:
  """Makes part 1 alone, for policies that get no gradient.

  Args:
    score_tokens: the forward pass.
    parts: into how many equal parts the prompts are cut, one after the other.
  """

  def score(params: nnx.State, rows: scoring.Rows) -> scoring.TokenScores:
    if parts == 1:
      return score_tokens(params, rows)
    return _score_in_parts(score_tokens, parts, params, rows)

  return jax.jit(score)


def _score_in_parts(
    score_tokens: scoring.ScoreFn,
    count: int,
    params: nnx.State,
    rows: scoring.Rows,
) -> scoring.TokenScores:
  """Forward pass of one part after the other."""
  prompts = rows.prompts.tokens.shape[0]
  parts = _cut(rows, count, prompts)
  scores = jax.lax.map(lambda part: score_tokens(params, part), parts)
  return _join(scores, prompts)


def _pull_residuals(
    vjp: Callable[[scoring.TokenScores], tuple[nnx.State]],
    params: nnx.State,
    cotangents: scoring.TokenScores,
) -> nnx.State:
  """Backward pass from what the forward pass has kept."""
  del params
  return vjp(cotangents)[0]


def _pull_in_parts(
    score_tokens: scoring.ScoreFn,
    micro_batches: int,
    rows: scoring.Rows,
    params: nnx.State,
    cotangents: scoring.TokenScores,
) -> nnx.State:
  """Forward and backward pass of one micro-batch after the other, summed."""
  prompts = rows.prompts.tokens.shape[0]

  def add(
      total: nnx.State, part: tuple[scoring.Rows, scoring.TokenScores]
  ) -> tuple[nnx.State, None]:
    _, vjp = jax.vjp(lambda p: score_tokens(p, part[0]), params)
    return jax.tree.map(jnp.add, total, vjp(part[1])[0]), None

  parts = _cut((rows, cotangents), micro_batches, prompts)
  zeros = jax.tree.map(jnp.zeros_like, params)
  return jax.lax.scan(add, zeros, parts)[0]


def _cut(tree: Any, count: int, prompts: int) -> Any:
  """Deals prompts, with their completions, to `count` micro-batches in turn.

  In turn, and not in blocks, so that prompts that are sharded over devices
  stay where they are.
  """

  def cut(x: jax.Array) -> jax.Array:
    copies = x.shape[0] // prompts
    x = x.reshape(prompts // count, count, copies, *x.shape[1:])
    return jnp.moveaxis(x, 1, 0).reshape(count, -1, *x.shape[3:])

  return jax.tree.map(cut, tree)


def _join(tree: Any, prompts: int) -> Any:
  """Undoes `_cut`."""

  def join(x: jax.Array) -> jax.Array:
    count, rows = x.shape[:2]
    x = x.reshape(count, prompts // count, -1, *x.shape[2:])
    return jnp.moveaxis(x, 0, 1).reshape(count * rows, *x.shape[3:])

  return jax.tree.map(join, tree)


@functools.lru_cache(maxsize=256)
def make_differentiate(
    loss_fn: types.LossFn, *, has_reference: bool = True
) -> DifferentiateFn:
  """Makes part 2 for one loss; the same loss gives the same compiled function.

  Every row of the batch enters with its `logprobs` and `entropy` replaced by
  the policy's present ones.

  Args:
    loss_fn: of an algorithm.
    has_reference: whether `ref_logprobs` are of a reference policy; if not, no
      `kl` is measured.
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
    ) -> tuple[Float[Array, ""], tuple[types.State, Any, Any]]:
      full = dataclasses.replace(
          batch, logprobs=present.logprobs, entropy=present.entropy
      )
      loss, next_state, metrics = loss_fn(hparams, state, full)
      policy = metrics_lib.policy_metrics(full, has_reference=has_reference)
      return loss, (next_state, metrics, policy)

    (loss, aux), cotangents = jax.value_and_grad(loss_of, has_aux=True)(present)
    flat = scoring.TokenScores(
        *(c.reshape(x.shape) for c, x in zip(cotangents, scores, strict=True))
    )
    return LossOutput(loss, *aux, flat)

  return differentiate


def make_backward(
    optimizer: optax.GradientTransformation,
    *,
    donate_params: bool = False,
    shardings: tuple[Any, Any] = (None, None),
) -> BackwardFn:
  """Makes part 3: pulls cotangents back to the params and updates them.

  A gradient that is not finite changes nothing and is counted: one bad batch
  does not end a long run.

  Args:
    optimizer: gets gradients before any clipping.
    donate_params: lets the update overwrite the memory of the old params; not
      possible where the residuals of part 1 refer to them. That of the
      optimizer state is always overwritten.
    shardings: of params and optimizer state after the update; as the compiler
      likes if None.
  """
  donated = ("params", "opt_state") if donate_params else ("opt_state",)

  @functools.partial(
      jax.jit,
      donate_argnames=donated,
      out_shardings=Updated(*shardings, None, None),
  )
  def backward(
      params: nnx.State,
      opt_state: optax.OptState,
      vjp: Vjp,
      cotangents: scoring.TokenScores,
  ) -> Updated:
    grads = vjp(params, cotangents)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm)
    updates, next_state = optimizer.update(grads, opt_state, params)
    updated = optax.apply_updates(params, updates)
    keep = lambda new, old: jnp.where(finite, new, old)
    return Updated(
        jax.tree.map(keep, updated, params),
        jax.tree.map(keep, next_state, opt_state),
        norm,
        1.0 - finite.astype(norm.dtype),
    )

  return backward
