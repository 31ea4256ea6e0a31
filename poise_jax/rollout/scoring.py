"""What the verifier and the policies say of completions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
from numpy.typing import NDArray

from poise_jax.models import kv_cache
from poise_jax.rollout import generate
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic


class Grades(NamedTuple):
  """Verdicts on completions, [P, G] each, 1.0 for yes."""

  correct: NDArray[np.float32]
  format_valid: NDArray[np.float32]
  truncated: NDArray[np.float32]
  lengths: NDArray[np.float32]


def grade_groups(
    tokenizer: tokenizer_lib.Tokenizer,
    problems: Sequence[arithmetic.Problem],
    completions: generate.Completions,
) -> Grades:
  """Grades completions; rows of one problem are consecutive."""
  tokens, mask, finished = jax.device_get(
      (completions.tokens, completions.mask, completions.finished)
  )
  lengths = mask.sum(axis=1).astype(np.int32)
  texts = tokenizer.decode(tokens, lengths)
  copies = len(texts) // len(problems)
  grades = [
      arithmetic.grade(text, problems[i // copies].answer, finished=bool(end))
      for i, (text, end) in enumerate(zip(texts, finished, strict=True))
  ]
  shape = (len(problems), copies)
  as_group = lambda values: np.array(values, np.float32).reshape(shape)
  return Grades(
      correct=as_group([g.correct for g in grades]),
      format_valid=as_group([g.format_valid for g in grades]),
      truncated=as_group(1 - finished),
      lengths=as_group(lengths),
  )


class TokenScores(NamedTuple):
  """Differentiable outputs of the policy on completions.

  Attributes:
    logprobs: log π(token | tokens before it), in nats, 0 where masked.
    entropy: -Σ_v π(v) log π(v), in nats, 0 where masked.
  """

  logprobs: Float[Array, "N T"]
  entropy: Float[Array, "N T"]


ScoreFn = Callable[
    [nnx.State, Int[Array, "P S"], Int[Array, "N T"], Float[Array, "N T"]],
    TokenScores,
]


def make_score_tokens(graphdef: nnx.GraphDef) -> ScoreFn:
  """Makes the forward pass of training; not jitted, for others to compose.

  A prompt is read once for all completions of its group.

  Returns:
    A function of (params, prompts, completion tokens, mask); the N / P
    completions of one prompt are consecutive rows.
  """

  def score_tokens(
      params: nnx.State,
      prompts: Int[Array, "P S"],
      tokens: Int[Array, "N T"],
      mask: Float[Array, "N T"],
  ) -> TokenScores:
    model = nnx.merge(graphdef, params)
    copies = tokens.shape[0] // prompts.shape[0]
    prompt_states, cache = model.hidden(prompts)
    prefix = tuple(kv_cache.tile(layer, copies) for layer in cache)
    states, _ = model.hidden(tokens[:, :-1], prefix)
    first = jnp.repeat(prompt_states[:, -1:], copies, axis=0)
    logits = model.logits(jnp.concatenate([first, states], axis=1))
    logprobs = jax.nn.log_softmax(logits)
    # A one-hot product: its gradient is dense, where take's is a scatter.
    chosen = jnp.sum(
        logprobs * jax.nn.one_hot(tokens, logits.shape[-1]), axis=-1
    )
    entropy = -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)
    return TokenScores(chosen * mask, entropy * mask)

  return score_tokens
