import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import poise_length

NAMES = ["dace", "cag", "dcbe"]


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def twice(row):
  return np.tile(row, 2)


def length_batch(arrays, **fields):
  """On policy: half right, all right, one of four right, none; in fours."""
  rows = {
      "correct": [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]],
      "lengths": [[2, 4, 9, 1], [1, 1, 1, 5], [9, 1, 2, 3], [1, 2, 3, 4]],
      "format_valid": np.ones((4, 4)),
  }
  rows["rewards"] = rows["correct"]
  rows = {k: np.tile(v, (1, 2)).astype(np.float32) for k, v in rows.items()}
  return arrays | rows | {"logprobs": arrays["old_logprobs"]} | fields


def advantages_of(run, algorithm, arrays):
  """On policy the gradient at the first token of completion i is -A_i / n."""
  _, grads, _, _ = run(algorithm, arrays)
  return -grads["logprobs"][..., 0] * arrays["completion_mask"].sum()


# The group of one right in four: mean 1/4, deviation sqrt(3)/4.
RARE = np.array([3, -1, -1, -1]) / 3**0.5


def test_dace(run, member, arrays):
  # Pass rates 1/2, 1, 1/4, 0, so accuracy weighs 1 + 2 (1 - p) = 2, 1, 5/2, 3.
  # Brevity of 2 and 4: 1 and -1, of 1, 1, 1, 5: 1 and -3 over sqrt(3); the
  # two right answers of the third group are equally long.
  algorithm = member(poise_length, "dace", difficulty_coef=2.0, length_coef=0.2)
  adv = advantages_of(run, algorithm, length_batch(arrays))
  expected = [
      [2 + 0.1, 2 - 0.1, -2, -2],
      0.2 * np.array([1, 1, 1, -3]) / 3**0.5,
      2.5 * RARE,
      [0.0] * 4,
  ]
  close(adv, [twice(row) for row in expected])


def test_cag(run, member, arrays):
  # Means 3 and 2: only 4 and 5 are too long, by 1/3 and 3/2; p² = 1/4 and 1.
  adv = advantages_of(run, member(poise_length, "cag"), length_batch(arrays))
  expected = [
      [1, 1 - 0.5 / 4 / 3, -1, -1],
      [0, 0, 0, -0.5 * 1.5],
      RARE,
      [0.0] * 4,
  ]
  close(adv, [twice(row) for row in expected])


def test_dcbe(run, member, arrays):
  adv = advantages_of(run, member(poise_length, "dcbe"), length_batch(arrays))
  nudge = 0.5 / 4 / 3
  expected = [
      [1 + nudge, 1 - nudge, -1, -1],
      0.5 * np.array([1, 1, 1, -3]) / 2,
      RARE,
      [0.0] * 4,
  ]
  close(adv, [twice(row) for row in expected])


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_and_hard_prompts_hear_nothing_of_length(
    run, member, arrays, name
):
  algorithm = member(poise_length, name)
  batch = length_batch(arrays)
  adv = advantages_of(run, algorithm, batch)
  lengths = np.where(batch["correct"] == 1, batch["lengths"], 77.0)
  moved = batch | {"lengths": lengths.astype(np.float32)}
  np.testing.assert_array_equal(advantages_of(run, algorithm, moved), adv)
  assert np.any(adv[1] != 0)
  np.testing.assert_array_equal(adv[3], np.zeros(8))


def constant_entropy(arrays, nats):
  entropy = nats * arrays["completion_mask"]
  return arrays | {"entropy": entropy.astype(np.float32)}


@pytest.mark.parametrize("progress, target", [(0.0, 0.4), (0.5, 0.3), (1, 0.2)])
def test_dace_anneals_its_entropy_target(run, member, arrays, progress, target):
  # The coefficient grows by exp(rate (target - 0.1)), for the next step.
  batch = constant_entropy(arrays, 0.1)
  batch["progress"] = np.array(progress, np.float32)
  algorithm = member(poise_length, "dace", entropy_rate=2.0)
  start = algorithm.init(algorithm.hparams)
  close(start["entropy_coef"], 0.001)
  _, _, state, metrics = run(algorithm, batch)
  np.testing.assert_allclose(
      state["entropy_coef"], 0.001 * np.exp(2 * (target - 0.1)), rtol=1e-5
  )
  close(metrics["entropy"], 0.1)
  close(metrics["entropy_coef"], 0.001)
  again = run(algorithm, batch, state)[3]
  np.testing.assert_array_equal(again["entropy_coef"], state["entropy_coef"])


def test_dcbe_steers_to_a_fixed_target(run, member, arrays):
  algorithm = member(poise_length, "dcbe")
  state = run(algorithm, constant_entropy(arrays, 0.5))[2]
  expected = 0.001 * np.exp(0.05 * (0.3 - 0.5))
  np.testing.assert_allclose(state["entropy_coef"], expected, rtol=1e-6)
  eager = member(poise_length, "dcbe", entropy_rate=9.0, entropy_coef_max=0.002)
  state = run(eager, constant_entropy(arrays, 0.1))[2]
  np.testing.assert_allclose(state["entropy_coef"], 0.002, rtol=1e-6)


@pytest.mark.parametrize("name", ["dace", "dcbe"])
def test_entropy_bonus(run, member, arrays, name):
  mask = arrays["completion_mask"]
  value = run(member(poise_length, name, entropy_coef=0.0), arrays)[0]
  bonus, grads, _, _ = run(member(poise_length, name, entropy_coef=0.5), arrays)
  close(bonus, value - 0.5 * (arrays["entropy"] * mask).sum() / mask.sum())
  close(grads["entropy"], -0.5 * mask / mask.sum())


@pytest.mark.parametrize("name", NAMES)
def test_masked_junk_does_not_leak(run, member, arrays, name):
  algorithm = member(poise_length, name, kl_coef=0.3)
  value, grads, state, metrics = run(algorithm, arrays)
  masked = arrays["completion_mask"] == 0
  fields = ("logprobs", "entropy", "old_logprobs", "ref_logprobs")
  junk = {k: np.where(masked, np.float32(np.nan), arrays[k]) for k in fields}
  junk_value, junk_grads, junk_state, junk_metrics = run(
      algorithm, arrays | junk
  )
  np.testing.assert_array_equal(junk_value, value)
  for field in ("logprobs", "entropy"):
    np.testing.assert_array_equal(junk_grads[field], grads[field])
  assert junk_state == state
  assert junk_metrics == metrics


# Independent evaluation, in double precision.


def dace(hp, b, g, accuracy, subset):
  rate = subset.mean()
  adv = accuracy * (1 + hp["difficulty_coef"] * (1 - rate))
  lengths = b["lengths"][g][subset]
  if lengths.size and lengths.std() > 0:
    brevity = (lengths.mean() - lengths) / lengths.std()
    adv[subset] += hp["length_coef"] * rate * brevity
  return adv


def cag(hp, b, g, accuracy, subset):
  adv = accuracy.copy()
  for i in np.flatnonzero(subset):
    mean = b["lengths"][g][subset].mean()
    excess = min(mean - b["lengths"][g, i], 0) / max(mean, 1e-9)
    adv[i] += hp["length_coef"] * subset.mean() ** 2 * excess
  return adv


def dcbe(hp, b, g, accuracy, subset):
  adv = accuracy.copy()
  for i in np.flatnonzero(subset):
    mean = b["lengths"][g][subset].mean()
    rli = (mean - b["lengths"][g, i]) / (mean + hp["epsilon"])
    adv[i] += hp["length_coef"] * subset.mean() ** 2 * rli
  return adv


def oracle_of(group_advantage):
  def advantages(hp, b):
    adv = []
    for g, r in enumerate(b["rewards"]):
      accuracy = (r - r.mean()) / (r.std() + hp["epsilon"])
      adv.append(group_advantage(hp, b, g, accuracy, b["correct"][g] == 1))
    return np.stack(adv)

  def oracle(hp, b, logprobs, entropy):
    adv = b.once(advantages, hp)[..., None]
    ratio = np.exp(b.log_ratio(logprobs, "old_logprobs"))
    cut = np.clip(ratio, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
    x = b.log_ratio(logprobs, "ref_logprobs")
    tokens = -np.minimum(ratio * adv, cut * adv)
    tokens += hp["kl_coef"] * (np.exp(-x) - 1 + x)
    return b.token_mean(tokens - b["state"].get("entropy_coef", 0.0) * entropy)

  return oracle


# With constants at which every term is active.
ORACLES = {
    "dace": (oracle_of(dace), {"kl_coef": 0.3, "entropy_coef": 0.4}),
    "cag": (oracle_of(cag), {"kl_coef": 0.3}),
    "dcbe": (oracle_of(dcbe), {"kl_coef": 0.3, "entropy_coef": 0.4}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64, arrays):
  oracle, constants = ORACLES[name]
  # Rewards with a second part, so that rewards and correctness differ.
  bonus = np.linspace(-0.3, 0.0, 32).reshape(4, 8)
  arrays["rewards"] = (arrays["rewards"] + bonus).astype(np.float32)
  agrees_with_float64(catalog.make(name, **constants), oracle, arrays)
