"""Array types with shapes in annotations: `Float[Array, "P G T"]`.

jaxtyping's where it is installed. Where it is not, annotations mean "an
array", so that `poise_jax.algorithms` works beside jax alone.
"""

import jax

try:
  from jaxtyping import Array, Bool, Float, Int
except ImportError:
  Array = jax.Array

  class Float:
    """Stands in for jaxtyping.Float."""

    def __class_getitem__(cls, item: object) -> type:
      return jax.Array

  class Int(Float):
    """Stands in for jaxtyping.Int."""

  class Bool(Float):
    """Stands in for jaxtyping.Bool."""


__all__ = ["Array", "Bool", "Float", "Int"]
