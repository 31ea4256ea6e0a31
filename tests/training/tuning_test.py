"""Adapters train, and nothing else: not in memory, not in a checkpoint."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.models import lora
from poise_jax.rollout import prompt_batches, scoring
from poise_jax.training import (
    checkpoint,
    environment,
    run,
    sinks,
    trainer,
    tuning,
)
from poise_jax.training import config as config_lib

OPTIONS = lora.LoraOptions(2, 8.0, ("q_proj", "down_proj"), seed=3)
STEPS = 3


@pytest.fixture(scope="module")
def make(policy, words):
  def make(**changes):
    settings = dict(
        steps=STEPS,
        prompts=4,
        group_size=4,
        epochs=1,
        minibatches=2,
        learning_rate=1e-2,
        lora=OPTIONS,
    )
    return trainer.make_trainer(
        policy.graphdef,
        policy.params,
        words,
        config_lib.TrainConfig(**(settings | changes)),
        jax.devices()[:1],
    )

  return make


@pytest.fixture(scope="module")
def made(make):
  return make()


@pytest.fixture(scope="module")
def train(made, policy, words):
  def train(workdir, **changes):
    return run.train(
        made,
        policy.params,
        catalog.make("grpo_adaptive_kl"),
        environment.arithmetic_environment(words, 0),
        run.RunConfig(checkpoint_every=1),
        workdir,
        fingerprint={"task": "arithmetic"},
        decode=words.decode,
        **changes,
    )

  return train


def _bytes(tree):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def base(policy):
  return _bytes(policy.params)


@pytest.fixture(scope="module")
def whole(train, base, tmp_path_factory):
  """After `base`, which are the bits before."""
  workdir = tmp_path_factory.mktemp("lora")
  return workdir, train(workdir)


def _values(workdir):
  clocks = ("time", "perf", "step_time")
  return [
      {k: v for k, v in r.values.items() if not k.startswith(clocks)}
      for r in sinks.read_jsonl(workdir / "metrics.jsonl")
  ]


def test_adapters_change_and_the_base_does_not(whole, made, policy, base):
  workdir, result = whole
  state = result.state
  model = nnx.merge(policy.graphdef, policy.params).config
  fresh = lora.init(model, OPTIONS, jax.random.key(3))
  assert jax.tree.structure(state.params) == jax.tree.structure(fresh)
  assert _bytes(state.params) != _bytes(fresh)
  for adapter in state.params.values():
    assert np.abs(adapter["lora_b"]).max() > 0
  assert _bytes(policy.params) == _bytes(state.frozen) == base
  # The optimizer knows adapters alone: two moments of each, and counts.
  moments = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
  assert moments == 2 * sum(x.size for x in jax.tree.leaves(fresh))
  # The policy is the sum, and the reference is what was frozen: no copy.
  merged = lora.merge(policy.params, state.params, OPTIONS)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      *(made.policy(state), merged),
  )
  assert made.reference(state, policy.params) is state.frozen[0]
  values = _values(workdir)
  assert all(v["skipped_updates"] == 0 and v["grad_norm"] > 0 for v in values)
  assert values[-1]["kl"] > 0


def test_a_checkpoint_has_adapters_and_no_base(whole):
  with checkpoint.read(whole[0] / "checkpoints") as checkpoints:
    record = checkpoints.record(STEPS)
  names = [n for n in record.leaves if n.startswith("['params']")]
  assert len(names) == 2 * len(whole[1].state.params)
  assert all("lora_" in name for name in names)
  assert record.fingerprint["--config.train"]["lora"]["rank"] == 2


def test_interrupted_it_continues_with_the_same_bits(train, whole, tmp_path):
  class PowerCutError(Exception):
    pass

  def cut(step, values):
    raise PowerCutError

  with pytest.raises(PowerCutError):
    train(tmp_path, on_step=cut)
  started = []
  result = train(tmp_path, on_start=started.append)
  assert started == [1]
  assert _bytes(result.state) == _bytes(whole[1].state)
  assert _values(tmp_path) == _values(whole[0])


def test_other_adapters_are_another_run(make, whole, policy, words):
  options = lora.LoraOptions(4, 8.0, ("q_proj", "down_proj"), seed=3)
  with pytest.raises(ValueError, match="--config.train.lora.rank is 2 there"):
    run.train(
        make(lora=options),
        policy.params,
        catalog.make("grpo_adaptive_kl"),
        environment.arithmetic_environment(words, 0),
        run.RunConfig(checkpoint_every=1),
        whole[0],
        fingerprint={"task": "arithmetic"},
        decode=words.decode,
    )


def test_gradients_of_adapters_follow_from_those_of_the_kernel(made, policy):
  """W = W₀ + s A B, so dL/dA = s dL/dW Bᵀ and dL/dB = s Aᵀ dL/dW."""
  model = nnx.merge(policy.graphdef, policy.params).config
  ours = tuning.make(model, policy.params, OPTIONS, made.mesh)
  score = scoring.make_score_tokens(policy.graphdef)
  tuned = tuning.make_score(ours, score)
  rows = scoring.Rows(
      prompt_batches.Prompts(jnp.ones((1, 3), jnp.int32)),
      jnp.arange(4, dtype=jnp.int32).reshape(2, 2) + 3,
      jnp.ones((2, 2)),
  )
  adapters = jax.tree.map(
      lambda x: x + 0.1, ours.begin(made.place(policy.params))
  )
  merged = lora.merge(policy.params, adapters, OPTIONS)
  total = lambda scores: scores.logprobs.sum()
  found = jax.grad(lambda a: total(tuned(a, rows, policy.params)))(adapters)
  whole = jax.grad(lambda p: total(score(p, rows)))(merged)
  for name in ("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"):
    _, layer, module, projection = name.split(".")
    kernel = whole["layers"][int(layer)][module][projection]["kernel"][...]
    a, b = adapters[name]["lora_a"], adapters[name]["lora_b"]
    close = dict(rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[name]["lora_a"], 4 * kernel @ b.T, **close)
    np.testing.assert_allclose(found[name]["lora_b"], 4 * a.T @ kernel, **close)


def test_without_adapters_every_weight_trains(made, policy):
  model = nnx.merge(policy.graphdef, policy.params).config
  ours = tuning.make(model, policy.params, None, made.mesh)
  assert ours.frozen == () and ours.keep(policy.params) == ()
  assert ours.merge(policy.params) is policy.params
  copied = ours.begin(policy.params)
  assert _bytes(copied) == _bytes(policy.params)
  for a, b in zip(
      jax.tree.leaves(copied), jax.tree.leaves(policy.params), strict=True
  ):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


def test_shapes_know_their_place(made, policy):
  where = jax.tree.map(lambda x: x.sharding, made.place(policy.params))
  found = tuning.in_place(policy.params, where)
  for leaf, shape in zip(
      jax.tree.leaves(policy.params), jax.tree.leaves(found), strict=True
  ):
    assert isinstance(shape, jax.ShapeDtypeStruct)
    assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
    assert shape.sharding.mesh == made.mesh
