"""One step is the same step on any mesh, and in any number of processes."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest

SHORT = dict(
    steps=3,
    prompts=8,
    group_size=4,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
)

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
  reference = made.reference(state, policy.params)
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
  env = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flag}"}
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


def _assert_close(found, expected, assert_near):
  """To 1e-5, where the same tokens were sampled."""
  assert found["tokens"] == expected["tokens"]
  for ours, theirs in zip(found["values"], expected["values"], strict=True):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
      assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
  assert_near(found["moments"], expected["moments"])


ONE = dict(SHORT, prompts=16, epochs=1, minibatches=1)


def test_a_mesh_changes_nothing_and_compiles_once(assert_near):
  plain, split = _children(
      [[(1, 1, 1), 1, 1], [(2, 2, 2), 1, 2]], ONE | {"prompts": 8}
  )
  compiled = split.pop("compiled")
  split["values"], split["tokens"] = split["values"][:1], split["tokens"][:1]
  _assert_close(split, plain, assert_near)
  assert compiled == []


@pytest.mark.slow
def test_micro_batches_and_meshes_change_nothing(assert_near):
  shapes = [(1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2)]
  cases = [[(1, 1, 1), parts, 1] for parts in (1, 2, 4)]
  cases += [[shape, parts, 1] for shape in shapes[1:] for parts in (1, 2)]
  plain, *others = _children(cases, ONE)
  assert len(others) == len(cases) - 1
  for other in others:
    _assert_close(other, plain, assert_near)


@pytest.mark.slow
def test_adapters_on_a_mesh_learn_the_same(assert_near):
  lora = {"rank": 2, "alpha": 4.0, "targets": ["q_proj", "down_proj"]}
  plain, split = _children(
      [[(1, 1, 1), 1, 1], [(2, 2, 2), 1, 1]], ONE | {"lora": lora}
  )
  _assert_close(split, plain, assert_near)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_several_updates_of_a_step_compile_once_on_a_mesh(micro_batches):
  arguments = SHORT | {"minibatches": 2, "sampling_attempts": 2, "prompts": 16}
  cases = [[(2, 2, 1), micro_batches, 3], [(1, 1, 1), micro_batches, 3]]
  for found in _children(cases, arguments):
    assert found["compiled"] == []


@pytest.mark.slow
def test_two_processes_do_what_one_does(assert_near):
  (plain,) = _children([[(1, 1, 1), 1, 1]], ONE)
  for case in ([(2, 1, 1), 1, 1], [(1, 2, 1), 2, 1]):
    (found,) = _children([case], ONE, processes=2, devices=1)
    _assert_close(found, plain, assert_near)
