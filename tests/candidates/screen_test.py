"""Modules that a loss may be, and modules that it may not be."""

import jax
from jax import export
import jax.numpy as jnp
import pytest

from poise_jax.candidates import findings, screen


def _module(function, *shape):
  size = shape or export.symbolic_shape("n, m")
  spec = jax.ShapeDtypeStruct(tuple(size), jnp.float32)
  return export.export(jax.jit(function))(spec).mlir_module()


def _scan(x):
  return jax.lax.scan(lambda c, row: (c + row.sum(), c), jnp.zeros(()), x)


def _nested(steps):
  def body(_, c):
    return jax.lax.fori_loop(0, steps, lambda _, d: d * 1.1 + jnp.sin(d), c)

  return lambda x: jax.lax.fori_loop(0, steps, body, x)


@pytest.mark.parametrize(
    "function",
    [
        _scan,
        jax.grad(lambda x: _scan(x)[0]),
        _nested(20),
        lambda x: jax.lax.fori_loop(3, 50, lambda i, c: c + i, x),
        lambda x: jnp.cumsum(jnp.sort(x, axis=1), axis=0),
        lambda x: jax.lax.erf(jnp.arcsin(x)),
        lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
        lambda x: jnp.einsum("nm,nm->n", x, jax.nn.softmax(x)),
    ],
    ids=range(8),
)
def test_array_programs_pass(function):
  screen.check(_module(function))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda x: jax.lax.while_loop(
                lambda c: c.sum() < 9, lambda c: c * 2, x
            ),
            "number of steps",
        ),
        (
            lambda x: jax.lax.fori_loop(
                0, x.sum().astype(int), lambda _, c: c * 2, x
            ),
            "number of steps",
        ),
        (
            lambda x: jax.lax.while_loop(
                lambda c: c[0] < 5, lambda c: (c[0] * 1, c[1]), (0, x)
            ),
            "number of steps",
        ),
        (
            lambda x: jax.lax.while_loop(
                lambda c: c[0] < 5, lambda c: (c[0] - 1, c[1]), (0, x)
            ),
            "number of steps",
        ),
        (
            lambda x: jax.lax.fori_loop(0, 10**9, lambda _, c: c * 2, x),
            "more than 4096 steps",
        ),
        (_nested(1000), "too long"),
        (lambda x: x + jnp.zeros((2048, 2048)).sum(), "elements"),
        (lambda x: jnp.linalg.cholesky(x @ x.T), "library call"),
        (lambda x: jnp.fft.fft(x).real, "fft"),
        (
            lambda x: (
                x + jax.random.bits(jax.random.key(0, impl="rbg"), (3, 3)).sum()
            ),
            "rng_bit_generator",
        ),
    ],
    ids=range(10),
)
def test_everything_else_is_refused(function, words):
  with pytest.raises(findings.RefusedError, match=words):
    screen.check(_module(function, 3, 3))


_SLOTS = 2**20


def _at_size(function, *shape):
  return _module(function, *shape)


@pytest.mark.parametrize(
    "function",
    [
        _scan,
        jax.grad(lambda x: _scan(x)[0]),
        lambda x: jnp.einsum("nm,km->nk", x, x),
        lambda x: jnp.abs(x[:, None, :16] - x[None, :, :16]).sum(),
    ],
    ids=["scan", "gradient", "product", "pairs"],
)
def test_what_grows_with_the_batch_may_train(function):
  screen.check_run(_at_size(function, 1024, 1024), _SLOTS, 20_000)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda x: jax.lax.scan(
                lambda c, _: (c * 1.01, None), 1.0, length=x.shape[0] ** 3
            )[0],
            "more than 4096 steps",
        ),
        (lambda x: (x[:, :, None] * x[:, None, :]).sum(), "elements"),
        (
            lambda x: jax.lax.fori_loop(
                0, 4000, lambda _, c: jnp.sin(c) * jnp.cos(c) + c, x
            ),
            "too much to compute",
        ),
        (
            lambda x: jax.lax.fori_loop(0, 50, lambda _, c: c @ c, x),
            "too much to compute",
        ),
    ],
    ids=["steps", "array", "loop", "products"],
)
def test_what_grows_faster_may_not(function, words):
  with pytest.raises(findings.RefusedError, match=words):
    screen.check_run(_at_size(function, 1024, 1024), _SLOTS, 20_000)


def test_steps_are_counted_exactly_where_the_program_would_wrap_around():
  # 2^40 steps, in numbers of 32 bits: none.
  module = """
module { func.func @main() {
  %n = stablehlo.constant dense<1048576> : tensor<i32>
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %many = stablehlo.multiply %n, %n : tensor<i32>
  %r = stablehlo.while(%i = %zero) : tensor<i32> cond {
    %p = stablehlo.compare LT, %i, %many : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %p : tensor<i1>
  } do {
    %s = stablehlo.add %i, %one : tensor<i32>
    stablehlo.return %s : tensor<i32>
  }
  return
} }"""
  with pytest.raises(findings.RefusedError, match="more than 4096 steps"):
    screen.check_run(module, _SLOTS, 20_000)


def test_operations_are_bounded_as_asked():
  module = _at_size(lambda x: jnp.sin(jnp.cos(x)), 4, 4)
  with pytest.raises(findings.RefusedError, match="more than 2 operations"):
    screen.check_run(module, _SLOTS, 2)


def test_top_k_passes():
  screen.check(_module(lambda x: jax.lax.top_k(x, 2)[0], 3, 3))


@pytest.mark.parametrize(
    "module",
    [
        "",
        "no module",
        "module { func.func @other() { return } }",
        'module { func.func @main() { "stablehlo.outfeed"() : () -> () return } }',
        "module { func.func @main() { call @main() : () -> () return } }",
        "module { func.func @main() { stablehlo.custom_call"
        " @xla_ffi_python_cpu_callback() : () -> () return } }",
        "module { func.func private @main() }\nmodule {}",
    ],
    ids=range(7),
)
def test_forged_modules_are_refused(module):
  with pytest.raises(findings.RefusedError):
    screen.check(module)
