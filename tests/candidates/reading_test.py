"""Operations of jax arrive in the graph as what they mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.candidates import normal_form, reading

_X = jax.ShapeDtypeStruct((3, 5), np.float32)


def _digests(*functions):
  """The digest of each function of two arrays, the first of them live."""
  graph = normal_form.Graph(blind=False)
  found = []
  for function in functions:
    closed = jax.make_jaxpr(function)(_X, _X)
    x = (graph.leaf("x", (3, 5)), graph.leaf("x'", (3, 5)))
    y = (graph.leaf("y", (3, 5)),) * 2
    ((live, _),) = reading.Reader(graph).read(closed, [x, y])
    found.append(graph.digest(live))
  return found


_SAME = {
    "clip": (
        lambda x, y: jnp.clip(x, -1.0, 2.0),
        lambda x, y: jax.lax.clamp(-1.0, x, 2.0),
        lambda x, y: jnp.minimum(2.0, jnp.maximum(-1.0, x)),
    ),
    "root": (
        lambda x, y: y / jnp.sqrt(x),
        lambda x, y: jax.lax.rsqrt(x) * y,
        lambda x, y: y / x**0.5,
    ),
    "square": (
        lambda x, y: jnp.square(x),
        lambda x, y: x * x,
        lambda x, y: x**2,
        lambda x, y: jax.lax.integer_pow(x, 2),
    ),
    "mean": (
        lambda x, y: x - x.mean(axis=1, keepdims=True),
        lambda x, y: x - (x.sum(1) / 5)[:, None],
    ),
    "least": (
        lambda x, y: x.min(axis=0),
        lambda x, y: -(-x).max(axis=0),
    ),
    "test": (
        lambda x, y: jnp.where(x > y, x, 0.0),
        lambda x, y: jnp.where(y < x, x, 0.0),
        lambda x, y: jnp.where(~(y < x), 0.0, x),
    ),
    "cast": (
        lambda x, y: (y > 0).astype(jnp.float32) * x,
        lambda x, y: jnp.where(y > 0, 1.0, 0.0) * x,
    ),
    "sum of all": (
        lambda x, y: jnp.sum(x * y),
        lambda x, y: jnp.sum(jnp.ravel(y * x)),
        lambda x, y: (x * y).sum(axis=1).sum(),
    ),
    "jit": (
        lambda x, y: x + 2.0 * y,
        lambda x, y: jax.jit(lambda a, b: b + a)(2.0 * y, x),
    ),
    "gradient stopped early or late": (
        lambda x, y: jax.lax.stop_gradient(jnp.exp(x) * y),
        lambda x, y: y * jnp.exp(jax.lax.stop_gradient(x)),
    ),
    "gradient stopped where there is none": (
        lambda x, y: x * jnp.exp(y),
        lambda x, y: x * jax.lax.stop_gradient(jnp.exp(y)),
    ),
}

_DIFFERENT = {
    "gradient stopped": (
        lambda x, y: x - y,
        lambda x, y: jax.lax.stop_gradient(x) - y,
        lambda x, y: x - jax.lax.stop_gradient(x),
    ),
    "axis": (lambda x, y: x.sum(axis=0), lambda x, y: x.sum(axis=1)),
    "extreme": (lambda x, y: x.max(), lambda x, y: x.min()),
    "order": (lambda x, y: x / y, lambda x, y: y / x),
    "strict": (
        lambda x, y: jnp.where(x > y, x, y),
        lambda x, y: jnp.where(x >= y, x, y),
    ),
    "running": (
        lambda x, y: jnp.cumsum(x, axis=0),
        lambda x, y: jnp.cumsum(x, axis=1),
    ),
    "branch": (
        lambda x, y: jax.lax.cond(y[0, 0] > 0, jnp.sin, jnp.cos, x),
        lambda x, y: jax.lax.cond(y[0, 0] > 0, jnp.cos, jnp.sin, x),
    ),
}


@pytest.mark.parametrize("name", _SAME)
def test_ways_to_write_the_same(name):
  assert len(set(_digests(*_SAME[name]))) == 1


@pytest.mark.parametrize("name", _DIFFERENT)
def test_what_is_different_stays_different(name):
  assert len(set(_digests(*_DIFFERENT[name]))) == len(_DIFFERENT[name])


def test_no_addresses_in_what_is_read():
  one = _digests(lambda x, y: jax.nn.relu(x) + jnp.sort(y))
  assert one == _digests(lambda x, y: jnp.sort(y) + jax.nn.relu(x))
