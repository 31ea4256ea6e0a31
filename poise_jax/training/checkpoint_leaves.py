"""A pytree as named arrays, and back: what of it a checkpoint stores."""

from collections.abc import Mapping
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

# Leaves come from any pytree: arrays, abstract arrays and plain numbers.
Leaf = Any


def named(argument: str, tree: Any) -> dict[str, Leaf]:
  """Leaves by their path in the tree, e.g. "['params']['norm'].value".

  None and empty containers have no leaves: they belong to the structure.

  Args:
    argument: what to call the tree in messages.
    tree: any pytree.

  Raises:
    TypeError: if a leaf is no array of numbers, or is a random key.
    ValueError: if two leaves have the same name, or there are none.
  """
  leaves = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = jax.tree_util.keystr(path) or "(itself)"
    dtype = _dtype(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
      raise TypeError(
          f"`{argument}` must hold no random keys, got one at {name}: derive"
          " keys from the seed and the step"
      )
    if not jnp.issubdtype(dtype, np.number) and dtype != np.bool_:
      raise TypeError(
          f"`{argument}` must hold arrays of numbers, got {leaf!r} at {name}:"
          " put what is no array into `meta`"
      )
    if name in leaves:
      raise ValueError(f"`{argument}` has two leaves named {name}: rename one")
    leaves[name] = leaf
  if not leaves:
    raise ValueError(f"`{argument}` must hold arrays, got {tree!r}")
  return leaves


def describe(leaf: Leaf) -> str:
  """Dtype and shape, e.g. "bfloat16[2,3]"."""
  return f"{_dtype(leaf)}[{','.join(map(str, np.shape(leaf)))}]"


def is_weak(leaf: Leaf) -> bool:
  """Whether its dtype yields to others in arithmetic, as Python numbers do."""
  return bool(getattr(leaf, "weak_type", False))


def is_empty(leaf: Leaf) -> bool:
  """Whether it has no elements; then its description says all about it."""
  return math.prod(np.shape(leaf)) == 0


def storable(leaf: Leaf) -> jax.Array | NDArray:
  """The leaf as an array."""
  return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def target(leaf: Leaf) -> jax.ShapeDtypeStruct | NDArray:
  """Where a leaf like this one is to be read to: devices, or the host."""
  if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    return np.asarray(leaf)
  sharding = leaf.sharding
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def finished(
    like: Leaf, found: jax.Array | NDArray | None, *, weak: bool
) -> Leaf:
  """What was read, as the kind of leaf that `like` is.

  Args:
    like: the leaf asked for.
    found: what was read; None where there are no elements to read.
    weak: whether the leaf was weakly typed when it was saved.
  """
  if isinstance(like, jax.Array | jax.ShapeDtypeStruct):
    place = target(like)
    if found is None:
      return jax.device_put(jnp.zeros(place.shape, place.dtype), place.sharding)
    return _weakened(found) if weak else found
  array = np.asarray(like if found is None else found)
  if isinstance(like, np.ndarray):
    return array
  number = array[()]
  return number if isinstance(like, np.generic) else type(like)(number.item())


def misfits(saved: Mapping[str, str], like: Mapping[str, Leaf]) -> list[str]:
  """Says in which leaves `like` is not what was saved.

  Args:
    saved: name -> description of the leaves in a checkpoint.
    like: the leaves asked for.
  """
  found = [f"{name} was not saved" for name in like if name not in saved]
  found += [f"{name} is not asked for" for name in saved if name not in like]
  for name, leaf in like.items():
    if name not in saved:
      continue
    if (wanted := describe(leaf)) != saved[name]:
      found.append(f"{name} is {saved[name]}, not {wanted}")
    elif sharding := getattr(leaf, "sharding", None):
      try:
        sharding.shard_shape(leaf.shape)
      except ValueError as error:
        found.append(f"{name} cannot be laid out so: {error}")
  return found


def _dtype(leaf: Leaf) -> Any:
  return getattr(leaf, "dtype", None) or np.asarray(leaf).dtype


def _weakened(array: jax.Array) -> jax.Array:
  """The same array, weakly typed."""
  # Only Python numbers are born weak. Such arrays are coefficients: small.
  numbers = [jnp.asarray(x) for x in np.asarray(array).ravel().tolist()]
  weak = jnp.stack(numbers).reshape(array.shape)
  return jax.device_put(weak, array.sharding)
