import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import off_policy

LOG2 = np.log(2.0)
# What no token of the batch below may let through.
JUNK = np.nan


def tokens(first, second):
  """Three live tokens of completion 0, one of completion 1."""
  return np.array([[[*first, JUNK], [second, JUNK, JUNK, JUNK]]])


def make_arrays(**fields):
  """One group, the first of two answers right: A = 1 and -1.

  Ratios π / π_old are 1, 1.5, 1 and 1.5: with a clip of 0.2 on A = 1 and -1
  the losses are -1, -1.2 (no gradient), -1 and 1.5. Weights π_old / π_sampler
  are 4, 1/4, 0.6 and 6: products 0.6 and 6.
  """
  old = tokens([-1.0, -1.0, -1.0], -1.0)
  new = old + np.log(tokens([1.0, 1.5, 1.0], 1.5))
  values = {
      "logprobs": new,
      "entropy": tokens([0.1, 0.9, 0.2], 0.8),
      "old_logprobs": old,
      "sampler_logprobs": old - np.log(tokens([4.0, 0.25, 0.6], 6.0)),
      "ref_logprobs": new,
      "completion_mask": 1.0 - np.isnan(old),
      "rewards": [[1.0, 0.0]],
      "correct": [[1.0, 0.0]],
      "format_valid": [[1.0, 1.0]],
      "truncated": [[0.0, 0.0]],
      "lengths": [[3.0, 1.0]],
      "staleness": [[0.0, 0.0]],
      "reward_components": [[[1.0, 1.0], [0.0, 1.0]]],
      "history_pass_rate": [0.5],
      "progress": 0.0,
  }
  values = {k: np.asarray(v, np.float32) for k, v in (values | fields).items()}
  return values | {"step": np.array(0, np.int32)}


@pytest.fixture
def check(member, run):
  """Compares a member with a value and four slopes, found by hand."""

  def check(name, value, slopes, arrays=None, **hparams):
    algorithm = member(off_policy, name, **hparams)
    arrays = make_arrays() if arrays is None else arrays
    actual, grads, state, metrics = run(algorithm, arrays)
    assert state == {}
    close(actual, value)
    close(grads["logprobs"], [[[*slopes[:3], 0], [slopes[3], 0, 0, 0]]])
    np.testing.assert_array_equal(grads["entropy"], np.zeros((1, 2, 4)))
    return metrics

  return check


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_grpo_tis(check):
  # Weights 2, 1/4, 0.6, 2: (-2 - 0.3 - 0.6 + 3) / 4.
  slopes = [-2 / 4, 0, -0.6 / 4, 3 / 4]
  metrics = check("grpo_tis", 0.1 / 4, slopes)
  close(metrics["sampling/importance_sampling_ratio/mean"], 4.85 / 4)
  close(metrics["clip_ratio/high_mean"], 1 / 4)
  close(metrics["advantages/mean_abs"], 1.0)


def test_grpo_tis_cap(check):
  # Nothing capped: (-4 - 0.3 - 0.6 + 9) / 4.
  check("grpo_tis", 4.1 / 4, [-1, 0, -0.15, 9 / 4], sampler_cap=9.0)


def test_grpo_mis(check):
  # Completion 1 is dropped, completion 0 has 0.6: 0.6 (-1 - 1.2 - 1) / 4.
  metrics = check("grpo_mis", -1.92 / 4, [-0.15, 0, -0.15, 0])
  close(metrics["sampling/importance_sampling_ratio/mean"], 1.8 / 4)


def test_grpo_mis_cap(check):
  slopes = [-0.15, 0, -0.15, 9 / 4]
  check("grpo_mis", (-1.92 + 9) / 4, slopes, sampler_cap=7.0)


def test_icepop(check):
  # Weights 4, 0, 0.6, 0: (-4 - 0.6) / 4.
  metrics = check("icepop", -4.6 / 4, [-1, 0, -0.15, 0])
  close(metrics["sampling/importance_sampling_ratio/mean"], 4.6 / 4)


def test_icepop_bounds(check):
  # 1/4 and 6 are in, 4 as well: (-4 - 0.3 - 0.6 + 9) / 4.
  slopes = [-1, 0, -0.15, 9 / 4]
  check("icepop", 4.1 / 4, slopes, sampler_low=0.2, sampler_high=7.0)


def deepseek_arrays():
  """With A = ±1/2, x = log 2 at the first token, log 4 at the last.

  log π_sampler - log π is 1 in the completion that is wrong, 2 in the other.
  """
  new = make_arrays()["logprobs"]
  return make_arrays(
      sampler_logprobs=new + tokens([2.0, 2.0, 2.0], 1.0),
      ref_logprobs=new - tokens([LOG2, 0.0, 0.0], 2 * LOG2),
  )


def test_deepseek_v32(check):
  # Completion 0: surrogates -0.5, -0.6, -0.5, and k3 = 1/2 - 1 + log 2 once.
  # Completion 1 is ignored, but has r k3 = 1.5 (1/4 - 1 + log 4). The slope of
  # r k3 is r x.
  first = (-1.6 + 2 * (LOG2 - 0.5)) / 3
  second = 2 * 1.5 * (2 * LOG2 - 0.75)
  slopes = [(-0.5 + 2 * LOG2) / 6, 0, -0.5 / 6, 1.5 * 2 * LOG2]
  value = (first + second) / 2
  arrays = deepseek_arrays()
  metrics = check("deepseek_v32", value, slopes, arrays, kl_coef=2.0)
  close(metrics["kl"], ((LOG2 - 0.5) + second / 2) / 4)
  close(metrics["off_policy_mask/kept"], 1 / 2)

  # Above its divergence, the second has the loss 1.5 / 2 again.
  slopes[3] += 0.75 / 2
  hparams = {"kl_coef": 2.0, "off_policy_threshold": 1.1}
  metrics = check("deepseek_v32", value + 0.375, slopes, arrays, **hparams)
  close(metrics["off_policy_mask/kept"], 1.0)


def test_high_entropy_grpo(check):
  # ceil(0.3 · 4) = 2 of 4 tokens: entropies 0.9 and 0.8, losses -1.2 and 1.5.
  metrics = check(
      "high_entropy_grpo",
      0.3 / 2,
      [0, 0, 0, 1.5 / 2],
      entropy_fraction=0.3,
      clip_eps_high=0.2,
  )
  close(metrics["clip_ratio/high_mean"], 1 / 2)


def test_high_entropy_grpo_of_everything_is_grpo(check):
  # The default clip is 0.28 on this side: (-1 - 1.28 - 1 + 1.5) / 4.
  slopes = [-1 / 4, 0, -1 / 4, 1.5 / 4]
  check("high_entropy_grpo", -1.78 / 4, slopes, entropy_fraction=1.0)


def test_overlong_filtered_grpo(check):
  # Three tokens are left, with the advantage that the group of two gave them.
  arrays = make_arrays(truncated=[[0.0, 1.0]])
  slopes = [-1 / 3, 0, -1 / 3, 0]
  metrics = check("overlong_filtered_grpo", -3.2 / 3, slopes, arrays)
  close(metrics["clip_ratio/high_mean"], 1 / 3)


def test_overlong_filtered_grpo_without_a_complete_answer(check):
  arrays = make_arrays(truncated=[[1.0, 1.0]])
  check("overlong_filtered_grpo", 0.0, [0, 0, 0, 0], arrays)


@pytest.mark.parametrize(
    "name",
    [
        "grpo_tis",
        "grpo_mis",
        "icepop",
        "deepseek_v32",
        "high_entropy_grpo",
        "overlong_filtered_grpo",
    ],
)
def test_a_batch_without_tokens_gives_nothing(check, name):
  arrays = make_arrays(completion_mask=np.zeros((1, 2, 4)))
  metrics = check(name, 0.0, [0, 0, 0, 0], arrays)
  assert all(np.isfinite(value) for value in metrics.values())


# The same equations in float64.


def normalized(hp, b):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  deviation = (centered**2).mean(axis=1, keepdims=True) ** 0.5
  return centered / (deviation + hp["epsilon"])


def clip_loss(hp, b, logprobs, adv):
  r = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  adv = adv[..., None]
  return -np.minimum(r * adv, np.clip(r, low, high) * adv)


def weighted(weigh):
  def oracle(hp, b, logprobs, entropy):
    old = b["old_logprobs"]
    log_w = b.log_ratio(old, "sampler_logprobs", at="old_logprobs")
    loss = clip_loss(hp, b, logprobs, normalized(hp, b))
    return b.token_mean(weigh(hp, log_w) * loss)

  return oracle


def tis(hp, log_w):
  return np.minimum(np.exp(log_w), hp["sampler_cap"])


def mis(hp, log_w):
  product = np.exp(np.clip(log_w.sum(axis=2, keepdims=True), -20, 20))
  return np.where(product > hp["sampler_cap"], 0.0, product)


def icepop(hp, log_w):
  w = np.exp(log_w)
  return w * (hp["sampler_low"] <= w) * (w <= hp["sampler_high"])


def deepseek(hp, b, logprobs, entropy):
  adv = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  away = -b.log_ratio(b["logprobs"], "sampler_logprobs").sum(axis=2)
  drift = away / np.maximum(b.tokens, 1)
  dropped = (adv < 0) & (drift > hp["off_policy_threshold"])
  surrogate = clip_loss(hp, b, logprobs, adv) * ~dropped[..., None]
  x = b.log_ratio(logprobs, "ref_logprobs")
  fixed = b.log_ratio(b["logprobs"], "ref_logprobs")
  ratio = np.exp(b.log_ratio(b["logprobs"], "old_logprobs"))
  # r k3, whose slope r x is that of r x² / 2; apart where x is clamped.
  penalty = ratio * (np.exp(-fixed) - 1 + fixed + (x**2 - fixed**2) / 2)
  return b.seq_mean(surrogate + hp["kl_coef"] * penalty)


def high_entropy(hp, b, logprobs, entropy):
  ranked = np.sort(b["entropy"][b.live])[::-1]
  count = int(np.ceil(min(hp["entropy_fraction"], 1) * len(ranked)))
  kept = b.live & (b["entropy"] >= (ranked[count - 1] if count else np.inf))
  return b.token_mean(clip_loss(hp, b, logprobs, normalized(hp, b)), kept)


def overlong_filtered(hp, b, logprobs, entropy):
  kept = b.live & (b["truncated"][..., None] == 0)
  return b.token_mean(clip_loss(hp, b, logprobs, normalized(hp, b)), kept)


# With constants at which the weights of some tokens, not of all, are moved.
ORACLES = {
    "grpo_tis": (weighted(tis), {"sampler_cap": 1.03, "epsilon": 0.1}),
    "grpo_mis": (weighted(mis), {"sampler_cap": 1.3, "epsilon": 0.1}),
    "icepop": (
        weighted(icepop),
        {"sampler_low": 0.93, "sampler_high": 1.08, "epsilon": 0.1},
    ),
    "deepseek_v32": (
        deepseek,
        {"kl_coef": 0.7, "off_policy_threshold": 0.1},
    ),
    "high_entropy_grpo": (
        high_entropy,
        {"entropy_fraction": 0.8, "epsilon": 0.1},
    ),
    "overlong_filtered_grpo": (overlong_filtered, {"epsilon": 0.1}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
