"""Training: deterministic, idle without gradient, compiled once, honest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.training import config, loop, optimizer


def _same(a, b):
  return all(
      jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))
  )


@pytest.fixture(scope="module")
def trained(train, policy):
  return train(policy.params, catalog.make("grpo"), 0)


def test_the_same_arguments_give_the_same_bits(train, policy, trained):
  again = train(policy.params, catalog.make("grpo"), 0)
  assert _same(again.params, trained.params)
  assert again.curve == trained.curve


def test_seeds_differ(train, policy, trained):
  other = train(policy.params, catalog.make("grpo"), 1)
  assert not _same(other.params, trained.params)
  assert other.curve["reward"] != trained.curve["reward"]


def test_zero_gradient_changes_nothing(train, policy):
  result = train(policy.params, catalog.make("zero_gradient"), 0)
  assert _same(result.params, policy.params)
  assert result.curve["grad_norm"] == [0.0, 0.0]
  assert result.curve["kl"] == [0.0, 0.0]


def test_the_curve_has_a_value_a_step_by_canonical_names(trained):
  names = {
      "reward",
      "reward_std",
      "frac_reward_zero_std",
      "frac_groups_all_fail",
      "frac_groups_all_pass",
      "valid_rate",
      "completions/mean_length",
      "completions/clipped_ratio",
      "entropy",
      "kl",
      "loss",
      "grad_norm",
  }
  assert names <= set(trained.curve)
  assert {len(values) for values in trained.curve.values()} == {2}
  assert trained.diverged == ""


def test_a_new_algorithm_does_not_compile_the_policy_again(train, policy):
  train(policy.params, catalog.make("grpo"), 0)
  compiled = []

  def count(event, seconds, fun_name="", **details):
    if event.endswith("backend_compile_duration"):
      compiled.append(fun_name)

  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    train(policy.params, catalog.make("dapo"), 0)
    train(policy.params, catalog.make("dapo", clip_eps_high=0.5), 1)
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert compiled == ["jit(differentiate)"]


def _breaking_at_second_rollout(kind):
  def loss(hparams, state, batch):
    broken = jnp.where(batch.step == 1, jnp.float32(kind), 0.0)
    return jnp.mean(batch.logprobs) + broken, state, {}

  return types.Algorithm("breaking", {}, lambda hparams: {}, loss)


@pytest.mark.parametrize("kind", [np.nan, np.inf])
def test_a_loss_that_breaks_ends_the_run_with_a_reason(train, policy, kind):
  result = train(policy.params, _breaking_at_second_rollout(kind), 0)
  assert result.diverged == "non-finite loss at step 1"
  assert {len(values) for values in result.curve.values()} == {1}
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.params))


def _counting():
  def loss(hparams, state, batch):
    return (
        jnp.sum(batch.logprobs) * 0.0,
        {"updates": state["updates"] + 1},
        {"updates": state["updates"], "staleness": jnp.max(batch.staleness)},
    )

  init = lambda hparams: {"updates": jnp.float32(hparams["first"])}
  return types.Algorithm("counting", {"first": 10.0}, init, loss)


def test_algorithm_state_is_carried_and_staleness_told(train, policy):
  curve = train(policy.params, _counting(), 0).curve
  # Two updates a step, counted from 10; staleness restarts with each rollout.
  assert curve["updates"] == [10.5, 12.5]
  assert curve["staleness"] == [0.5, 0.5]


def test_the_batch_holds_what_it_says(train, policy):
  def loss(hparams, state, batch):
    mask, valid = batch.completion_mask, batch.format_valid
    metrics = {
        "lengths": jnp.max(jnp.abs(batch.lengths - mask.sum(-1))),
        "masked": jnp.max(jnp.abs(batch.logprobs * (1 - mask))),
        "on_policy": jnp.max(
            jnp.abs(batch.logprobs - batch.old_logprobs)
            * (batch.staleness[..., None] == 0)
        ),
        "correct_and_invalid": jnp.sum(batch.correct * (1 - valid)),
        "components": jnp.max(jnp.abs(batch.reward_components[..., 1] - valid)),
        "progress": batch.progress,
        "history": jnp.min(batch.history_pass_rate),
    }
    return jnp.mean(batch.logprobs), state, metrics

  probe = types.Algorithm("probe", {}, lambda hparams: {}, loss)
  curve = train(policy.params, probe, 0).curve
  assert curve["lengths"] == curve["masked"] == [0.0, 0.0]
  assert max(curve["on_policy"]) < 2e-5
  assert curve["correct_and_invalid"] == curve["components"] == [0.0, 0.0]
  assert curve["progress"] == [0.0, 0.5]
  assert curve["history"][0] == 0.5 != curve["history"][1]


def test_an_algorithm_cannot_report_in_our_name(train, policy):
  def loss(hparams, state, batch):
    forged = {"reward": 9.0, "kl": 9.0, "loss": 9.0, "own": jnp.nan}
    metrics = {name: jnp.float32(value) for name, value in forged.items()}
    return jnp.sum(batch.logprobs) * 0.0, state, metrics

  forger = types.Algorithm("forger", {}, lambda hparams: {}, loss)
  result = train(policy.params, forger, 0)
  assert max(result.curve["reward"]) <= 1.0
  assert result.curve["kl"] == result.curve["loss"] == [0.0, 0.0]
  assert "own" not in result.curve
  assert result.diverged == ""


def test_steps_are_reported(train, policy):
  seen = []
  train(policy.params, catalog.make("grpo"), 0, seen.append)
  assert seen == [1, 2]


def test_a_group_is_never_split():
  with pytest.raises(ValueError, match="`prompts` must be a multiple"):
    config.TrainConfig(
        steps=1,
        prompts=5,
        group_size=2,
        epochs=1,
        minibatches=2,
        learning_rate=1.0,
    )


def test_the_learning_rate_falls_to_its_end(short_config):
  adam = optimizer.make_optimizer(short_config)
  params = {"w": jnp.zeros(())}
  state = adam.init(params)
  sizes = []
  for _ in range(short_config.steps * short_config.minibatches + 1):
    updates, state = adam.update({"w": jnp.ones(())}, state, params)
    sizes.append(-float(updates["w"]))
  # Adam of a constant gradient moves by the learning rate.
  assert sizes[0] == pytest.approx(1e-3, rel=1e-3)
  assert sizes[-1] == pytest.approx(1e-4, rel=1e-3)


def test_a_sampler_that_lags_is_stale_by_its_updates(train, policy):
  late = train(policy.params, _counting(), 0, hardship=loop.Hardship(lag=1))
  # Two updates a step: at the second the sampler is the first policy still.
  assert late.curve["staleness"] == [0.5, 2.5]
  assert late.curve["updates"] == [10.5, 12.5]


def test_only_rollouts_that_had_an_earlier_policy_change(
    train, policy, trained
):
  grpo = catalog.make("grpo")
  late = train(policy.params, grpo, 0, hardship=loop.Hardship(lag=1))
  assert late.curve["reward"][0] == trained.curve["reward"][0]
  assert late.curve["loss"][0] == trained.curve["loss"][0]
  # The new policy is further from one that has not seen the first rollout.
  moved = "ratio/mean_abs_log"
  assert late.curve[moved][0] == trained.curve[moved][0]
  assert late.curve[moved][1] > 2 * trained.curve[moved][1] > 0
  # Two steps never reach further back than one.
  later = train(policy.params, grpo, 0, hardship=loop.Hardship(lag=5))
  assert _same(later.params, late.params)
  assert later.curve == late.curve


def test_lag_below_zero_is_refused(train, policy):
  with pytest.raises(ValueError, match="`lag` must be at least 0"):
    train(policy.params, catalog.make("grpo"), 0, hardship=loop.Hardship(-1))


def test_a_verifier_that_errs_always_turns_rewards_round(
    train, policy, trained
):
  grpo = catalog.make("grpo")
  flipped = loop.Hardship(flip=lambda correct, seed, step: 1 - correct)
  found = train(policy.params, grpo, 0, hardship=flipped)
  first = trained.curve["reward"][0]
  assert 0 < first < 1
  assert found.curve["reward"][0] == pytest.approx(1 - first)
  kept = loop.Hardship(flip=lambda correct, seed, step: correct)
  again = train(policy.params, grpo, 0, hardship=kept)
  assert again.curve == trained.curve


def test_hardship_compiles_nothing(train, policy):
  grpo = catalog.make("grpo")
  train(policy.params, grpo, 0)
  compiled = []

  def count(event, seconds, fun_name="", **details):
    if event.endswith("backend_compile_duration"):
      compiled.append(fun_name)

  flip = lambda correct, seed, step: 1 - correct
  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    train(policy.params, grpo, 0, hardship=loop.Hardship(2, flip))
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert compiled == []
