"""The workloads are what the figures say they are."""

import dataclasses

import jax
import numpy as np
import pytest

from poise_jax.benchmarks import workloads

TINY = dataclasses.replace(
    workloads.W1,
    model=dataclasses.replace(
        workloads.W1.model,
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=0,  # as wide as the others make it
    ),
    prompts=2,
    group_size=2,
    prompt_tokens=3,
    new_tokens=4,
)


@pytest.fixture(scope="module")
def mesh():
  return workloads.make_mesh(TINY)


def test_the_workloads_are_what_they_are_called():
  w1, w2, w3 = workloads.W1, workloads.W2, workloads.W3
  assert (w1.prompts, w1.group_size, w1.rows) == (32, 8, 256)
  assert (w1.prompt_tokens, w1.new_tokens) == (32, 64)
  assert w2.rows == 64 and (w2.prompt_tokens, w2.new_tokens) == (32, 128)
  assert not w1.ends and not w2.ends and not w3.ends
  sizes = (w1.model.hidden_size, w1.model.intermediate_size)
  assert sizes == (128, 384) and w1.model.vocab_size == 512
  heads = (w1.model.num_attention_heads, w1.model.num_key_value_heads)
  assert heads == (4, 2) and w1.model.num_hidden_layers == 4
  assert w3.rows == 256 and w3.options.compute_dtype == "bfloat16"
  # Qwen2.5-1.5B: 1.54 billion weights, of them 0.23 in the embedding.
  model = w3.model
  layer = model.hidden_size * (2 * 1536 + 2 * 256 + 3 * model.intermediate_size)
  total = 28 * layer + 151936 * model.hidden_size
  assert total == pytest.approx(1.54e9, rel=0.01)


def test_every_completion_has_exactly_its_tokens(mesh):
  graphdef, params, prompts = workloads.start(TINY, mesh)
  run = workloads.make_rollout(TINY, graphdef)
  done = run(params, prompts, jax.random.key(0))
  np.testing.assert_array_equal(done.mask, np.ones((4, 4)))
  assert np.unique(done.tokens).size > 1


def test_skewed_completions_end_by_themselves(mesh):
  skewed = dataclasses.replace(TINY, ends=8, new_tokens=12, group_size=8)
  graphdef, params, prompts = workloads.start(skewed, mesh)
  run = workloads.make_rollout(skewed, graphdef)
  lengths = np.asarray(run(params, prompts, jax.random.key(0)).mask).sum(1)
  assert lengths.min() < 3 and np.unique(lengths).size > 2


def test_bfloat16_reaches_the_sampler(mesh):
  options = dataclasses.replace(TINY.options, compute_dtype="bfloat16")
  narrow = dataclasses.replace(TINY, options=options)
  graphdef, params, prompts = workloads.start(narrow, mesh)
  key = jax.random.key(0)
  found = workloads.make_rollout(narrow, graphdef)(params, prompts, key)
  exact = workloads.make_rollout(TINY, graphdef)(params, prompts, key)
  error = np.abs(found.logprobs - exact.logprobs)[
      np.asarray(found.tokens == exact.tokens)
  ]
  assert 0 < error.max() < 0.05


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_step_of_training_moves_the_policy(mesh, micro_batches):
  workload = dataclasses.replace(TINY, micro_batches=micro_batches)
  graphdef, params, prompts = workloads.start(workload, mesh)
  update, optimizer = workloads.make_update(workload, graphdef)
  key = jax.random.key(0)
  completions = workloads.make_rollout(workload, graphdef)(params, prompts, key)
  before = jax.tree.map(np.asarray, params)
  done = update(params, optimizer.init(params), prompts, completions)
  assert float(done.grad_norm) > 0 and float(done.skipped) == 0
  changed = jax.tree.map(lambda a, b: np.any(a != b), before, done.params)
  assert all(jax.tree.leaves(changed))
