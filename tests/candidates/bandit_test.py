"""Losses that learn pass; losses that rest, or go the wrong way, do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import bandit, contract, probes

_SIZES = bandit.Sizes(
    probes.PROMPTS, probes.GROUP_SIZE, probes.TOKENS, probes.COMPONENTS
)


def _compiled(algorithm, batch):
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = jax.tree.map(jnp.asarray, algorithm.init(hparams))
  return contract.compile_step(algorithm, state, batch), hparams, state


@pytest.fixture(scope="module")
def batch():
  return probes.suite()["mixed"]


def _reach(name, batch):
  step, hparams, state = _compiled(catalog.make(name), batch)
  found = bandit.check(step, hparams, state, _SIZES)
  return bandit.train(step, hparams, state, _SIZES), found


def test_sizes_are_those_of_the_probes(batch):
  assert bandit.sizes_of(batch) == _SIZES


def test_grpo_solves_it_and_the_result_does_not_vary(batch):
  reached, found = _reach("grpo", batch)
  assert found == () and reached > 0.95
  assert _reach("grpo", batch)[0] == reached


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("zero_gradient", 0.5, 0.5), ("sign_flipped", 0.0, 0.1)],
)
def test_canaries_do_not(batch, name, low, high):
  reached, (finding,) = _reach(name, batch)
  assert low <= reached <= high
  assert (finding.level, finding.rule) == ("contract", "bandit")
  assert f"{reached:.2f}" in finding.message and finding.hint


def test_a_push_for_one_arm_is_no_learning(batch):
  # Makes likely what is likely, whatever the reward.
  def loss(hparams, state, batch):
    value = -(batch.logprobs * batch.completion_mask).sum()
    return value, state, {}

  mine = types.Algorithm("mine", {}, lambda hparams: {}, loss)
  assert bandit.check(*_compiled(mine, batch), _SIZES)


def test_nan_is_a_finding(batch):
  def loss(hparams, state, batch):
    return jnp.sqrt(-1.0 - batch.logprobs.sum() ** 2), state, {}

  mine = types.Algorithm("mine", {}, lambda hparams: {}, loss)
  (finding,) = bandit.check(*_compiled(mine, batch), _SIZES)
  assert "no number" in finding.message


def test_samples_are_batches_of_the_contract(batch):
  logits = np.array([-1.0, 0.0, 1.0, 2.0])
  drawn, arms = bandit.sample(logits, np.random.default_rng(0), _SIZES)
  kinds = lambda tree: [(x.shape, x.dtype.name) for x in jax.tree.leaves(tree)]
  assert kinds(drawn) == kinds(batch)
  chance = 1 / (1 + np.exp(-logits))[:, None]
  expected = np.log(np.where(arms > 0, chance, 1 - chance))
  np.testing.assert_allclose(drawn.logprobs[..., 0], expected, rtol=1e-5)
  assert not np.any(drawn.logprobs[..., 1:])
  np.testing.assert_allclose(drawn.entropy[1, :, 0], np.log(2.0), rtol=1e-6)


def test_gradient_of_the_table_by_finite_differences():
  logits, arms = np.array([-0.7, 1.3]), np.array(
      [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
  )
  weights, bonus = np.array([[0.3, -0.2, 0.5], [1.0, 0.1, -0.4]]), 0.7

  def loss(logits):
    p = (1 / (1 + np.exp(-logits)))[:, None]
    logp = np.log(np.where(arms > 0, p, 1 - p))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    return np.sum(weights * logp) + bonus * 3 * np.sum(entropy)

  gradients = (weights[..., None], np.full((2, 3, 1), bonus))
  got = bandit.pulled_back(gradients, logits, arms)
  for i in range(2):
    step = np.eye(2)[i] * 1e-5
    slope = (loss(logits + step) - loss(logits - step)) / 2e-5
    assert got[i] == pytest.approx(slope, rel=1e-6)


def test_exact_gradient_by_finite_differences():
  logits = np.array([-0.7, 1.3])

  def reward(logits):
    p = 1 / (1 + np.exp(-logits))
    # The first arm is better for prompt 0, the second for prompt 1.
    return np.mean(
        [p[0] * 0.2 + (1 - p[0]) * 0.8, p[1] * 0.8 + (1 - p[1]) * 0.2]
    )

  got = bandit.exact_gradient(logits)
  for i in range(2):
    step = np.eye(2)[i] * 1e-5
    slope = (reward(logits + step) - reward(logits - step)) / 2e-5
    assert got[i] == pytest.approx(slope, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [n for n in catalog.names() if catalog.describe(n).family != "canary"],
)
def test_every_member_solves_it(batch, name):
  reached, found = _reach(name, batch)
  assert found == () and reached > 0.85


@pytest.mark.parametrize("starts", [60, 500])
def test_a_schedule_has_its_time(batch, starts):
  def loss(hparams, state, batch):
    centered = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
    value = -(centered[..., None] * batch.logprobs * batch.completion_mask)
    return value.sum() * (batch.step >= starts), state, {}

  late = types.Algorithm("late", {}, lambda hparams: {}, loss)
  assert bandit.check(*_compiled(late, batch), _SIZES) == ()
