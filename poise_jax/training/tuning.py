"""What of a policy trains, and what is frozen: all of it, or adapters beside it.

With adapters (LoRA) gradients and optimizer have the size of the adapters, and
the base policy, frozen, is the reference policy too. It is merged with the
adapters inside each program of the trainer: no merged copy outlives one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from poise_jax import sharding
from poise_jax.models import families, logical_axes, lora
from poise_jax.rollout import scoring
from poise_jax.training import step


class Tuning(NamedTuple):
  """How params of a base policy become what trains, and that a policy.

  Attributes:
    trained: shapes of what trains.
    shardings: of what trains.
    frozen: shardings of each frozen part.
    begin: params of the base policy, in place, to what trains; a copy.
    keep: params of the base policy, in place, to what is frozen; no copy.
    merge: (what trains, *what is frozen) to params of the policy; pure.
  """

  trained: Any
  shardings: Any
  frozen: tuple[Any, ...]
  begin: Callable[[nnx.State], Any]
  keep: Callable[[nnx.State], tuple[nnx.State, ...]]
  merge: Callable[..., nnx.State]


def make(
    model: families.TransformerConfig,
    params: nnx.State,
    options: lora.LoraOptions | None,
    mesh: jax.sharding.Mesh,
) -> Tuning:
  """Trains every weight, or adapters.

  Args:
    model: shape of the policy.
    params: of the policy, or their shapes.
    options: of the adapters; None trains every weight.
    mesh: where all of it lives.
  """
  of_params = logical_axes.parameter_shardings(mesh, params)
  if options is None:
    return Tuning(
        trained=params,
        shardings=of_params,
        frozen=(),
        begin=lambda params: jax.tree.map(jnp.copy, params),
        keep=lambda params: (),
        merge=lambda params: params,
    )
  init = lambda: lora.init(model, options, jax.random.key(options.seed))
  adapters = lora.shapes(model, options)
  of_adapters = logical_axes.parameter_shardings(mesh, adapters)
  return Tuning(
      trained=adapters,
      shardings=of_adapters,
      frozen=(of_params,),
      begin=lambda params: sharding.place(mesh, init(), of_adapters),
      keep=lambda params: (params,),
      merge=lambda adapters, base: lora.merge(base, adapters, options),
  )


def make_score(tuning: Tuning, score: scoring.ScoreFn) -> step.ScoreRowsFn:
  """The forward pass as a function of (what trains, rows, *what is frozen)."""

  def score_tuned(
      trained: Any, rows: scoring.Rows, *frozen: nnx.State
  ) -> scoring.TokenScores:
    return score(tuning.merge(trained, *frozen), rows)

  return score_tuned


def make_policy(tuning: Tuning, of_params: Any) -> Callable[..., nnx.State]:
  """Params of the policy, as a function of (what trains, *what is frozen).

  Args:
    tuning: what trains.
    of_params: shardings of the params.
  """
  if not tuning.frozen:
    return tuning.merge
  return jax.jit(
      tuning.merge,
      in_shardings=(tuning.shardings, *tuning.frozen),
      out_shardings=of_params,
  )


def in_place(tree: Any, shardings: Any) -> Any:
  """Shapes that know where they are to live.

  Args:
    tree: of arrays or shapes.
    shardings: as many, in the same order.
  """
  leaves, structure = jax.tree.flatten(tree)
  wanted = zip(leaves, jax.tree.leaves(shardings), strict=True)
  return jax.tree.unflatten(
      structure,
      [
          jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
          for leaf, where in wanted
      ],
  )
