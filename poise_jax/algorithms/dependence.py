"""Whether a loss depends on a field of the batch."""

import jax
import numpy as np

from poise_jax import types
from poise_jax.algorithms import examples


def depends_on(
    algorithm: types.Algorithm,
    field: str,
    group_size: int = examples.GROUP_SIZE,
) -> bool:
  """Tells whether value or gradient change where a token field does.

  Args:
    algorithm: any, of the catalogue or loaded from an artifact.
    field: of `types.RolloutBatch`, one number a token.
    group_size: that the algorithm accepts.

  Returns:
    True if they change at all on an off-policy example in which `field` is
    moved by up to 0.8 nats, up and down, on every token.

  Raises:
    ValueError: if `field` is not one of a number a token.
  """
  if field not in examples.TOKEN_FIELDS:
    raise ValueError(
        f"`field` must be one of {', '.join(examples.TOKEN_FIELDS)}, got"
        f" {field!r}"
    )
  fields = examples.off_policy(group_size)
  noise = np.random.default_rng(0).uniform(-0.8, 0.8, fields[field].shape)
  moved = fields[field] + (noise * fields["completion_mask"])
  state = algorithm.init(algorithm.hparams)

  @jax.jit
  def run(
      logprobs: jax.Array, entropy: jax.Array, rest: dict[str, jax.Array]
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    def loss(logprobs: jax.Array, entropy: jax.Array) -> jax.Array:
      batch = types.RolloutBatch(logprobs=logprobs, entropy=entropy, **rest)
      return algorithm.loss(algorithm.hparams, state, batch)[0]

    return jax.value_and_grad(loss, (0, 1))(logprobs, entropy)

  def measured(fields: examples.Fields) -> list[np.ndarray]:
    fields = dict(fields)
    first = run(fields.pop("logprobs"), fields.pop("entropy"), fields)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(first)]

  pairs = zip(
      measured(fields),
      measured(fields | {field: moved.astype(np.float32)}),
      strict=True,
  )
  return any(not np.array_equal(a, b, equal_nan=True) for a, b in pairs)
