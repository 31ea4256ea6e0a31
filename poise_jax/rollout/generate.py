"""Completions of a batch of prompts: prefill once, then decode with a cache."""

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from poise_jax.models import kv_cache, transformer
from poise_jax.rollout import sampling


class Completions(NamedTuple):
  """What a policy wrote after each prompt.

  Attributes:
    tokens: completion tokens, `pad_id` after the end.
    logprobs: of each token under the policy at temperature 1, 0 after the end.
    mask: 1.0 on tokens of the completion, end-of-text included.
    finished: whether end-of-text came within the limit.
  """

  tokens: Int[Array, "N T"]
  logprobs: Float[Array, "N T"]
  mask: Float[Array, "N T"]
  finished: Float[Array, "N"]


GenerateFn = Callable[
    [nnx.State, Int[Array, "P S"], Key[Array, ""]], Completions
]


class _Decoding(NamedTuple):
  """Loop state of `make_generate`; `logits` are those of the next token."""

  step: Int[Array, ""]
  logits: Float[Array, "N V"]
  cache: transformer.Cache
  tokens: Int[Array, "T N"]
  logprobs: Float[Array, "T N"]
  mask: Float[Array, "T N"]
  alive: Float[Array, "N"]


def make_generate(
    graphdef: nnx.GraphDef,
    sampler: sampling.Sampler,
    *,
    copies: int,
    max_length: int,
    eos_id: int,
    pad_id: int,
) -> GenerateFn:
  """Compiles a generator of `copies` completions for each prompt.

  A prompt is read once and its cache is tiled. All rows advance together and
  the loop ends as soon as every row has ended. A row's completion depends on
  the key and on its number (prompt · copies + copy) alone.

  Args:
    graphdef: structure of the policy.
    sampler: how to choose a token.
    copies: completions of each prompt.
    max_length: most tokens of a completion.
    eos_id: token that ends a completion.
    pad_id: token that fills the rest.

  Returns:
    A jitted function of (params, prompts, key).
  """

  def start(
      model: transformer.Transformer, prompts: Int[Array, "P S"]
  ) -> _Decoding:
    hidden, cache = model.hidden(prompts)
    logits = model.logits(hidden[:, -1])
    rows = prompts.shape[0] * copies
    return _Decoding(
        step=jnp.int32(0),
        logits=jnp.repeat(logits, copies, axis=0),
        cache=tuple(
            kv_cache.extend(kv_cache.tile(layer, copies), max_length)
            for layer in cache
        ),
        tokens=jnp.full((max_length, rows), pad_id, jnp.int32),
        logprobs=jnp.zeros((max_length, rows)),
        mask=jnp.zeros((max_length, rows)),
        alive=jnp.ones(rows),
    )

  @jax.jit
  def generate(
      params: nnx.State, prompts: Int[Array, "P S"], key: Key[Array, ""]
  ) -> Completions:
    model = nnx.merge(graphdef, params)
    prompt_length = prompts.shape[1]
    rows = jnp.arange(prompts.shape[0] * copies)
    uniforms = sampling.row_uniforms(key, rows, max_length).T

    def unfinished(state: _Decoding) -> Array:
      return (state.step < max_length) & jnp.any(state.alive > 0)

    def advance(state: _Decoding) -> _Decoding:
      chosen = sampler(state.logits, uniforms[state.step])
      chosen = jnp.where(state.alive > 0, chosen, pad_id).astype(jnp.int32)
      logprobs = jax.nn.log_softmax(state.logits)
      chosen_logprobs = jnp.take_along_axis(logprobs, chosen[:, None], 1)[:, 0]
      logits, cache = model.decode(
          chosen, prompt_length + state.step, state.cache
      )
      return _Decoding(
          step=state.step + 1,
          logits=logits,
          cache=cache,
          tokens=state.tokens.at[state.step].set(chosen),
          logprobs=state.logprobs.at[state.step].set(
              jnp.where(state.alive > 0, chosen_logprobs, 0.0)
          ),
          mask=state.mask.at[state.step].set(state.alive),
          alive=state.alive * (chosen != eos_id),
      )

    end = jax.lax.while_loop(unfinished, advance, start(model, prompts))
    return Completions(
        end.tokens.T, end.logprobs.T, end.mask.T, 1.0 - end.alive
    )

  return generate
