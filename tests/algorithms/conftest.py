"""A batch with everything in it, and a judge in float64.

`agrees_with_float64` compares a loss with an evaluation of its equations in
numpy, double precision, that shares no code with it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types

P, G, T = 4, 8, 6
CONSTANT_FIELDS = ("old_logprobs", "sampler_logprobs", "ref_logprobs")
TOKEN_FIELDS = ("logprobs", "entropy", *CONSTANT_FIELDS)


def make_arrays():
  """A batch with a mixed, a failed, a solved and a partly invalid group."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, T + 1, (P, G))
  mask = (np.arange(T) < lengths[..., None]).astype(np.float32)
  correct = np.zeros((P, G))
  correct[0, [1, 4, 5]] = correct[2] = correct[3, 2] = 1
  valid = np.ones((P, G))
  valid[0, 6] = valid[1, 3] = 0
  valid[3, 4:] = 0
  old = -rng.exponential(1.0, (P, G, T))
  arrays = {
      "logprobs": old + rng.normal(0, 0.3, (P, G, T)),
      "entropy": rng.uniform(0, 2, (P, G, T)),
      "old_logprobs": old,
      "sampler_logprobs": old + rng.normal(0, 0.1, (P, G, T)),
      "ref_logprobs": old + rng.normal(0, 0.5, (P, G, T)),
  }
  arrays = {key: value * mask for key, value in arrays.items()}
  arrays |= {
      "completion_mask": mask,
      "rewards": correct,
      "correct": correct,
      "format_valid": valid,
      "truncated": (lengths == T) * 1.0,
      "lengths": mask.sum(axis=2),
      "staleness": np.zeros((P, G)),
      "reward_components": np.stack([correct, valid], axis=2),
      "history_pass_rate": np.full(P, 0.5),
      "progress": np.array(0.25),
  }
  arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
  return arrays | {"step": np.array(3, np.int32)}


@pytest.fixture
def arrays():
  return make_arrays()


def member(module, name, **hparams):
  """Builds a member from its module, registered or not."""
  constants = getattr(module, f"{name.upper()}_HPARAMS")
  assert set(hparams) <= set(constants)
  init = getattr(module, f"{name}_init", lambda hparams: {})
  loss = getattr(module, f"{name}_loss")
  return types.Algorithm(name, constants | hparams, init, loss)


@functools.cache
def _compiled(loss_fn):
  def loss(tokens, hparams, state, arrays):
    batch = types.RolloutBatch(**(arrays | tokens))
    value, new_state, metrics = loss_fn(hparams, state, batch)
    return value, (new_state, metrics)

  # Compiles faster, runs slower.
  return jax.jit(
      jax.value_and_grad(loss, has_aux=True),
      compiler_options={"xla_backend_optimization_level": 0},
  )


def run(algorithm, arrays, state=None):
  """Value, gradients by token field, next state and metrics, as numpy."""
  if state is None:
    state = algorithm.init(algorithm.hparams)
  arrays = {k: jnp.asarray(v) for k, v in arrays.items()}
  tokens = {key: arrays[key] for key in TOKEN_FIELDS}
  (value, (state, metrics)), grads = _compiled(algorithm.loss)(
      tokens, algorithm.hparams, state, arrays
  )
  return jax.tree.map(np.asarray, (value, grads, state, metrics))


def central_differences(f, x, step=1e-5):
  grads = np.zeros_like(x)
  for index in np.ndindex(x.shape):
    up, down = x.copy(), x.copy()
    up[index] += step
    down[index] -= step
    grads[index] = (f(up) - f(down)) / (2 * step)
  return grads


def agrees_with_float64(algorithm, oracle, arrays=None, state=None):
  """Checks value and gradients against `oracle` to 2e-5.

  Args:
    algorithm: what is judged.
    oracle: maps (hparams, batch, logprobs, entropy) to the loss, in float64.
      `batch` is a dict of float64 arrays by field. Where the loss stops a
      gradient the oracle reads batch["logprobs"], elsewhere `logprobs`. The
      state is in batch["state"].
    arrays: the batch, `make_arrays()` if left out.
    state: of the algorithm, its own start if left out.
  """
  arrays = make_arrays() if arrays is None else arrays
  if state is None:
    state = algorithm.init(algorithm.hparams)
  value, grads, _, _ = run(algorithm, arrays, state)
  b = {key: np.asarray(v, np.float64) for key, v in arrays.items()}
  b["state"] = {k: np.asarray(v, np.float64) for k, v in state.items()}
  hp = {k: float(np.float32(v)) for k, v in algorithm.hparams.items()}

  def f(**moved):
    fields = {k: b[k] for k in ("logprobs", "entropy")} | moved
    return float(oracle(hp, b, fields["logprobs"], fields["entropy"]))

  np.testing.assert_allclose(value, f(), rtol=2e-5, atol=1e-7)
  for field in CONSTANT_FIELDS:
    np.testing.assert_array_equal(grads[field], 0.0)
  for field in ("logprobs", "entropy"):
    expected = central_differences(lambda x, k=field: f(**{k: x}), b[field])
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        grads[field], expected, rtol=2e-5, atol=max(2e-6 * largest, 1e-9)
    )
  assert np.any(grads["logprobs"] != 0)


@pytest.fixture(name="member")
def member_fixture():
  return member


@pytest.fixture(name="run")
def run_fixture():
  return run


@pytest.fixture(name="agrees_with_float64")
def agrees_fixture():
  return agrees_with_float64
