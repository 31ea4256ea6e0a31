"""One artifact on eight devices and over many seeds."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_CODE = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
from poise_jax import sharding
from poise_jax.algorithms import catalog
from poise_jax.candidates import artifact, limits, probes, tracing

assert len(jax.devices()) == 8
source = catalog.source("grpo_adaptive_kl")
data = tracing.trace(source, limits.Limits(), group_size=4)
algorithm = artifact.load(data, "mine")
hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
state = algorithm.init(hparams)

def step(hparams, state, fields):
  def objective(logprobs):
    batch = dataclasses.replace(types(fields), logprobs=logprobs)
    loss, new_state, _ = algorithm.loss(hparams, state, batch)
    return loss, new_state
  return jax.value_and_grad(objective, has_aux=True)(fields["logprobs"])

def types(fields):
  from poise_jax import types
  return types.RolloutBatch(**fields)

batch = probes.suite(8, 4, 12, 2)["off_policy"]
fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
(value, kept), slope = jax.jit(step)(hparams, state, fields)

# Sharded by prompt, as the trainer does.
mesh = sharding.make_mesh(sharding.MeshConfig(data=4, fsdp=2))
axes = {k: ("prompt",) if np.ndim(v) else () for k, v in fields.items()}
spread = {
    k: jax.device_put(v, jax.NamedSharding(mesh, sharding.spec(*axes[k])))
    for k, v in fields.items()
}
assert len(spread["logprobs"].sharding.device_set) == 8
everywhere = jax.NamedSharding(mesh, sharding.spec())
with jax.set_mesh(mesh):
  (value8, kept8), slope8 = jax.jit(step)(
      *jax.device_put((hparams, state), everywhere), spread
  )
np.testing.assert_allclose(value8, value, rtol=1e-5)
np.testing.assert_allclose(slope8, slope, rtol=1e-4, atol=1e-8)
for name in kept:
  np.testing.assert_allclose(kept8[name], kept[name], rtol=1e-5)

# Over seeds, by lax.map: each with hparams, state and batch of its own.
def stack(tree):
  return jax.tree.map(lambda x: jnp.stack([x, x * 0, x]), tree)

many = stack(fields) | {"progress": jnp.float32([0.1, 0.2, 0.3])}
several = stack(hparams), stack(state), many
(values, states), slopes = jax.jit(
    lambda *a: jax.lax.map(lambda one: step(*one), a)
)(*several)
for i in range(3):
  one = jax.tree.map(lambda x: x[i], several)
  (expected, _), gradient = jax.jit(step)(*one)
  np.testing.assert_allclose(values[i], expected, rtol=1e-5, atol=1e-8)
  np.testing.assert_allclose(slopes[i], gradient, rtol=1e-4, atol=1e-8)
print("equal")
"""


@pytest.mark.slow
def test_sharded_and_over_seeds_it_computes_the_same():
  eight = "--xla_force_host_platform_device_count=8"
  flags = f"{os.environ['XLA_FLAGS']} {eight}"
  result = subprocess.run(
      [sys.executable, "-c", _CODE],
      cwd=_ROOT,
      env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      timeout=300,
  )
  assert result.stdout == "equal\n", result.stderr[-3000:]
