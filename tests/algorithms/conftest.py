"""Batches with everything in them, and a judge in float64.

`agrees_with_float64` compares a loss with an evaluation of its equations in
numpy, double precision, that shares no code with it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog, examples

P, G, T = 4, 8, 6
CONSTANT_FIELDS = ("old_logprobs", "sampler_logprobs", "ref_logprobs")
TOKEN_FIELDS = ("logprobs", "entropy", *CONSTANT_FIELDS)
# Share of the tokens of a batch at which a loss may have a kink, at most.
KINKS = 0.05


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


class Batch(dict):
  """Fields by name, in float64, and what most equations are made of.

  Where a loss stops a gradient its oracle reads batch["logprobs"], elsewhere
  the `logprobs` that it is given. "state" is that of the algorithm.
  """

  @functools.cached_property
  def live(self):
    return self["completion_mask"] > 0

  @functools.cached_property
  def tokens(self):
    """Counts those of each completion."""
    return self.live.sum(axis=2)

  @functools.cached_property
  def _known(self):
    return {}

  def once(self, estimate, hp):
    """estimate(hp, self): what does not depend on the policy that moves."""
    if estimate not in self._known:
      self._known[estimate] = estimate(hp, self)
    return self._known[estimate]

  def clamped(self, x, at):
    """Clamps to ±20 and keeps the slope; `at` is x with its gradient stopped."""
    return x + (np.clip(at, -20, 20) - at)

  def log_ratio(self, logprobs, key, at="logprobs"):
    """log π - log π_key, clamped; `at` is the field that `logprobs` is."""
    difference = lambda x: np.where(self.live, x - self[key], 0.0)
    return self.clamped(difference(logprobs), difference(self[at]))

  def token_mean(self, values, kept=None):
    kept = self.live if kept is None else kept
    selected = np.broadcast_to(values, kept.shape)[kept]
    return selected.mean() if selected.size else 0.0

  def seq_mean(self, values):
    sums, some = np.where(self.live, values, 0).sum(axis=2), self.tokens > 0
    return (sums[some] / self.tokens[some]).mean() if some.any() else 0.0


@functools.cache
def batches():
  """What every loss is judged on: those of the property suite among them."""
  # Seven completions like the others: a shape less to compile.
  ordinary = make_arrays()
  ordinary = {k: v[:, :7] if v.ndim > 1 else v for k, v in ordinary.items()}
  shifted = examples.off_policy()
  for key in ("rewards", "reward_components"):
    shifted[key] = shifted[key] + np.float32(1000)
  return {
      "ordinary": ordinary,
      "on-policy": examples.on_policy(),
      "off-policy": examples.off_policy(),
      "rewards + 1000": shifted,
      **examples.edges(),
      "groups of one": examples.groups_of_one(),
      "without tokens": examples.without_tokens(),
  }


def one_sided(f, x, live, step):
  """Slopes to the left and to the right, 0 where not live."""
  here, left, right = f(x), np.zeros_like(x), np.zeros_like(x)
  for index in map(tuple, np.argwhere(live)):
    moved = x.copy()
    moved[index] -= step
    left[index] = (here - f(moved)) / step
    moved[index] += 2 * step
    right[index] = (f(moved) - here) / step
  return left, right


def agrees_with_float64(algorithm, oracle, arrays=None):
  """Checks value and gradients against `oracle` to 2e-5, on all batches.

  Args:
    algorithm: what is judged, from its first state, with constants that all
      show in the ordinary batch; its defaults are judged on one batch.
    oracle: maps (hparams, batch, logprobs, entropy) to the loss, in float64;
      see `Batch`.
    arrays: takes the place of the ordinary batch.
  """
  for where, fields in batches().items():
    if where == "ordinary" and arrays is not None:
      fields = arrays
    if where == "ordinary":
      assert not idle_constants(algorithm, oracle, fields)
    judge(algorithm, oracle, where, fields)
  defaults = catalog.make(algorithm.name)
  judge(defaults, oracle, "defaults", batches()["off-policy"])


def idle_constants(algorithm, oracle, arrays):
  """Names constants that the oracle reads to no effect: of no use as a test."""

  class Seen(dict):

    def __getitem__(self, key):
      read.add(key)
      return super().__getitem__(key)

  read = set()
  hp = {k: float(np.float32(v)) for k, v in algorithm.hparams.items()}

  def value(hp):
    b = Batch({key: np.asarray(v, np.float64) for key, v in arrays.items()})
    b["state"] = algorithm.init(algorithm.hparams)
    return float(oracle(hp, b, b["logprobs"], b["entropy"]))

  usual = value(Seen(hp))
  moved = lambda key, factor: value(hp | {key: factor * hp[key]})
  return [key for key in read if moved(key, 1.5) == moved(key, 0.6) == usual]


def judge(algorithm, oracle, where, arrays):
  """Compares on one batch."""
  state = algorithm.init(algorithm.hparams)
  value, grads, _, _ = run(algorithm, arrays, state)
  b = Batch({key: np.asarray(v, np.float64) for key, v in arrays.items()})
  b["state"] = {k: np.asarray(v, np.float64) for k, v in state.items()}
  hp = {k: float(np.float32(v)) for k, v in algorithm.hparams.items()}
  for field in CONSTANT_FIELDS:
    np.testing.assert_array_equal(grads[field], 0.0, err_msg=where)

  def f(**moved):
    fields = {k: b[k] for k in ("logprobs", "entropy")} | moved
    return float(oracle(hp, b, fields["logprobs"], fields["entropy"]))

  terms = 0.0
  for field in ("logprobs", "entropy"):
    # Most losses do not read the entropy.
    moved = b[field] + np.random.default_rng(0).normal(0, 1e-3, b[field].shape)
    live = b.live & (f(**{field: moved}) != f())
    # Losses are linear in the entropy.
    step = 1e-5 if field == "logprobs" else 1e-2
    moving = lambda x, k=field: f(**{k: x})
    left, right = one_sided(moving, b[field], live, step)
    expected = (left + right) / 2
    largest = np.abs(expected).max()
    terms += np.abs(expected).sum()
    # At a kink, which f(x ± step) shows, any slope between the two will do.
    rounding = 1e-15 * abs(f()) / step
    kinks = np.abs(right - left) > max(1e-4 * largest, 10 * rounding, 1e-7)
    assert kinks.sum() <= KINKS * b.live.sum(), (where, field, kinks.sum())
    low = np.where(kinks, np.minimum(left, right), expected)
    high = np.where(kinks, np.maximum(left, right), expected)
    nearest = np.clip(grads[field], low, high)
    np.testing.assert_allclose(
        grads[field],
        nearest,
        rtol=2e-5,
        atol=max(5e-7 * largest, rounding, 1e-9),
        err_msg=f"{algorithm.name}, {field}, {where}",
    )
  # The loss may be a sum of large terms near 0.
  np.testing.assert_allclose(
      value,
      f(),
      rtol=2e-5,
      atol=1e-7 + 2e-7 * terms,
      err_msg=f"{algorithm.name}, {where}",
  )
  if where == "ordinary" and algorithm.name != "zero_gradient":
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
