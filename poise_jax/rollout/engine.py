"""Where completions come from: this process, or an engine outside.

An engine takes weights and gives a function that samples with them. Ours is
`local`; one that serves a policy elsewhere (vLLM, say) sends the weights there,
or a path to `checkpoints.save`d ones, and its function asks for completions. It
needs no more than this protocol, and no place in this package.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from flax import nnx
import jax
from jaxtyping import Array, Key

from poise_jax.rollout import generate, prompt_batches


class Sampled(NamedTuple):
  """Completions and the weights they are from.

  Attributes:
    completions: G of each prompt in a row.
    version: of the weights that wrote them; older than the newest ones where an
      engine runs ahead of the trainer, which then counts them as stale.
  """

  completions: generate.Completions
  version: int


SampleFn = Callable[[prompt_batches.Prompts, Key[Array, ""]], Sampled]


@runtime_checkable
class RolloutEngine(Protocol):
  """Weights in, a function that samples with them out.

  The function lives as long as the rollout of one step: what it holds in memory
  is free again for the update. It must give log-probabilities as
  `generate.Completions` has them: at the temperature of sampling, before any
  filter.
  """

  def __call__(self, params: nnx.State, version: int) -> SampleFn:
    """Takes weights.

    Args:
      params: of the policy, as the trainer holds them.
      version: optimizer updates that made them.
    """


def local(
    generate_fn: generate.GenerateFn,
    prepare: Callable[[nnx.State], nnx.State] = lambda params: params,
) -> RolloutEngine:
  """Samples in this process, on the devices of the trainer.

  Args:
    generate_fn: from `generate.make_generate`.
    prepare: puts the params into the type and place for decoding, once for all
      prompts of a step.
  """

  def take(params: nnx.State, version: int) -> SampleFn:
    prepared = prepare(params)
    return lambda prompts, key: Sampled(
        generate_fn(prepared, prompts, key), version
    )

  return take


def make_prepare(
    compute_dtype: str, shardings: nnx.State | None = None
) -> Callable[[nnx.State], nnx.State]:
  """Makes the copy of the params that is sampled with.

  Args:
    compute_dtype: of the copy.
    shardings: where it lies; if None, where the params lie. Weights that are
      split by `fsdp` would be collected again for every token.
  """
  cast = lambda params: jax.tree.map(lambda p: p.astype(compute_dtype), params)
  return jax.jit(cast, out_shardings=shardings)
