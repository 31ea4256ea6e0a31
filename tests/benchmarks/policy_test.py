import dataclasses

import jax
import numpy as np
import pytest

from poise_jax.benchmarks import policy

TINY = dataclasses.replace(
    policy.W1,
    model=dataclasses.replace(
        policy.W1.model,
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    ),
    prompts=2,
    group_size=2,
    prompt_tokens=3,
    new_tokens=4,
)


def test_the_workloads_are_what_they_are_called():
  assert (policy.W1.prompts, policy.W1.group_size) == (32, 8)
  assert (policy.W1.prompt_tokens, policy.W1.new_tokens) == (32, 64)
  assert policy.W2.prompts * policy.W2.group_size == 64
  assert (policy.W2.prompt_tokens, policy.W2.new_tokens) == (32, 128)
  model = policy.W1.model
  sizes = (model.hidden_size, model.intermediate_size, model.vocab_size)
  assert sizes == (128, 384, 512)
  heads = (model.num_attention_heads, model.num_key_value_heads)
  assert heads == (4, 2) and model.num_hidden_layers == 4


def test_every_completion_has_exactly_its_tokens():
  graphdef, params, prompts = policy.start(TINY)
  done = policy.make_rollout(TINY, graphdef)(params, prompts, jax.random.key(0))
  np.testing.assert_array_equal(done.mask, np.ones((4, 4)))
  assert np.unique(done.tokens).size > 1


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_step_of_training_moves_the_policy(micro_batches):
  workload = dataclasses.replace(TINY, micro_batches=micro_batches)
  graphdef, params, prompts = policy.start(workload)
  update, optimizer = policy.make_update(workload, graphdef)
  key = jax.random.key(0)
  completions = policy.make_rollout(workload, graphdef)(params, prompts, key)
  before = jax.tree.map(np.asarray, params)
  done = update(params, optimizer.init(params), prompts, completions)
  assert float(done.grad_norm) > 0 and float(done.skipped) == 0
  changed = jax.tree.map(lambda a, b: np.any(a != b), before, done.params)
  assert all(jax.tree.leaves(changed))


def test_figures_of_both_suites():
  found = policy.run_train(TINY, 2)
  assert len(found["step_seconds_all"]) == 2
  assert found["step_seconds"] > 0 and found["first_seconds"] > 0
  # 1 layer: 8 x 8 q and o, 8 x 4 k and v, 3 x 8 x 8 MLP; head 8 x 16. Three
  # passes over 2 x 3 prompt and 4 x 4 new tokens, 2 FLOPs each.
  weights = 2 * 64 + 2 * 32 + 3 * 64 + 128
  assert found["update_flops"] == 2 * 3 * weights * (6 + 16)
  assert "mfu" not in found  # no peak is known for a CPU
  alone = policy.run_rollout(TINY, 2)
  assert alone["tokens_per_second"] == pytest.approx(
      16 / alone["rollout_seconds"]
  )
  assert "rollout_seconds " in policy.table(alone)
