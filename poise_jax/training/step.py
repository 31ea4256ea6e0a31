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

from poise_jax import sharding, types
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
Vjp = Callable[[Any, scoring.TokenScores], Any]
# Of (params, rows), and whatever is frozen: see `tuning`.
ScoreRowsFn = Callable[..., scoring.TokenScores]
ForwardFn = Callable[..., tuple[scoring.TokenScores, Vjp]]
DifferentiateFn = Callable[
    [
        types.HParams,
        types.State,
        types.RolloutBatch,
        scoring.TokenScores,
    ],
    LossOutput,
]


class Shardings(NamedTuple):
  """Where arguments and results of the parts live on a mesh.

  Attributes:
    params: of what trains.
    opt_state: of the optimizer state.
    rows: of everything that has a row for a prompt or a completion.
    frozen: of each frozen argument.
  """

  params: Any
  opt_state: Any
  rows: Any
  frozen: tuple[Any, ...] = ()


class Updated(NamedTuple):
  """What part 3 gives.

  Attributes:
    params: after the update.
    opt_state: after the update.
    grad_norm: global norm of the gradient, before clipping.
    skipped: 1.0 if the gradient was not finite; then nothing has changed.
  """

  params: Any
  opt_state: optax.OptState
  grad_norm: Float[Array, ""]
  skipped: Float[Array, ""]


BackwardFn = Callable[[Any, optax.OptState, Vjp, scoring.TokenScores], Updated]


def make_forward(
    score_tokens: ScoreRowsFn,
    micro_batches: int = 1,
    shardings: Shardings | None = None,
) -> ForwardFn:
  """Makes part 1: token scores, and the function that pulls cotangents back.

  Args:
    score_tokens: the forward pass, see `scoring.make_score_tokens`.
    micro_batches: into how many equal parts the prompts are cut.
    shardings: of arguments and scores; if None, as they come.
  """

  def whole(
      params: Any, rows: scoring.Rows, *frozen: nnx.State
  ) -> tuple[scoring.TokenScores, Vjp]:
    scores, vjp = jax.vjp(lambda p: score_tokens(p, rows, *frozen), params)
    return scores, jax.tree_util.Partial(_pull_residuals, vjp)

  def in_parts(
      params: Any, rows: scoring.Rows, *frozen: nnx.State
  ) -> tuple[scoring.TokenScores, Vjp]:
    scores = _score_in_parts(score_tokens, micro_batches, params, rows, frozen)
    pull = functools.partial(_pull_in_parts, score_tokens, micro_batches)
    return scores, jax.tree_util.Partial(pull, rows, frozen)

  where = {}
  if shardings is not None:
    where = _arguments(shardings) | {"out_shardings": (shardings.rows, None)}
  return jax.jit(whole if micro_batches == 1 else in_parts, **where)


def make_score(
    score_tokens: ScoreRowsFn,
    parts: int = 1,
    shardings: Shardings | None = None,
) -> ScoreRowsFn:
  """Makes part 1 alone, for policies that get no gradient.

  Args:
    score_tokens: the forward pass.
    parts: into how many equal parts the prompts are cut, one after the other.
    shardings: of arguments and scores; if None, as they come.
  """

  def score(
      params: Any, rows: scoring.Rows, *frozen: nnx.State
  ) -> scoring.TokenScores:
    if parts == 1:
      return score_tokens(params, rows, *frozen)
    return _score_in_parts(score_tokens, parts, params, rows, frozen)

  where = {}
  if shardings is not None:
    where = _arguments(shardings) | {"out_shardings": shardings.rows}
  return jax.jit(score, **where)


def _arguments(shardings: Shardings) -> dict[str, Any]:
  """Where (params, rows, *frozen) must be."""
  found = shardings.params, shardings.rows, *shardings.frozen
  return {"in_shardings": found}


def _score_in_parts(
    score_tokens: ScoreRowsFn,
    count: int,
    params: Any,
    rows: scoring.Rows,
    frozen: tuple[nnx.State, ...],
) -> scoring.TokenScores:
  """Forward pass of one part after the other."""
  prompts = rows.prompts.tokens.shape[0]
  parts = _cut(rows, count, prompts)
  scores = jax.lax.map(lambda part: score_tokens(params, part, *frozen), parts)
  return _join(scores, prompts)


def _pull_residuals(
    vjp: Callable[[scoring.TokenScores], tuple[Any]],
    params: Any,
    cotangents: scoring.TokenScores,
) -> Any:
  """Backward pass from what the forward pass has kept."""
  del params
  return vjp(cotangents)[0]


def _pull_in_parts(
    score_tokens: ScoreRowsFn,
    micro_batches: int,
    rows: scoring.Rows,
    frozen: tuple[nnx.State, ...],
    params: Any,
    cotangents: scoring.TokenScores,
) -> Any:
  """Forward and backward pass of one micro-batch after the other, summed."""
  prompts = rows.prompts.tokens.shape[0]

  def add(
      total: Any, part: tuple[scoring.Rows, scoring.TokenScores]
  ) -> tuple[Any, None]:
    _, vjp = jax.vjp(lambda p: score_tokens(p, part[0], *frozen), params)
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
    loss_fn: types.LossFn,
    *,
    has_reference: bool = True,
    platform: str | None = None,
) -> DifferentiateFn:
  """Makes part 2 for one loss; the same loss gives the same compiled function.

  Every row of the batch enters with its `logprobs` and `entropy` replaced by
  the policy's present ones.

  Args:
    loss_fn: of an algorithm.
    has_reference: whether `ref_logprobs` are of a reference policy; if not, no
      `kl` is measured.
    platform: of the devices to compile for, "cpu" or another; the default one
      if None.
  """
  # On a CPU it takes a third of a millisecond either way, and half as long to
  # compile without optimisation.
  on_cpu = (platform or jax.default_backend()) == "cpu"
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
        *(
            sharding.constrain(c.reshape(x.shape), "completion")
            for c, x in zip(cotangents, scores, strict=True)
        )
    )
    return LossOutput(loss, *aux, flat)

  return differentiate


def make_backward(
    optimizer: optax.GradientTransformation,
    *,
    donate_params: bool = False,
    shardings: Shardings | None = None,
) -> BackwardFn:
  """Makes part 3: pulls cotangents back to the params and updates them.

  A gradient that is not finite changes nothing and is counted: one bad batch
  does not end a long run.

  Args:
    optimizer: gets gradients before any clipping.
    donate_params: lets the update overwrite the memory of the old params; not
      possible where the residuals of part 1 refer to them. That of the
      optimizer state is always overwritten.
    shardings: of params and optimizer state, before and after the update, and
      of cotangents; if None, as they come and as the compiler likes.
  """
  donated = ("params", "opt_state") if donate_params else ("opt_state",)

  where = {}
  if shardings is not None:
    places = shardings.params, shardings.opt_state
    # Residuals are where part 1 left them.
    where = {
        "in_shardings": (*places, None, shardings.rows),
        "out_shardings": Updated(*places, None, None),
    }

  @functools.partial(jax.jit, donate_argnames=donated, **where)
  def backward(
      params: Any,
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
