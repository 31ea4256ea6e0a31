import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import grpo

MODULE = grpo
NAMES = (
    "grpo dr_grpo dapo grpo_format_penalty grpo_deepseek grpo_trl grpo_verl"
    " grpo_tunix"
).split()
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


K3 = LOG2 - 1 / 2


# The equations again, in float64.


def z_scores(rewards, epsilon, ddof=0):
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  count = max(rewards.shape[1] - ddof, 1)
  deviation = np.sqrt((centered**2).sum(axis=1, keepdims=True) / count)
  return centered / (deviation + epsilon)


def ppo(hp, b, logprobs, adv, dual_clip=1e9):
  """Token losses: -min(r A, clip(r) A), at most -c A where A < 0."""
  adv = adv[..., None]
  r = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  clipped = np.clip(r, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
  loss = -np.minimum(r * adv, clipped * adv)
  return np.where(adv < 0, np.minimum(loss, -dual_clip * adv), loss)


def k3(b, logprobs):
  x = b.log_ratio(logprobs, "ref_logprobs")
  return np.exp(-x) - 1 + x


def in_tokens(hp, b, logprobs, entropy, ddof=0, dual_clip=1e9):
  """Of GRPO with constants by which the defaults of trainers differ."""
  adv = z_scores(b["rewards"], hp["epsilon"], ddof)
  loss = ppo(hp, b, logprobs, adv, dual_clip)
  return b.token_mean(loss + hp.get("kl_coef", 0) * k3(b, logprobs))


def trl(hp, *args):
  return in_tokens(hp, *args, ddof=hp["ddof"])


def verl(hp, *args):
  return in_tokens(hp, *args, ddof=hp["ddof"], dual_clip=hp["dual_clip"])


def dr_grpo(hp, b, logprobs, entropy):
  adv = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  loss = ppo(hp, b, logprobs, adv)[b.live].sum()
  return loss / max((b.tokens > 0).sum(), 1) / hp["length_constant"]


def format_penalty(hp, b, logprobs, entropy):
  rewards = b["rewards"] - hp["format_penalty"] * (b["format_valid"] == 0)
  return b.token_mean(ppo(hp, b, logprobs, z_scores(rewards, hp["epsilon"])))


def deepseek(hp, b, logprobs, entropy):
  loss = ppo(hp, b, logprobs, z_scores(b["rewards"], hp["epsilon"]))
  return b.seq_mean(loss + hp["kl_coef"] * k3(b, logprobs))


def tunix(hp, b, logprobs, entropy):
  adv = z_scores(b["rewards"], hp["epsilon"], hp["ddof"])
  k1 = b.log_ratio(logprobs, "ref_logprobs")
  return b.seq_mean(ppo(hp, b, logprobs, adv) + hp["kl_coef"] * k1)


# With constants at which every term is active.
ORACLES = {
    "grpo": (in_tokens, {"kl_coef": 0.3, "epsilon": 0.1}),
    "grpo_poise": (in_tokens, {"kl_coef": 0.1, "epsilon": 0.1}),
    "dr_grpo": (dr_grpo, {"length_constant": 5.0}),
    "dapo": (in_tokens, {"epsilon": 0.1}),
    "grpo_format_penalty": (
        format_penalty,
        {"format_penalty": 0.7, "epsilon": 0.1},
    ),
    "grpo_deepseek": (deepseek, {"kl_coef": 0.3, "epsilon": 0.1}),
    "grpo_r1": (deepseek, {"clip_eps_high": 0.1, "clip_eps_low": 0.1}),
    "grpo_trl": (trl, {"kl_coef": 0.3, "epsilon": 0.1}),
    # The largest ratio on bad tokens is about 2.
    "grpo_verl": (verl, {"dual_clip": 1.3, "epsilon": 0.1}),
    "grpo_tunix": (tunix, {"kl_coef": 0.3, "epsilon": 0.1}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)


def test_grpo(outcome):
  # A = (1/2) / (1/2 + 1/2); the first token is clipped at 1.2. The slope of
  # k3 is 1 - exp(-log 2) = 1/2.
  value, slopes, metrics = outcome("grpo", tiny(), epsilon=0.5, kl_coef=0.1)
  close(value, (-1.2 / 2 - 1 / 2 + 1 / 2 + 0.1 * K3) / 5)
  close(slopes, [0, -0.1, 0.11, 0, 0])
  close(metrics["kl"], K3 / 5)
  close(metrics["advantages/mean_abs"], 1 / 4)
  close(metrics["clip_ratio/high_mean"], 1 / 5)
  close(metrics["clip_ratio/low_mean"], 0)


def test_dr_grpo(outcome):
  # A = 1/2, four completions, L_max 4.
  value, slopes, _ = outcome("dr_grpo", tiny(), length_constant=4.0)
  close(value, (-1.2 / 2 - 1 / 2 + 1 / 2) / 16)
  close(slopes, [0, -1 / 32, 1 / 32, 0, 0])


def test_dapo_has_a_wider_upper_clip(outcome):
  # A good token at 1.5 is clipped at 1.28, a bad one at 1/2 at 0.8.
  arrays = tiny(ratio=(1.5, 1, 0.5, 1, 1))
  value, slopes, metrics = outcome("dapo", arrays, epsilon=0.5)
  close(value, (-1.28 / 2 - 1 / 2 + 0.8 / 2) / 5)
  close(slopes, [0, -0.1, 0, 0, 0])
  close(metrics["clip_ratio/low_mean"], 1 / 5)
  # 1.25 is inside.
  arrays = tiny(ratio=(1.25, 1, 0.85, 1, 1))
  _, slopes, _ = outcome("dapo", arrays, epsilon=0.5)
  close(slopes, [-0.125, -0.1, 0.085, 0, 0])


def test_grpo_format_penalty(outcome):
  # Rewards 1 and 0 - 2: deviation 3/2, A = (3/2) / (3/2 + 1/2).
  arrays = tiny(format_valid=[[1.0, 0.0], [1.0, 1.0]])
  value, slopes, _ = outcome(
      "grpo_format_penalty", arrays, epsilon=0.5, format_penalty=2.0
  )
  close(value, (-1.2 - 1 + 1) * 0.75 / 5)
  close(slopes, [0, -0.15, 0.15, 0, 0])


def test_grpo_deepseek_averages_within_completions(outcome):
  # A = 1/2. Completions: (-.6 - .5) / 2, .5 + .1 k3, 0, 0.
  value, slopes, metrics = outcome(
      "grpo_deepseek", tiny(), epsilon=0.5, kl_coef=0.1
  )
  close(value, (-0.55 + 0.5 + 0.1 * K3) / 4)
  close(slopes, [0, -1 / 16, 0.55 / 4, 0, 0])
  close(metrics["kl"], K3 / 5)


# The sample deviation of 1 and 0 is sqrt(1/2).
A = 0.5 / (0.5**0.5 + 0.5)


def test_grpo_trl_divides_by_the_sample_deviation(outcome):
  value, slopes, metrics = outcome("grpo_trl", tiny(), epsilon=0.5, kl_coef=0.1)
  close(value, (-1.2 * A - A + A + 0.1 * K3) / 5)
  close(slopes, [0, -A / 5, (A + 0.05) / 5, 0, 0])
  close(metrics["kl"], K3 / 5)
  _, slopes, _ = outcome("grpo_trl", tiny(), epsilon=0.5, ddof=0.0)
  close(slopes, [0, -0.1, 0.1, 0, 0])


@pytest.mark.parametrize("ratio, loss, slope", [(2.0, 2.0, 2.0), (4.0, 3.0, 0)])
def test_grpo_verl_bounds_the_loss_of_bad_tokens(outcome, ratio, loss, slope):
  arrays = tiny(ratio=(4, 1, ratio, 1, 1))
  value, slopes, metrics = outcome("grpo_verl", arrays, epsilon=0.5)
  close(value, (-1.2 - 1 + loss) * A / 5)
  close(metrics["clip_ratio/dual_mean"], 0.2 * (slope == 0))
  close(slopes, [0, -A / 5, slope * A / 5, 0, 0])


def test_grpo_tunix(outcome):
  # Completions: -1.1 A, A + .1 log 2, 0, 0. k1 adds .1 / (4 L) to each slope.
  value, slopes, metrics = outcome(
      "grpo_tunix", tiny(), epsilon=0.5, kl_coef=0.1
  )
  close(value, (-1.1 * A + A + 0.1 * LOG2) / 4)
  expected = [0.1 / 8, (0.1 - A) / 8, (0.1 + A) / 4, 0.1 / 4, 0.1 / 4]
  close(slopes, expected)
  close(metrics["kl"], LOG2 / 5)


def test_grpo_tunix_feels_no_reference(outcome):
  near, far = tiny(), tiny(log_ref=(3, -2, 1, 5, -4))
  slopes = [outcome("grpo_tunix", a, kl_coef=1.0)[1] for a in (near, far)]
  np.testing.assert_array_equal(*slopes)


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
