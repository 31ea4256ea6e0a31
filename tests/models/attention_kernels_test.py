"""XLA's attention against the plain one, and who is given to cuDNN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import attention, attention_kernels


def _inputs(length, keys, heads=4, kv_heads=2, dim=8):
  rng = np.random.default_rng(0)
  draw = lambda h, s: jnp.asarray(rng.normal(size=(2, h, s, dim)), "f4")
  return draw(heads, length), draw(kv_heads, keys), draw(kv_heads, keys)


def _lower_triangle(length, keys):
  offset = keys - length
  return jnp.tril(jnp.ones((length, keys), bool), k=offset), offset


@pytest.mark.parametrize("length, keys", [(6, 6), (4, 6), (1, 5)])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_xla_equals_the_plain_one(length, keys, kv_heads):
  inputs = _inputs(length, keys, kv_heads=kv_heads)
  mask, offset = _lower_triangle(length, keys)
  np.testing.assert_allclose(
      attention_kernels.attend_xla(*inputs, mask, offset),
      attention.attend(*inputs, mask),
      atol=1e-6,
  )


def test_xla_takes_a_mask_a_row():
  inputs = _inputs(4, 6)
  mask, _ = _lower_triangle(4, 6)
  rows = mask & (jnp.arange(6) >= jnp.array([0, 2])[:, None])[:, None]
  found = attention_kernels.attend_xla(*inputs, rows)
  np.testing.assert_allclose(found, attention.attend(*inputs, rows), atol=1e-6)
  # Not the mask of the other row.
  assert not np.allclose(found[1], attention.attend(*inputs, mask)[1])


def test_gradients_agree():
  inputs = _inputs(4, 6)
  mask, offset = _lower_triangle(4, 6)
  weights = jax.random.normal(jax.random.key(0), inputs[0].shape)

  def gradients(attend):
    loss = lambda *qkv: jnp.sum(attend(*qkv, mask, offset) * weights)
    return jax.grad(loss, (0, 1, 2))(*inputs)

  for one, other in zip(
      gradients(attention_kernels.attend_xla),
      gradients(attention.attend),
      strict=True,
  ):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "dtype, length, keys, dim, fits",
    [
        (jnp.bfloat16, 64, 64, 128, True),
        (jnp.float16, 64, 96, 64, True),
        (jnp.float32, 64, 64, 128, False),
        (jnp.bfloat16, 63, 64, 128, True),
        (jnp.bfloat16, 64, 63, 128, True),
        (jnp.bfloat16, 64, 64, 256, False),
        (jnp.bfloat16, 64, 64, 20, False),
        (jnp.bfloat16, 1, 64, 128, False),
    ],
)
def test_what_cudnn_is_given(dtype, length, keys, dim, fits):
  queries = jax.ShapeDtypeStruct((2, 4, length, dim), dtype)
  others = jax.ShapeDtypeStruct((2, 2, keys, dim), dtype)
  assert attention_kernels.fits_cudnn(queries, others) == fits


def test_the_gpu_takes_f32_by_xla():
  inputs = _inputs(4, 4)
  mask, offset = _lower_triangle(4, 4)
  np.testing.assert_allclose(
      attention_kernels.attend_gpu(*inputs, mask, offset),
      attention.attend(*inputs, mask),
      atol=1e-6,
  )


@pytest.mark.parametrize("length, keys", [(5, 5), (5, 8), (4, 7)])
@pytest.mark.parametrize("rows", [False, True])
def test_odd_lengths_are_made_even(length, keys, rows):
  inputs = _inputs(length, keys)
  mask, offset = _lower_triangle(length, keys)
  if rows:
    late = jnp.arange(keys) >= jnp.array([0, 2])[:, None]
    own = jnp.arange(keys) == offset + jnp.arange(length)[:, None]
    mask, offset = (mask & late[:, None]) | own, None
  calls = []

  def picky(queries, keys, values, mask, causal):
    calls.append(causal)
    assert queries.shape[2] % 2 == keys.shape[2] % 2 == 0
    assert mask.shape[-2:] == (queries.shape[2], keys.shape[2])
    assert mask.any(axis=-1).all()
    assert np.asarray(mask).any(axis=-1).all()
    if causal is not None:
      where = causal + np.arange(mask.shape[0])
      np.testing.assert_array_equal(
          mask, np.arange(mask.shape[1]) <= where[:, None]
      )
    return attention.attend(queries, keys, values, mask)

  found = attention_kernels.at_even_lengths(picky)(*inputs, mask, offset)
  np.testing.assert_allclose(found, attention.attend(*inputs, mask), atol=1e-6)
  assert calls == [offset]
  weights = jnp.asarray(np.random.default_rng(1).normal(size=found.shape), "f4")

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(attend, *inputs):
    total = lambda *x: jnp.sum(weights * attend(*x, mask, offset))
    return jax.grad(total, (0, 1, 2))(*inputs)

  even = attention_kernels.at_even_lengths(attention.attend)
  for a, b in zip(
      gradients(even, *inputs),
      gradients(attention.attend, *inputs),
      strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_rule_that_added_keys_would_break_is_not_passed_on():
  inputs = _inputs(5, 5)
  mask = jnp.arange(5) <= 2 + jnp.arange(5)[:, None]
  seen = lambda *given: calls.append(given[4]) or attention.attend(*given)
  calls = []
  found = attention_kernels.at_even_lengths(seen)(*inputs, mask, 2)
  assert calls == [None]
  np.testing.assert_allclose(found, attention.attend(*inputs, mask), atol=1e-6)


def test_the_gpu_gives_odd_lengths_to_cudnn(monkeypatch):
  inputs = [x.astype(jnp.bfloat16) for x in _inputs(5, 5)]
  mask, offset = _lower_triangle(5, 5)
  calls = []

  def watch(queries, keys, values, **settings):
    calls.append((queries.shape[1], settings))
    return queries

  monkeypatch.setattr(jax.nn, "dot_product_attention", watch)
  attention_kernels.attend_gpu(*inputs, mask, offset)
  ((length, settings),) = calls
  assert length == 6 and settings["implementation"] == "cudnn"
  # Whole rows stay whole rows: no mask to read.
  assert settings["is_causal"] and settings["mask"] is None


@pytest.mark.parametrize("length, keys", [(7, 9), (8, 8)])
@pytest.mark.parametrize("rows", [False, True])
def test_blocks_of_queries_change_nothing(length, keys, rows):
  inputs = _inputs(length, keys)
  mask, offset = _lower_triangle(length, keys)
  if rows:
    own = jnp.arange(keys) == offset + jnp.arange(length)[:, None]
    late = jnp.arange(keys) >= jnp.array([0, 3])[:, None]
    mask = (mask & late[:, None]) | own
  blocks = attention_kernels.in_query_blocks(attention.attend, 3)
  weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, length, 8)))
  total = lambda attend: lambda *x: jnp.sum(weights * attend(*x, mask))
  np.testing.assert_allclose(
      blocks(*inputs, mask), attention.attend(*inputs, mask), atol=1e-6
  )
  found, expected = (
      jax.grad(total(attend), (0, 1, 2))(*inputs)
      for attend in (blocks, attention.attend)
  )
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_platform_has_its_function():
  inputs = _inputs(4, 6)
  mask, offset = _lower_triangle(4, 6)
  expected = attention.attend(*inputs, mask)
  np.testing.assert_array_equal(
      attention_kernels.for_platform("cpu")(*inputs, mask, offset), expected
  )
  assert attention_kernels.for_platform("gpu") is attention_kernels.attend_gpu
  np.testing.assert_allclose(
      attention_kernels.for_platform("tpu")(*inputs, mask, offset),
      expected,
      atol=1e-6,
  )
