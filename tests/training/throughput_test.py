"""Seconds add up, and FLOPs are counted or admitted to be unknown."""

import dataclasses
import os
import subprocess
import sys
import types

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.rollout import prompt_batches, scoring
from poise_jax.training import metrics, throughput


class Clock:

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_phases_add_up_and_the_step_holds_the_rest():
  clock = Clock()
  watch = throughput.Stopwatch(clock)
  for seconds in (2.0, 3.0):
    with watch.time("rollout"):
      clock.now += seconds
  clock.now += 1.0
  with watch.time("update"):
    clock.now += 4.0
  assert watch.lap() == {
      "time/rollout": 5.0,
      "time/update": 4.0,
      "time/step": 10.0,
  }
  clock.now += 7.0
  assert watch.lap() == {"time/step": 7.0}


def test_phases_can_be_merged_over_steps():
  clock = Clock()
  watch = throughput.Stopwatch(clock)
  with watch.time("rollout"):
    clock.now += 2.0
  assert watch.phases() == {"time/rollout": metrics.Fraction(2.0, 1.0)}
  mean = metrics.combine(
      [watch.phases(), {"time/rollout": metrics.Fraction(4.0, 1.0)}]
  )
  assert metrics.values(mean) == {"time/rollout": 3.0}


def test_a_phase_that_raises_is_charged():
  clock = Clock()
  watch = throughput.Stopwatch(clock)
  with pytest.raises(KeyError), watch.time("score"):
    clock.now += 2.0
    raise KeyError
  assert watch.lap()["time/score"] == 2.0


def test_the_real_clock_runs():
  watch = throughput.Stopwatch()
  with watch.time("update"):
    sum(range(1000))
  lap = watch.lap()
  assert 0 < lap["time/update"] <= lap["time/step"] < 60


def devices(*kinds):
  return [types.SimpleNamespace(device_kind=kind) for kind in kinds]


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v4", 275e12),
        ("TPU v6 lite", 918e12),
    ],
)
def test_mfu_is_the_share_of_the_published_peak(kind, peak):
  assert throughput.mfu(peak, 2.0, devices(kind)) == pytest.approx(0.5)
  eight = devices(*[kind] * 8)
  assert throughput.mfu(peak, 2.0, eight) == pytest.approx(0.5 / 8)


def test_the_peak_of_a_device():
  assert throughput.peak_flops("TPU v4") == 275e12
  assert throughput.peak_flops("cpu") is None


def test_mfu_is_not_guessed():
  assert throughput.mfu(1e12, 1.0, jax.devices("cpu")) is None
  assert throughput.mfu(1e12, 1.0, devices("NVIDIA H200", "mystery")) is None
  sliced = devices("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
  assert throughput.mfu(1e12, 1.0, sliced) is None


@pytest.mark.parametrize("seconds, count", [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_mfu_of_nothing_is_refused(seconds, count):
  with pytest.raises(ValueError, match="`seconds` must be positive"):
    throughput.mfu(1.0, seconds, devices(*["TPU v4"] * count))


def test_rates_by_canonical_names():
  found = throughput.rates(
      tokens=300.0, seconds=2.0, flops=275e12, devices=devices("TPU v4")
  )
  assert found == {"perf/tokens_per_second": 150.0, "perf/mfu": 0.5}
  on_cpu = throughput.rates(
      tokens=300.0, seconds=2.0, flops=1.0, devices=jax.devices("cpu")
  )
  assert on_cpu == {"perf/tokens_per_second": 150.0}
  assert set(throughput.rates(tokens=1.0, seconds=1.0)) == set(on_cpu)
  with pytest.raises(ValueError, match="`seconds` must be positive, got 0"):
    throughput.rates(tokens=1.0, seconds=0.0)


A, B = jnp.ones((64, 32)), jnp.ones((32, 16))
PRODUCT = 2 * 64 * 32 * 16


def product_flops(function, *args):
  return throughput.matmul_flops(jax.jit(function).trace(*args).jaxpr)


def test_a_product_counts_as_xla_counts_it():
  product = jax.jit(lambda a, b: a @ b)
  assert product.lower(A, B).compile().cost_analysis()["flops"] == PRODUCT
  assert product_flops(product, A, B) == PRODUCT
  batched = lambda a, b: jnp.einsum("nij,njk->nik", a, b)
  assert product_flops(batched, jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))) == (
      3 * 2 * 4 * 5 * 6
  )


def test_a_loop_is_counted_by_trips_or_not_at_all():
  def stack(x):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, length=10)[0]

  x = jnp.ones((8, 8))
  assert product_flops(stack, x) == 10 * 2 * 8**3
  # XLA sees one trip of ten.
  compiled = jax.jit(stack).lower(x).compile()
  assert compiled.cost_analysis()["flops"] < 2 * 2 * 8**3


def test_gradients_and_remat_are_counted_as_they_run():
  layer = lambda w, x: jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))
  w, x = jnp.ones((8, 8)), jnp.ones((4, 8))
  one = 2 * 4 * 8 * 8
  plain = product_flops(jax.grad(layer), w, x)
  # Two forward, two for weights, one for activations.
  assert plain == 5 * one
  remat = product_flops(jax.grad(jax.checkpoint(layer)), w, x)
  assert plain < remat <= 7 * one


def test_a_branch_is_its_dearest_and_an_endless_loop_is_unknown():
  x = jnp.ones((8, 8))
  one = 2 * 8**3
  branch = lambda x: jax.lax.cond(
      x[0, 0] > 0, lambda x: x @ x, lambda x: x @ x @ x, x
  )
  assert product_flops(branch, x) == 2 * one
  until = lambda x: jax.lax.while_loop(
      lambda c: c[0, 0] < 9, lambda c: c @ c, x
  )
  assert product_flops(until, x) is None
  nested = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, until, x)
  assert product_flops(nested, x) is None
  counting = lambda x: jax.lax.while_loop(lambda i: i < 9, lambda i: i + 1, x)
  assert product_flops(counting, 0) == 0.0


def test_a_policy_costs_two_flops_a_parameter_and_token(policy):
  rows = jax.ShapeDtypeStruct((4, 15), jnp.int32)
  forward = lambda p, rows: nnx.merge(policy.graphdef, p).hidden(rows)[0]
  counted = product_flops(forward, policy.params, rows)
  matrices = sum(x.size for x in jax.tree.leaves(policy.params) if x.ndim == 2)
  # Embeddings are looked up, attention comes on top.
  assert 0.5 * 2 * matrices * 60 < counted < 2 * 2 * matrices * 60


def test_what_a_policy_must_compute_is_what_the_program_does(policy):
  # One prompt of 7 tokens and its 3 completions of 5, nothing padded.
  shape = policy.config
  score = scoring.make_score_tokens(policy.graphdef)
  rows = scoring.Rows(
      prompt_batches.Prompts(np.zeros((1, 7), np.int32)),
      np.zeros((3, 5), np.int32),
      np.ones((3, 5), np.float32),
  )
  run = product_flops(score, policy.params, rows)
  needed = throughput.forward_flops(shape, 7.0, np.full(3, 5.0), 3)
  inner = shape.num_attention_heads * shape.head_dim
  attention = 4 * shape.num_hidden_layers * inner
  # The program sees what the mask hides: 7² and 3 · 4 · 11 pairs, not halves
  # and 3 · (35 + 12.5); and it need not read the last token of a completion.
  shown = attention * (49 + 3 * 4 * 11) - attention * (24.5 + 3 * 47.5)
  block = sum(
      x.size
      for x in jax.tree.leaves(nnx.to_pure_dict(policy.params)["layers"])
      if x.ndim == 2
  )
  assert run == needed + shown - 2 * block * 3


def test_passes_of_a_step(short_config):
  alone = dataclasses.replace(short_config, reference=False, epochs=2)
  assert throughput.passes(alone) == 7
  both = dataclasses.replace(short_config, recompute_old=True)
  assert throughput.passes(both) == 6
  # Of a single update the old policy's pass is its own.
  once = dataclasses.replace(both, minibatches=1)
  assert throughput.passes(once) == 5


_SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from poise_jax.training import throughput
mesh = Mesh(jax.devices(), ("data",))
place = lambda spec: NamedSharding(mesh, PartitionSpec(*spec))
product = jax.jit(lambda a, b: a @ b, in_shardings=(place(["data"]), place([])))
traced = product.trace(jnp.ones((64, 32)), jnp.ones((32, 16)))
whole = throughput.matmul_flops(traced.jaxpr)
share = traced.lower().compile().cost_analysis()["flops"]
assert (whole, share) == (2 * 64 * 32 * 16, 2 * 64 * 32 * 16 / 8), (whole, share)
"""


def test_a_sharded_program_is_counted_whole_and_compiled_by_device():
  eight = "--xla_force_host_platform_device_count=8"
  flags = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {eight}"}
  child = subprocess.run(
      [sys.executable, "-c", _SHARDED],
      env=os.environ | {"JAX_PLATFORMS": "cpu"} | flags,
      capture_output=True,
      text=True,
      check=False,
  )
  assert child.returncode == 0, child.stderr
