"""What the verifier and the policies say of completions."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
from numpy.typing import NDArray

from poise_jax import sharding
from poise_jax.models import kv_cache
from poise_jax.rollout import generate, prompt_batches
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
  """Grades completions; rows of one problem are consecutive.

  With several processes all of them call it, and get the grades of all rows.
  """
  tokens, mask, finished = sharding.fetch(
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


class Rows(NamedTuple):
  """Prompts and N = P·G completions in their order, as the policy reads them.

  Attributes:
    prompts: prompts, padded at their left.
    tokens: completion tokens.
    mask: 1.0 on tokens of the completion.
  """

  prompts: prompt_batches.Prompts
  tokens: Int[Array, "N T"]
  mask: Float[Array, "N T"]


ScoreFn = Callable[[nnx.State, Rows], TokenScores]


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
  """How a forward pass trades memory, time and precision.

  Attributes:
    chunk: tokens of a completion for which logits exist at one time; 0 is all
      of them. With it no array of [N, T, vocabulary] is ever made, in the
      forward or the backward pass.
    compute_dtype: of weights and activations; logits, log-probabilities and
      entropies are f32 in any case.
    remat: what the backward pass computes again, of `REMAT`.
    scan: whether one block is compiled for all layers, instead of each; for
      deep policies.
  """

  chunk: int = 0
  compute_dtype: str = "float32"
  remat: str = "none"
  scan: bool = False

  def __post_init__(self):
    if self.chunk < 0:
      raise ValueError(f"`chunk` must be >= 0 tokens, got {self.chunk}")
    if self.compute_dtype not in ("float32", "bfloat16"):
      raise ValueError(
          "`compute_dtype` must be float32 or bfloat16, got"
          f" {self.compute_dtype!r}"
      )
    if self.remat not in REMAT:
      raise ValueError(
          f"`remat` must be one of {', '.join(REMAT)}, got {self.remat!r}"
      )


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
_as_it_is: Wrap = lambda function: function

# Name -> what wraps each block of the policy, and what wraps all of it.
REMAT: Mapping[str, tuple[Wrap, Wrap]] = {
    "none": (_as_it_is, _as_it_is),
    "block": (jax.checkpoint, _as_it_is),
    "full": (_as_it_is, jax.checkpoint),
}


def make_score_tokens(
    graphdef: nnx.GraphDef,
    options: ScoreOptions = ScoreOptions(),
    *,
    temperature: float = 1.0,
) -> ScoreFn:
  """Makes the forward pass of training; not jitted, for others to compose.

  A prompt is read once for all completions of its group.

  Args:
    graphdef: structure of the policy.
    options: none changes the result beyond rounding.
    temperature: logits are divided by it; that of the sampler.

  Returns:
    A function of (params, rows); the N / P completions of one prompt are
    consecutive.
  """
  wrap_block, wrap_all = REMAT[options.remat]
  dtype = jnp.dtype(options.compute_dtype)

  def hidden_states(params: nnx.State, rows: Rows) -> Float[Array, "N T D"]:
    model = nnx.merge(graphdef, params)
    prompts, starts = rows.prompts
    copies = rows.tokens.shape[0] // prompts.shape[0]
    hidden = functools.partial(
        model.hidden, wrap_block=wrap_block, scan=options.scan
    )
    prompt_states, cache = hidden(prompts, starts=starts)
    prefix = tuple(kv_cache.tile(layer, copies) for layer in cache)
    tile = lambda x: jnp.repeat(x, copies, axis=0)
    states, _ = hidden(
        rows.tokens[:, :-1],
        prefix,
        starts=None if starts is None else tile(starts),
    )
    first = tile(prompt_states[:, -1:])
    return jnp.concatenate([first, states], axis=1)

  def score_tokens(params: nnx.State, rows: Rows) -> TokenScores:
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    states = wrap_all(hidden_states)(params, rows)
    model = nnx.merge(graphdef, params)

    def logits_of(states: Float[Array, "N L D"]) -> Float[Array, "N L V"]:
      logits = model.logits(states)
      return logits if temperature == 1.0 else logits / temperature

    if not options.chunk or options.chunk >= rows.tokens.shape[1]:
      scores = _score(logits_of(states), rows.tokens)
    else:
      scores = _score_in_chunks(logits_of, states, rows.tokens, options.chunk)
    return TokenScores(*(score * rows.mask for score in scores))

  return score_tokens


def _score(
    logits: Float[Array, "N T V"], tokens: Int[Array, "N T"]
) -> TokenScores:
  """Log-probability of each token, entropy of each distribution."""
  logprobs = jax.nn.log_softmax(logits)
  # A one-hot product: its gradient is dense, where take's is a scatter.
  chosen = jnp.sum(logprobs * jax.nn.one_hot(tokens, logits.shape[-1]), axis=-1)
  entropy = -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)
  return TokenScores(chosen, entropy)


def _score_in_chunks(
    logits_of: Callable[[Array], Array],
    states: Float[Array, "N T D"],
    tokens: Int[Array, "N T"],
    chunk: int,
) -> TokenScores:
  """`_score`, `chunk` tokens at a time, with logits made again in reverse."""
  length = tokens.shape[1]
  count = -(-length // chunk)

  def cut(x: Array) -> Array:
    widths = [(0, 0), (0, count * chunk - length)] + [(0, 0)] * (x.ndim - 2)
    x = jnp.pad(x, widths)
    return jnp.moveaxis(x.reshape(x.shape[0], count, chunk, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def score_slice(part: tuple[Array, Array]) -> TokenScores:
    logits = logits_of(part[0])
    total = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, part[1][..., None], axis=-1)[..., 0]
    mean = jnp.sum(jnp.exp(logits - total[..., None]) * logits, axis=-1)
    return TokenScores(chosen - total, total - mean)

  scores = jax.lax.map(score_slice, (cut(states), cut(tokens)))
  return TokenScores(
      *(
          jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :length]
          for x in scores
      )
  )
