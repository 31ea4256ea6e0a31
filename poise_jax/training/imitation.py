"""Supervised warm start: maximum likelihood of demonstrated completions."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic

Params = nnx.State


class Demonstrations(NamedTuple):
  """One batch of demonstrated rows.

  Attributes:
    tokens: prompt and completion, padded at the end.
    mask: 1.0 on tokens of the completion, its end-of-text included.
  """

  tokens: Int[Array, "B S"]
  mask: Float[Array, "B S"]


def encode(
    tokenizer: tokenizer_lib.Tokenizer,
    problems: Sequence[arithmetic.Problem],
    completions: Sequence[str],
) -> Demonstrations:
  """Lays prompts and their completions out as padded rows."""
  start = arithmetic.PROMPT_LENGTH
  shape = (len(problems), start + arithmetic.COMPLETION_LENGTH)
  tokens = np.full(shape, tokenizer.pad_id, np.int32)
  mask = np.zeros(shape, np.float32)
  tokens[:, :start] = tokenizer.encode_prompts([p.prompt for p in problems])
  for i, completion in enumerate(completions):
    ids = tokenizer.encode_completion(completion)
    tokens[i, start : start + len(ids)] = ids
    mask[i, start : start + len(ids)] = 1
  return Demonstrations(jnp.asarray(tokens), jnp.asarray(mask))


def negative_log_likelihood(
    graphdef: nnx.GraphDef, params: Params, batch: Demonstrations
) -> Float[Array, ""]:
  """Mean over completion tokens of -log π(token | tokens before it), in nats."""
  logits = nnx.merge(graphdef, params)(batch.tokens[:, :-1])
  losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch.tokens[:, 1:]
  )
  mask = batch.mask[:, 1:]
  return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1)


def exact_match(
    graphdef: nnx.GraphDef, params: Params, batch: Demonstrations
) -> Float[Array, ""]:
  """Share of rows that greedy decoding would write, given their first token.

  The first token, which chooses the style, is not counted.
  """
  logits = nnx.merge(graphdef, params)(batch.tokens[:, :-1])
  after_first = jnp.cumsum(batch.mask, axis=1) * batch.mask > 1
  agrees = jnp.argmax(logits, axis=-1) == batch.tokens[:, 1:]
  return jnp.mean(jnp.all(agrees | ~after_first[:, 1:], axis=1))


def imitate(
    graphdef: nnx.GraphDef,
    params: Params,
    optimizer: optax.GradientTransformation,
    batches: Iterable[Demonstrations],
    *,
    stop: Callable[[int, Params, float], bool],
) -> Params:
  """Fits `params` to batch after batch until `stop` says so, or none is left.

  Args:
    graphdef: structure of the policy.
    params: where to start.
    optimizer: gradient transformation.
    batches: demonstrations, one batch a step.
    stop: given the number of steps done, the params and the last loss.

  Returns:
    The fitted params.
  """

  @jax.jit
  def step(
      params: Params, opt_state: optax.OptState, batch: Demonstrations
  ) -> tuple[Params, optax.OptState, Float[Array, ""]]:
    loss, grads = jax.value_and_grad(negative_log_likelihood, argnums=1)(
        graphdef, params, batch
    )
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  opt_state = optimizer.init(params)
  for i, batch in enumerate(batches):
    params, opt_state, loss = step(params, opt_state, batch)
    if stop(i + 1, params, float(loss)):
      break
  return params
