"""One step is the same step, however it is cut."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding, types
from poise_jax.algorithms import catalog
from poise_jax.rollout import generate, scoring
from poise_jax.training import config as config_lib
from poise_jax.training import environment, trainer

SHORT = dict(
    steps=3,
    prompts=8,
    group_size=4,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def make(policy, words):
  def make(**changes):
    return trainer.make_trainer(
        policy.graphdef,
        policy.params,
        words,
        config_lib.TrainConfig(**(SHORT | changes)),
        jax.devices()[:1],
    )

  return make


@pytest.fixture(scope="module")
def made(make):
  return make()


@pytest.fixture(scope="module")
def task(words):
  return environment.arithmetic_environment(words, 0)


def _run(made, policy, task, algorithm, steps):
  """States before and after each step, and what each step gave."""
  state = made.start(policy.params, algorithm, task)
  reference = made.place(policy.params) if made.config.reference else None
  results = []
  for _ in range(steps):
    results.append(made.step(state, reference, algorithm, task, 0))
    state = results[-1].state
  return results


def _host(tree):
  return [np.asarray(x) for x in jax.tree.leaves(tree)]


def _moments(result):
  return [x for x in _host(result.state.opt_state) if x.ndim]


@pytest.fixture(scope="module")
def two_steps(made, policy, task):
  return _run(made, policy, task, catalog.make("grpo_adaptive_kl"), 2)


def test_what_a_step_carries(two_steps, made):
  first, second = two_steps
  assert (first.state.step, second.state.step) == (1, 2)
  assert first.state.position.index == 1 and second.state.position.index == 2
  assert (first.rollout.version, second.rollout.version) == (0, 4)
  assert first.state.history.seen.sum() == 32
  assert second.state.history.seen.sum() == 64
  assert len(first.columns["loss"]) == made.config.updates
  assert first.state.skipped == 0


def test_micro_batches_give_the_same_step(make, policy, task, assert_near):
  algorithm = catalog.make("grpo_adaptive_kl")
  first = lambda parts: _run(
      make(micro_batches=parts, epochs=1, minibatches=1),
      *(policy, task, algorithm, 1),
  )[0]
  whole, cut = first(1), first(4)
  np.testing.assert_array_equal(whole.rollout.rows[1], cut.rollout.rows[1])
  assert_near(_moments(cut), _moments(whole))
  for name, column in whole.columns.items():
    np.testing.assert_allclose(cut.columns[name], column, atol=1e-5)


def _breaking(updates):
  """GRPO with a state, whose gradient is NaN in some updates."""
  grpo = catalog.make("grpo")

  def loss(hparams, state, batch):
    value, _, _ = grpo.loss({**grpo.hparams}, {}, batch)
    count = state["count"]
    bad = jnp.isin(count, jnp.array(updates, jnp.float32))
    poison = jnp.where(bad & (batch.step == 0), jnp.nan, 0.0)
    count = count + 1.0
    return value + poison * jnp.mean(batch.logprobs), {"count": count}, {}

  init = lambda hparams: {"count": jnp.float32(0)}
  return types.Algorithm("breaking", {}, init, loss)


def test_an_update_that_is_not_finite_changes_nothing(made, policy, task):
  # The third of four updates, and the fourth, for the count stands still.
  results = _run(made, policy, task, _breaking([2.0]), 2)
  first, second = results
  assert first.columns["skipped"] == [0.0, 0.0, 1.0, 1.0]
  assert np.isnan(first.columns["grad_norm"]).tolist() == [0, 0, 1, 1]
  assert first.state.skipped == second.state.skipped == 2
  assert float(first.state.algorithm_state["count"]) == 2.0
  # The run goes on, and versions count the updates that were made.
  assert second.columns["skipped"] == [0.0] * 4
  assert float(second.state.algorithm_state["count"]) == 6.0
  assert second.rollout.version == 2
  assert all(np.isfinite(x).all() for x in _host(second.state.params))
  # Adam has counted the updates that were made.
  counts = [x for x in _host(second.state.opt_state) if x.ndim == 0]
  assert counts and {int(x) for x in counts} == {6}


def test_nothing_compiles_after_the_first_step(made, policy, task, two_steps):
  compiled = []

  def count(event, seconds, fun_name="", **details):
    if event.endswith("backend_compile_duration"):
      compiled.append(fun_name)

  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    _run(made, policy, task, catalog.make("grpo_adaptive_kl"), 3)
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert compiled == []


def test_flops_of_a_step_by_hand(made, policy, task):
  state = made.start(policy.params, catalog.make("grpo"), task)
  done = made.step(state, None, catalog.make("grpo"), task, 0)
  model = nnx.merge(policy.graphdef, policy.params).config
  width, inner = model.hidden_size, model.intermediate_size
  kv = model.num_key_value_heads * model.head_dim
  weights = model.num_hidden_layers * (
      2 * width * (width + kv) + 3 * width * inner
  )
  lengths = done.rollout.grades.lengths
  tokens = 8 * 15 + lengths.sum()
  # Weights alone: attention and the head come on top.
  least = 2 * weights * tokens
  assert least < made.flops(done.rollout) / 7 < 2 * least


def test_a_mesh_that_does_not_fit_is_refused(policy, words):
  settings = lambda **mesh: config_lib.TrainConfig(
      **(SHORT | {"prompts": 12}), mesh=sharding.MeshConfig(**mesh)
  )
  for mesh, flag in (({"data": 2}, "data=2"), ({"tensor": 3}, "tensor=3")):
    with pytest.raises(ValueError, match=f"--config.mesh.{flag}"):
      trainer.make_trainer(
          policy.graphdef,
          policy.params,
          words,
          settings(**mesh),
          jax.devices()[:1],
      )


def test_on_policy_the_update_scores_the_old_policy(make, policy, task):
  """No pass of its own, and to rounding what that pass would give."""
  made = make(recompute_old=True, reference=False, epochs=1, minibatches=1)
  state = made.start(policy.params, catalog.make("grpo"), task)
  found = made.step(state, None, catalog.make("grpo"), task, 0)
  assert "time/score" not in found.times and "time/update" in found.times
  score = scoring.make_score_tokens(policy.graphdef)
  alone = jax.jit(score)(policy.params, found.rollout.rows).logprobs
  old = found.rollout.batch.old_logprobs
  np.testing.assert_allclose(old, alone.reshape(old.shape), atol=1e-6)
  np.testing.assert_array_equal(old, found.rollout.batch.ref_logprobs)
  # It is not the sampler's, and the policy has not moved away from it.
  assert np.abs(old - found.rollout.batch.sampler_logprobs).max() > 0
  ratio = found.metrics["ratio/mean_abs_log"]
  assert (
      ratio.total == 0.0 and ratio.count == found.rollout.grades.lengths.sum()
  )
  assert found.metrics["mismatch/abs_max"].extreme > 0


def test_temperature_reaches_sampling_and_training(make, policy, task):
  made = make(temperature=2.0, recompute_old=True, reference=False, epochs=1)
  state = made.start(policy.params, catalog.make("grpo"), task)
  found = made.step(state, None, catalog.make("grpo"), task, 0).rollout.batch
  # The trainer's own pass agrees with the sampler, at a higher entropy.
  np.testing.assert_allclose(
      found.old_logprobs, found.sampler_logprobs, atol=1e-4
  )
  plain = make(reference=False, epochs=1)
  state = plain.start(policy.params, catalog.make("grpo"), task)
  cooler = plain.step(state, None, catalog.make("grpo"), task, 0).rollout.batch
  mean = lambda batch: float(
      batch.sampler_logprobs.sum() / batch.completion_mask.sum()
  )
  assert mean(found) < mean(cooler) - 0.1


def test_long_completions_in_stretches_train_the_same(
    make, policy, task, assert_near
):
  results = []
  for schedule in (
      generate.Schedule(),
      generate.Schedule(segment=8, prompts_at_once=4),
  ):
    made = make(schedule=schedule, reference=False, epochs=1, minibatches=1)
    state = made.start(policy.params, catalog.make("grpo"), task)
    done = made.step(state, None, catalog.make("grpo"), task, 0)
    results.append(done)
  one, other = results
  np.testing.assert_array_equal(
      one.rollout.rows.tokens, other.rollout.rows.tokens
  )
  assert_near(_moments(other), _moments(one))
