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
    # On its ends the derivative of the second is 0, of the first 1/2; where
    # three are equal, the third shares otherwise.
    "shares of a tie": (
        lambda x, y: jnp.clip(x, -1.0, 2.0),
        lambda x, y: jax.lax.clamp(-1.0, x, 2.0),
        lambda x, y: jnp.clip(jnp.maximum(x, -1.0), -1.0, 2.0),
    ),
    "shapes of constants": (
        lambda x, y: x.at[:, :2].set(0.0),
        lambda x, y: x.at[:, :3].set(0.0),
    ),
    "parts that are constant": (
        lambda x, y: jnp.concatenate([jnp.ones((1, 5)), jnp.zeros((2, 5)), x]),
        lambda x, y: jnp.concatenate([jnp.ones((2, 5)), jnp.zeros((1, 5)), x]),
    ),
    "beside infinity": (
        lambda x, y: jnp.where(y == 0, -jnp.inf, x),
        lambda x, y: jnp.where(y == 0, -jnp.inf, x / 5),
        lambda x, y: jnp.where(y == 0, x, -jnp.inf),
        lambda x, y: jnp.where(y == 0, x / 5, -jnp.inf),
        lambda x, y: jnp.maximum(x, -jnp.inf),
        lambda x, y: jnp.maximum(x / 5, -jnp.inf),
        lambda x, y: jnp.inf * y + x,
        lambda x, y: jnp.inf * y + x / 5,
    ),
    "seventh digit": (
        lambda x, y: x,
        lambda x, y: 0.9999999 * x,
        lambda x, y: 1.0000001 * x,
        lambda x, y: x + 1e-7,
        lambda x, y: x + 1.0000001e-7,
    ),
    "casts of constants": (
        lambda x, y: x * jnp.asarray(0.1).astype(jnp.float16),
        lambda x, y: x * 0.1,
        lambda x, y: x * jnp.asarray(2.7).astype(jnp.int32),
        lambda x, y: x * 2.7,
    ),
    "bits": (
        lambda x, y: x * (jnp.int32(2) & jnp.int32(1)),
        lambda x, y: x,
    ),
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


def test_sizes_are_no_numbers():
  (size,) = jax.export.symbolic_shape("N")
  graph = normal_form.Graph(blind=False)

  def digest(function):
    spec = jax.ShapeDtypeStruct((size, 5), np.float32)
    x = (graph.leaf("x", ("N", 5)),) * 2
    closed = jax.make_jaxpr(function)(spec)
    ((live, _),) = reading.Reader(graph).read(closed, [x])
    return graph.digest(live)

  mean = digest(lambda x: x.mean(axis=0))
  assert digest(lambda x: x.sum(axis=0) / x.shape[0]) == mean
  assert digest(lambda x: x.sum(axis=0) / jnp.ones_like(x).sum(0)) == mean
  assert digest(lambda x: x.sum(axis=0) / 7.0) != mean
  # N - 1 and 5 N are put together as other numbers are.
  less = digest(lambda x: x.sum() / (x.shape[0] - 1))
  assert digest(lambda x: x.sum() / (x.shape[0] - 2)) != less != mean
  assert digest(lambda x: 5.0 * x.mean()) == digest(
      lambda x: x.sum() / x.shape[0]
  )
  halves = [digest(lambda x, n=n: x.sum() / (x.shape[0] // n)) for n in (2, 3)]
  assert len({less, mean, *halves}) == 4


def test_a_mark_says_nothing_of_the_machine():
  marks = set()

  class Program:  # What jax says of a function with a derivative rule.

    class jaxpr:

      class debug_info:
        func_src_info = "relu at /some/where/functions.py:71"

  marks.add(reading._mark(Program))
  Program.jaxpr.debug_info.func_src_info = "relu at /else/functions.py:90"
  marks.add(reading._mark(Program))
  assert marks == {"relu"}
  graph = normal_form.Graph(blind=False)
  closed = jax.make_jaxpr(lambda x, y: jax.nn.relu(x) * y)(_X, _X)
  leaves = [(graph.leaf(n, (3, 5)),) * 2 for n in "xy"]
  reading.Reader(graph).read(closed, leaves)
  assert "relu" in {n.detail for n in graph.nodes if n.op == "custom"}
