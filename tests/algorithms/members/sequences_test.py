import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import sequences

NAMES = ("gspo", "gspo_token", "gmpo", "luspo", "vespo", "rloo_trl")


def make_pair(arrays):
  """One group of two: a right answer of two tokens, a wrong one of one token.

  Token ratios 4 and 1 against 1/2; A = 1 and -1 with epsilon 0.
  """
  mask = np.array([[[1.0, 1.0], [1.0, 0.0]]])
  old = -2.0 * mask
  logprobs = old + np.log([[[4.0, 1.0], [0.5, 1.0]]])
  tokens = {
      "logprobs": logprobs,
      "entropy": mask,
      "old_logprobs": old,
      "sampler_logprobs": old,
      "ref_logprobs": old,
      "completion_mask": mask,
  }
  pair = {k: v[:1, :2] if v.ndim > 1 else v for k, v in arrays.items()}
  pair |= {k: np.asarray(v, np.float32) for k, v in tokens.items()}
  pair["rewards"] = np.array([[1.0, 0.0]], np.float32)
  pair["history_pass_rate"] = arrays["history_pass_rate"][:1]
  return pair


@pytest.fixture
def pair(arrays):
  return make_pair(arrays)


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gspo", "gspo_token"])
def test_gspo(name, member, run, pair):
  # s = sqrt(4) = 2 and 1/2. Open above, clipped at .6 below: the loss is
  # (-2 + .6) / 2, the slope -2 / (2 · 2) at each token of the first.
  algorithm = member(
      sequences, name, clip_eps_low=0.4, clip_eps_high=1.5, epsilon=0.0
  )
  value, grads, state, metrics = run(algorithm, pair)
  close(value, -0.7)
  close(grads["logprobs"][0], [[-0.5, -0.5], [0.0, 0.0]])
  assert state == {}
  close(metrics["clip_ratio/low_mean"], 1 / 3)
  close(metrics["clip_ratio/high_mean"], 0.0)
  close(metrics["advantages/mean_abs"], 1.0)
  # Clipped at 1.5 above as well: no gradient is left.
  algorithm = member(
      sequences, name, clip_eps_low=0.4, clip_eps_high=0.5, epsilon=0.0
  )
  value, grads, _, metrics = run(algorithm, pair)
  close(value, (-1.5 + 0.6) / 2)
  close(grads["logprobs"], np.zeros((1, 2, 2)))
  close(metrics["clip_ratio/high_mean"], 2 / 3)


def test_gspo_and_gspo_token_are_the_same_for_one_advantage_each(
    member, run, arrays
):
  constants = {"clip_eps_low": 0.1, "clip_eps_high": 0.03}
  first = run(member(sequences, "gspo", **constants), arrays)
  second = run(member(sequences, "gspo_token", **constants), arrays)
  np.testing.assert_allclose(first[0], second[0], rtol=1e-6)
  np.testing.assert_allclose(
      first[1]["logprobs"], second[1]["logprobs"], rtol=1e-5, atol=1e-9
  )


def test_gmpo(member, run, pair):
  # Log-ratios log 4, cut to log 2, and 0: exp of the mean is sqrt 2. -log 2,
  # cut to log 3/4. Only the token at 0 has a gradient, -sqrt 2 / (2 · 2).
  bounds = {"clip_eps_low": np.log(4 / 3), "clip_eps_high": np.log(2.0)}
  algorithm = member(sequences, "gmpo", epsilon=0.0, **bounds)
  value, grads, _, metrics = run(algorithm, pair)
  close(value, (-(2**0.5) + 3 / 4) / 2)
  close(grads["logprobs"][0], [[0.0, -(2**0.5) / 4], [0.0, 0.0]])
  close(metrics["clip_ratio/low_mean"], 1 / 3)
  close(metrics["clip_ratio/high_mean"], 1 / 3)
  # With a wider lower bound the second completion is open: slope s / N.
  algorithm = member(
      sequences, "gmpo", epsilon=0.0, **bounds | {"clip_eps_low": 1.0}
  )
  value, grads, _, _ = run(algorithm, pair)
  close(value, (-(2**0.5) + 1 / 2) / 2)
  close(grads["logprobs"][0, 1], [0.25, 0.0])


def test_luspo(member, run, pair):
  # GSPO's -1.5 (clipped) and .6, times the lengths 2 and 1.
  algorithm = member(
      sequences, "luspo", clip_eps_low=0.4, clip_eps_high=0.5, epsilon=0.0
  )
  value, grads, _, _ = run(algorithm, pair)
  close(value, (-1.5 * 2 + 0.6) / 2)
  close(grads["logprobs"], np.zeros((1, 2, 2)))
  # Unclipped: -2 · 2, and slope -2 / N at each token whatever the length.
  algorithm = member(
      sequences, "luspo", clip_eps_low=0.4, clip_eps_high=1.5, epsilon=0.0
  )
  value, grads, _, _ = run(algorithm, pair)
  close(value, (-2 * 2 + 0.6) / 2)
  close(grads["logprobs"][0], [[-1.0, -1.0], [0.0, 0.0]])


def test_vespo(member, run, pair):
  # W = 4 with k = 1, λ = log 2: φ = 4 / 8. W = 1/2 with k = 3, λ = log 4:
  # φ = 1/8 · 2. The mean is over three tokens.
  algorithm = member(
      sequences,
      "vespo",
      k_pos=1.0,
      lambda_pos=np.log(2.0),
      k_neg=3.0,
      lambda_neg=np.log(4.0),
      epsilon=0.0,
  )
  pair["old_logprobs"] = pair["old_logprobs"] * 3.0  # Not used.
  value, grads, _, metrics = run(algorithm, pair)
  good, bad = np.log(4.0) - 2 - 2, -np.log(2.0) - 2
  close(value, (-good / 2 + bad / 4) / 3)
  close(grads["logprobs"][0], np.array([[-1 / 2, -1 / 2], [1 / 4, 0.0]]) / 3)
  close(metrics["advantages/mean_abs"], 1.0)


def test_rloo_trl(member, run, pair):
  # KL sums .4 and -.2 at .5: r' = .8 and .1, A = ±.7. R = 4 is open and has
  # slope -4 · .7 / 2 at each of its tokens; R = 1/2 is clipped at .6.
  shift = np.array([[[0.2, 0.2], [-0.2, 0.0]]], np.float32)
  pair["ref_logprobs"] = pair["old_logprobs"] - shift
  algorithm = member(
      sequences, "rloo_trl", clip_eps_low=0.4, clip_eps_high=4.0, kl_coef=0.5
  )
  value, grads, _, metrics = run(algorithm, pair)
  close(value, (-4 * 0.7 + 0.6 * 0.7) / 2)
  close(grads["logprobs"][0], [[-1.4, -1.4], [0.0, 0.0]])
  close(metrics["kl"], (0.2 + 0.2 - 0.2) / 3)
  close(metrics["advantages/mean_abs"], 0.7)
  close(metrics["clip_ratio/low_mean"], 1 / 3)


@pytest.mark.parametrize("name", NAMES)
def test_degenerate_batches(name, member, run, arrays):
  algorithm = member(sequences, name)
  arrays = {k: jnp.asarray(v) for k, v in arrays.items()}
  # Without tokens: 0 with zero gradients.
  mask = jnp.zeros_like(arrays["completion_mask"])
  value, grads, _, _ = run(algorithm, arrays | {"completion_mask": mask})
  assert value == 0.0
  np.testing.assert_array_equal(grads["logprobs"], 0.0)
  # Equal rewards, and a policy equal to its reference: exactly no gradient.
  same = {
      "rewards": jnp.full_like(arrays["rewards"], 1000.1),
      "ref_logprobs": arrays["old_logprobs"],
  }
  _, grads, _, _ = run(algorithm, arrays | same)
  np.testing.assert_array_equal(grads["logprobs"], 0.0)


# The equations again, in float64.


def normalized(hp, b):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  return centered / (b["rewards"].std(axis=1, keepdims=True) + hp["epsilon"])


def clipped(ratio, adv, hp):
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  return -np.minimum(ratio * adv, np.clip(ratio, low, high) * adv)


def completion_mean(b, values):
  return b.seq_mean(values[..., None])


def mean_ratio(b, logprobs):
  """s_i of each completion."""
  total = b.log_ratio(logprobs, "old_logprobs").sum(axis=2)
  return np.exp(total / np.maximum(b.tokens, 1))


def gspo(hp, b, logprobs, entropy, power=0):
  """(1/N) Σ_i L_i^power ℓ_clip(s_i)."""
  losses = clipped(mean_ratio(b, logprobs), normalized(hp, b), hp)
  return completion_mean(b, b.tokens**power * losses)


def luspo(*args):
  return gspo(*args, power=1)


def gspo_token(hp, b, logprobs, entropy):
  s = mean_ratio(b, b["logprobs"])[..., None]
  ratio = s * np.exp(logprobs - b["logprobs"])
  return b.seq_mean(clipped(ratio, normalized(hp, b)[..., None], hp))


def gmpo(hp, b, logprobs, entropy):
  adv = normalized(hp, b)
  x = b.log_ratio(logprobs, "old_logprobs")
  sign = np.sign(adv)[..., None]
  cut = np.clip(x, -hp["clip_eps_low"], hp["clip_eps_high"])
  z = sign * np.minimum(sign * x, sign * cut)
  mean = z.sum(axis=2) / np.maximum(b.tokens, 1)
  return completion_mean(b, -adv * np.exp(mean))


def vespo(hp, b, logprobs, entropy):
  adv = normalized(hp, b)
  total = b.log_ratio(b["logprobs"], "sampler_logprobs").sum(axis=2)
  log_w = np.clip(total, -20, 20)
  good = hp["k_pos"] * log_w + hp["lambda_pos"] * (1 - np.exp(log_w))
  bad = hp["k_neg"] * log_w + hp["lambda_neg"] * (1 - np.exp(log_w))
  phi = np.exp(np.minimum(np.where(adv >= 0, good, bad), 20))
  return b.token_mean(-(phi * adv)[..., None] * logprobs)


def rloo_trl(hp, b, logprobs, entropy):
  drift = b.log_ratio(b["old_logprobs"], "ref_logprobs", at="old_logprobs")
  reward = b["rewards"] - hp["kl_coef"] * drift.sum(axis=2)
  size = reward.shape[1]
  others = (reward.sum(axis=1, keepdims=True) - reward) / max(size - 1, 1)
  adv = reward - others if size > 1 else 0 * reward
  total = b.log_ratio(logprobs, "old_logprobs").sum(axis=2)
  at = b.log_ratio(b["logprobs"], "old_logprobs").sum(axis=2)
  return completion_mean(b, clipped(np.exp(b.clamped(total, at)), adv, hp))


# With constants at which some completions are clipped, not all.
NARROW = {"clip_eps_low": 0.1, "clip_eps_high": 0.03, "epsilon": 0.1}
ORACLES = {
    "gspo": (gspo, NARROW),
    "gspo_token": (gspo_token, NARROW),
    "gmpo": (
        gmpo,
        {"clip_eps_low": 0.2, "clip_eps_high": 0.3, "epsilon": 0.1},
    ),
    "luspo": (luspo, NARROW),
    "vespo": (
        vespo,
        {"k_pos": 1.5, "lambda_pos": 0.7, "k_neg": 0.5, "epsilon": 0.1},
    ),
    "rloo_trl": (
        rloo_trl,
        {"clip_eps_low": 0.3, "clip_eps_high": 0.4, "kl_coef": 0.2},
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
