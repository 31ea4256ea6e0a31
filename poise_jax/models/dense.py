"""A linear layer that multiplies plain matrices."""

from flax import nnx
from jaxtyping import Array, Float


class Dense(nnx.Linear):
  """`nnx.Linear` on the flattened leading axes.

  The product of [B·S, N] with [N, M] is that of [B, S, N], but on CPU its
  gradient takes 0.6 times as long.
  """

  def __call__(self, x: Float[Array, "*B N"]) -> Float[Array, "*B M"]:
    """Maps the last axis."""
    y = super().__call__(x.reshape(-1, x.shape[-1]))
    return y.reshape(*x.shape[:-1], -1)
