import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import advantages, aggregation, catalog, surrogates
from poise_jax.algorithms.members import estimators, grpo, policy_gradient

MODULE = policy_gradient
NAMES = "reinforce_baseline rloo_sequence opo gpg".split()
LOG2 = np.log(2)
LIVE = np.array([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])


def tiny(ratio=(1.5, 1, 1, 1, 1), log_ref=(0, 0, LOG2, 0, 0), **fields):
  """Two groups of two, lengths 2, 1 and 1, 1; NaN where masked.

  The first completion is right, the others wrong. log π_old is -1.

  Args:
    ratio: π / π_old of the five tokens.
    log_ref: log π - log π_ref of the five tokens.
    **fields: of the batch, instead of the above.
  """

  def tokens(values):
    spread = np.full((2, 2, 2), np.nan)
    spread[LIVE > 0] = values
    return spread

  new = np.log(ratio) - 1
  rewards = np.array([[1.0, 0.0], [0.0, 0.0]])
  arrays = {
      "logprobs": tokens(new),
      "entropy": tokens(0.5),
      "old_logprobs": tokens(-1.0),
      "sampler_logprobs": tokens(-1.0),
      "ref_logprobs": tokens(new - log_ref),
      "completion_mask": LIVE,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": np.ones((2, 2)),
      "truncated": np.zeros((2, 2)),
      "lengths": LIVE.sum(axis=2),
      "staleness": np.zeros((2, 2)),
      "reward_components": np.stack([rewards, rewards], axis=2),
      "history_pass_rate": np.zeros(2),
      "progress": np.array(0.0),
  }
  arrays = {k: np.asarray(v, np.float32) for k, v in (arrays | fields).items()}
  return arrays | {"step": np.array(0, np.int32)}


@pytest.fixture
def outcome(member, run):
  """Maps a name, a batch and constants to value, live slopes, metrics."""

  def judge(name, arrays, **hparams):
    value, grads, state, metrics = run(member(MODULE, name, **hparams), arrays)
    assert state == {}
    live = arrays["completion_mask"] > 0
    np.testing.assert_array_equal(grads["logprobs"][~live], 0.0)
    return value, grads["logprobs"][live], metrics

  return judge


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


# log π of the first completion is log 1.5 - 1 and -1, of the others -1.
FIRST = np.log(1.5) - 2


def test_reinforce_baseline(outcome):
  # Rewards 1, 0, 0, 0: A = 3/4, -1/4, -1/4, -1/4.
  value, slopes, metrics = outcome("reinforce_baseline", tiny())
  close(value, -(0.75 * FIRST + 3 * 0.25) / 5)
  close(slopes, [-0.15, -0.15, 0.05, 0.05, 0.05])
  close(metrics["advantages/mean_abs"], 1.5 / 4)


def test_rloo_sequence(outcome):
  # Rewards 1 and 0 - log(2)/2, each against the other.
  value, slopes, metrics = outcome("rloo_sequence", tiny(), kl_coef=0.5)
  a = 1 + 0.5 * LOG2
  close(value, (-a * FIRST - a) / 4)
  close(slopes, [-a / 4, -a / 4, a / 4, 0, 0])
  close(metrics["kl"], LOG2 / 5)
  close(metrics["advantages/mean_abs"], a / 2)


def test_opo(outcome):
  # Baseline (2 * 1 + 1 * 0) / 3: A = 1/3, -2/3.
  value, slopes, metrics = outcome("opo", tiny())
  close(value, (-FIRST / 3 - 2 / 3) / 5)
  close(slopes, [-1 / 15, -1 / 15, 2 / 15, 0, 0])
  close(metrics["advantages/mean_abs"], 1 / 4)


def test_gpg(outcome):
  # One of two groups is active: A = 2 * ±1/2. Completions: -FIRST / 2, -1.
  value, slopes, metrics = outcome("gpg", tiny())
  close(value, (-FIRST / 2 - 1) / 4)
  close(slopes, [-1 / 8, -1 / 8, 1 / 4, 0, 0])
  close(metrics["advantages/mean_abs"], 1 / 2)


def test_gpg_without_an_active_group(outcome):
  value, slopes, _ = outcome("gpg", tiny(rewards=np.full((2, 2), 1000.1)))
  assert float(value) == 0.0
  np.testing.assert_array_equal(slopes, np.zeros(5))


@pytest.mark.parametrize(
    "module, name, estimate",
    [
        (grpo, "dapo", advantages.group_normalized),
        (estimators, "rloo", advantages.leave_one_out),
    ],
)
def test_the_first_clipped_step_is_reinforce(
    member, run, arrays, module, name, estimate
):
  arrays["logprobs"] = arrays["old_logprobs"]
  _, grads, _, _ = run(member(module, name), arrays)
  mask = jnp.asarray(arrays["completion_mask"])
  adv = estimate(jnp.asarray(arrays["rewards"]))

  def reinforce(logprobs):
    loss = surrogates.policy_gradient(logprobs, adv, mask)
    return aggregation.token_mean(loss, mask)

  expected = jax.jit(jax.grad(reinforce))(jnp.asarray(arrays["logprobs"]))
  assert np.any(expected != 0)
  close(grads["logprobs"], expected)


def test_groups_of_one_and_empty_completions_stay_finite(member):
  # The second prompt's only completion has no tokens.
  arrays = tiny(rewards=np.eye(2))
  arrays = {k: v[:, 1:] if v.ndim > 1 else v for k, v in arrays.items()}
  arrays["completion_mask"] = np.float32([[[1, 0]], [[0, 0]]])
  arrays = {k: jnp.asarray(v) for k, v in arrays.items()}

  def judge(logprobs):
    batch = types.RolloutBatch(**(arrays | {"logprobs": logprobs}))
    losses, metrics = {}, {}
    for name in NAMES:
      algorithm = member(MODULE, name)
      losses[name], _, metrics[name] = algorithm.loss(
          algorithm.hparams, {}, batch
      )
    return losses, (losses, metrics)

  slopes, rest = jax.jit(jax.jacrev(judge, has_aux=True))(arrays["logprobs"])
  for number in jax.tree.leaves((slopes, rest)):
    assert np.all(np.isfinite(number))


# The equations again, in float64.


def weighed(b, logprobs, adv):
  """-A log π of each token."""
  return -adv[..., None] * logprobs


def reinforce_baseline(hp, b, logprobs, entropy):
  return b.token_mean(weighed(b, logprobs, b["rewards"] - b["rewards"].mean()))


def rloo_sequence(hp, b, logprobs, entropy):
  drift = b.log_ratio(b["logprobs"], "ref_logprobs").sum(axis=2)
  rewards = b["rewards"] - hp["kl_coef"] * drift
  others = rewards.shape[1] - 1
  total = rewards.sum(axis=1, keepdims=True)
  adv = rewards - (total - rewards) / others if others else 0 * rewards
  sums = (weighed(b, logprobs, adv) * b.live).sum()
  return sums / max((b.tokens > 0).sum(), 1)


def opo(hp, b, logprobs, entropy):
  tokens = np.maximum(b.tokens.sum(axis=1), 1)
  baseline = (b.tokens * b["rewards"]).sum(axis=1) / tokens
  return b.token_mean(weighed(b, logprobs, b["rewards"] - baseline[:, None]))


def gpg(hp, b, logprobs, entropy):
  active = np.ptp(b["rewards"], axis=1) > 0
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  scale = len(active) / max(active.sum(), 1)
  return b.seq_mean(weighed(b, logprobs, centered * scale))


ORACLES = {
    "reinforce_baseline": (reinforce_baseline, {}),
    "rloo_sequence": (rloo_sequence, {"kl_coef": 0.3}),
    "opo": (opo, {}),
    "gpg": (gpg, {}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
