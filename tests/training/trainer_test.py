"""One step is the same step, however it is cut and wherever it runs."""

import json
import os
import socket
import subprocess
import sys
import textwrap

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


# As a child with its own devices: what `steps` many steps on a mesh give.
MESH = """
import json, sys
import jax, numpy as np
from poise_jax import sharding
from poise_jax.algorithms import catalog
from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer
from poise_jax.training import config, environment, metrics, trainer

shapes, arguments, process = json.loads(sys.argv[1])
if process:
  sharding.start_processes(*process)
base = trial.base_directory(trial.EMBEDDED)
policy, words = checkpoints.load(base), tokenizer.load(base)
task = environment.arithmetic_environment(words, 0)
algorithm = catalog.make("grpo_adaptive_kl")
for shape, micro_batches, steps in shapes:
  mesh = sharding.MeshConfig(*shape)
  settings = config.TrainConfig(
      **arguments, micro_batches=micro_batches, mesh=mesh)
  compiled = []
  def count(event, seconds, fun_name="", **details):
    if event.endswith("backend_compile_duration"):
      compiled.append(fun_name)
  made = trainer.make_trainer(
      policy.graphdef, policy.params, words, settings,
      None if process else jax.devices()[:mesh.size])
  state = made.start(policy.params, algorithm, task)
  reference = made.place(policy.params)
  steps_values, tokens = [], []
  for step in range(steps):
    if step == 1:
      jax.monitoring.register_event_duration_secs_listener(count)
    result = made.step(state, reference, algorithm, task, 0)
    state = result.state
    steps_values.append(metrics.values(result.metrics))
    tokens.append(sharding.fetch(result.rollout.rows.tokens).tolist())
    if step == 0:
      # Adam's first moment is the gradient, times a constant.
      moments = [
          sharding.fetch(x) for x in jax.tree.leaves(state.opt_state)
          if np.ndim(x) > 0]
  if steps > 1:
    jax.monitoring.unregister_event_duration_listener(count)
  params = sharding.fetch(state.params)
  if sharding.is_writer():
    print(json.dumps({
        "values": steps_values,
        "tokens": tokens,
        "params": [x.ravel().tolist() for x in jax.tree.leaves(params)],
        "moments": [x.ravel().tolist() for x in moments],
        "compiled": compiled,
    }))
"""


def _children(cases, arguments, processes=1, devices=8):
  """Runs MESH in processes of its own; what the first one printed."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  flag = f"--xla_force_host_platform_device_count={devices}"
  env = os.environ | {"XLA_FLAGS": f"{flag} --xla_backend_optimization_level=0"}
  started = [
      subprocess.Popen(
          [
              *(sys.executable, "-c", textwrap.dedent(MESH)),
              json.dumps(
                  [
                      cases,
                      arguments,
                      [f"127.0.0.1:{port}", processes, index]
                      if processes > 1
                      else None,
                  ]
              ),
          ],
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
          env=env,
      )
      for index in range(processes)
  ]
  try:
    said = [child.communicate(timeout=550) for child in started]
  finally:
    for child in started:
      child.kill()
  for child, (_, stderr) in zip(started, said, strict=True):
    assert child.returncode == 0, stderr
  # Gloo speaks on stdout, too.
  lines = said[0][0].splitlines()
  return [json.loads(line) for line in lines if line.startswith("{")]


def _assert_close(found, expected):
  """To 1e-5, where the same tokens were sampled."""
  assert found["tokens"] == expected["tokens"]
  for ours, theirs in zip(found["values"], expected["values"], strict=True):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
      assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
  for a, b in zip(found["moments"], expected["moments"], strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


ONE = dict(SHORT, prompts=16, epochs=1, minibatches=1)


def test_a_mesh_changes_nothing_and_compiles_once():
  plain, split = _children(
      [[(1, 1, 1), 1, 1], [(2, 2, 2), 1, 2]], ONE | {"prompts": 8}
  )
  compiled = split.pop("compiled")
  split["values"], split["tokens"] = split["values"][:1], split["tokens"][:1]
  _assert_close(split, plain)
  # Gradients are small: to 1e-5 of the largest entry. It is not of each array's
  # own, for the gradient of a key's bias is nothing but rounding. Sums in
  # another order differ by 2e-6 here, a shard that is lost or counted twice by
  # its share of the whole.
  largest = max(np.abs(x).max() for x in plain["moments"])
  for a, b in zip(split["moments"], plain["moments"], strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)
  assert compiled == []


@pytest.mark.slow
def test_micro_batches_and_meshes_change_nothing():
  shapes = [(1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2)]
  cases = [[(1, 1, 1), parts, 1] for parts in (1, 2, 4)]
  cases += [[shape, parts, 1] for shape in shapes[1:] for parts in (1, 2)]
  plain, *others = _children(cases, ONE)
  assert len(others) == len(cases) - 1
  for other in others:
    _assert_close(other, plain)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_several_updates_of_a_step_compile_once_on_a_mesh(micro_batches):
  arguments = SHORT | {"minibatches": 2, "sampling_attempts": 2, "prompts": 16}
  cases = [[(2, 2, 1), micro_batches, 3], [(1, 1, 1), micro_batches, 3]]
  for found in _children(cases, arguments):
    assert found["compiled"] == []


@pytest.mark.slow
def test_two_processes_do_what_one_does():
  (plain,) = _children([[(1, 1, 1), 1, 1]], ONE)
  for case in ([(2, 1, 1), 1, 1], [(1, 2, 1), 2, 1]):
    (found,) = _children([case], ONE, processes=2, devices=1)
    _assert_close(found, plain)


def test_micro_batches_give_the_same_step(make, policy, task):
  algorithm = catalog.make("grpo_adaptive_kl")
  first = lambda parts: _run(
      make(micro_batches=parts, epochs=1, minibatches=1),
      *(policy, task, algorithm, 1),
  )[0]
  whole, cut = first(1), first(4)
  np.testing.assert_array_equal(whole.rollout.rows[1], cut.rollout.rows[1])
  for a, b in zip(
      _host(whole.state.opt_state), _host(cut.state.opt_state), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)
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


def test_long_completions_in_stretches_train_the_same(make, policy, task):
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
  for a, b in zip(
      _host(one.state.opt_state), _host(other.state.opt_state), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)
