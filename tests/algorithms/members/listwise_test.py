import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import listwise


@pytest.fixture
def pair(arrays):
  """One group of two: a right answer of two tokens, a wrong one of one token.

  Both had log-probability -2; the sums of log-ratios are log 4 and -log 2.
  """
  mask = np.array([[[1.0, 1.0], [1.0, 0.0]]])
  old = np.array([[[-1.0, -1.0], [-2.0, 0.0]]])
  shift = np.log([[[4.0, 1.0], [0.5, 1.0]]])
  tokens = {
      "logprobs": old + shift,
      "entropy": mask,
      "old_logprobs": old,
      "sampler_logprobs": old,
      "ref_logprobs": old,
      "completion_mask": mask,
  }
  small = {k: v[:1, :2] if v.ndim > 1 else v for k, v in arrays.items()}
  small |= {k: np.asarray(v, np.float32) for k, v in tokens.items()}
  small["rewards"] = np.array([[1.0, 0.0]], np.float32)
  small["history_pass_rate"] = arrays["history_pass_rate"][:1]
  return small


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_gvpo(member, run, pair):
  # S - mean S = ±1.5 log 2, r - μ = ±.5: d = ±(.75 log 2 - .5) at kl_coef .5.
  # Loss d², slope .5 d at the tokens of the first, -.5 d at the second.
  d = 0.75 * np.log(2.0) - 0.5
  value, grads, state, metrics = run(
      member(listwise, "gvpo", kl_coef=0.5), pair
  )
  close(value, d**2)
  close(grads["logprobs"][0], [[d / 2, d / 2], [-d / 2, 0.0]])
  assert state == {}
  close(metrics["advantages/mean_abs"], 0.5)


def test_gvpo_leaves_completions_without_tokens_out(member, run, arrays):
  algorithm = member(listwise, "gvpo")
  masked = arrays | {"completion_mask": arrays["completion_mask"].copy()}
  masked["completion_mask"][:, 3] = 0.0
  masked["rewards"] = arrays["rewards"].copy()
  masked["rewards"][:, 3] = 50.0
  dropped = {
      k: np.delete(v, 3, axis=1) if v.ndim > 1 else v for k, v in arrays.items()
  }
  value, grads, _, _ = run(algorithm, masked)
  expected, expected_grads, _, _ = run(algorithm, dropped)
  close(value, expected)
  actual = np.delete(grads["logprobs"], 3, axis=1)
  close(actual, expected_grads["logprobs"])
  np.testing.assert_array_equal(grads["logprobs"][:, 3], 0.0)


def test_tpo(member, run, pair):
  # u = ±1 and eta = 2 / log 3: q = 3/4 and 1/4. p is 8 to 1. Slope p - q.
  algorithm = member(listwise, "tpo", eta=2 / np.log(3.0))
  value, grads, state, metrics = run(algorithm, pair)
  close(value, -3 / 4 * np.log(8 / 9) - 1 / 4 * np.log(1 / 9))
  slope = 8 / 9 - 3 / 4
  close(grads["logprobs"][0], [[slope, slope], [-slope, 0.0]])
  assert state == {}
  close(metrics["advantages/mean_abs"], 1.0)


def test_tpo_sigma_floor(member, run, pair):
  # σ = 1/2 under a floor of 1: u = ±1/2, so eta = 1 / log 3 gives the same q.
  algorithm = member(listwise, "tpo", eta=1 / np.log(3.0), sigma_floor=1.0)
  _, grads, _, _ = run(algorithm, pair)
  slope = 8 / 9 - 3 / 4
  close(grads["logprobs"][0], [[slope, slope], [-slope, 0.0]])


@pytest.mark.parametrize("reward", [0.0, 1.0, 1000.1])
def test_tpo_of_equal_rewards(reward, member, run, arrays):
  # On-policy exactly no gradient; off it, a pull back.
  algorithm = member(listwise, "tpo")
  equal = arrays | {"rewards": np.full_like(arrays["rewards"], reward)}
  on_policy = equal | {"logprobs": arrays["old_logprobs"]}
  _, grads, _, _ = run(algorithm, on_policy)
  np.testing.assert_array_equal(grads["logprobs"], 0.0)
  _, grads, _, _ = run(algorithm, equal)
  shift = (arrays["logprobs"] - arrays["old_logprobs"]).sum(axis=2)
  first = grads["logprobs"][..., 0]
  most, least = shift.argmax(axis=1)[:, None], shift.argmin(axis=1)[:, None]
  assert np.all(np.take_along_axis(first, most, axis=1) > 0)
  assert np.all(np.take_along_axis(first, least, axis=1) < 0)


@pytest.mark.parametrize("name", ["gvpo", "tpo"])
def test_degenerate_batches(name, member, run, arrays):
  algorithm = member(listwise, name)
  empty = arrays | {"completion_mask": np.zeros_like(arrays["completion_mask"])}
  value, grads, _, _ = run(algorithm, empty)
  assert value == 0.0
  np.testing.assert_array_equal(grads["logprobs"], 0.0)
  single = {k: v[:, :1] if v.ndim > 1 else v for k, v in arrays.items()}
  value, grads, _, _ = run(algorithm, single)
  assert value == 0.0
  np.testing.assert_array_equal(grads["logprobs"], 0.0)


# The equations again, in float64: over the completions that have tokens.


def groups(b, *values):
  """The values of the live completions of each group that has some."""
  for g, live in enumerate(b.tokens > 0):
    if live.any():
      yield [np.asarray(v)[g, live] for v in values]


def group_mean(losses):
  return np.mean(losses) if losses else 0.0


def log_softmax(x):
  x = x - x.max()
  return x - np.log(np.exp(x).sum())


def gvpo(hp, b, logprobs, entropy):
  total = b.log_ratio(logprobs, "old_logprobs").sum(axis=2)
  losses = []
  for s, r in groups(b, total, b["rewards"]):
    d = hp["kl_coef"] * (s - s.mean()) - (r - r.mean())
    losses.append((d**2).sum() / (2 * max(len(d) - 1, 1)))
  return group_mean(losses)


def tpo(hp, b, logprobs, entropy):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  sigma = b["rewards"].std(axis=1, keepdims=True)
  u = centered / np.maximum(sigma, hp["sigma_floor"])
  old = (b["old_logprobs"] * b.live).sum(axis=2)
  new = old + b.log_ratio(logprobs, "old_logprobs").sum(axis=2)
  losses = []
  for before, score, after in groups(b, old, u, new):
    q = np.exp(log_softmax(before + score / hp["eta"]))
    losses.append(-(q * log_softmax(after)).sum())
  return group_mean(losses)


ORACLES = {
    "gvpo": (gvpo, {"kl_coef": 0.7}),
    "tpo": (tpo, {"eta": 0.7, "sigma_floor": 0.4}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
