"""Engines: which weights are sampled with, and when they are let go."""

import gc
import weakref

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax.rollout import engine, generate, prompt_batches


def _write(params, prompts, key):
  ones = jnp.ones((prompts.tokens.shape[0], 2))
  return generate.Completions(
      prompts.tokens[:, :2], params["w"] * ones, ones, ones[:, 0]
  )


PROMPTS = prompt_batches.Prompts(jnp.arange(6).reshape(2, 3))


def test_weights_are_prepared_once_and_tagged():
  prepared = []

  def prepare(params):
    prepared.append(params)
    return nnx.State({"w": params["w"] * 2})

  ask = engine.local(_write, prepare)(nnx.State({"w": jnp.float32(1.5)}), 7)
  found = [ask(PROMPTS, jax.random.key(i)) for i in range(3)]
  assert len(prepared) == 1
  assert [sampled.version for sampled in found] == [7, 7, 7]
  np.testing.assert_array_equal(found[2].completions.logprobs, 3.0)


def test_the_copy_has_its_type_and_is_let_go():
  prepare = engine.make_prepare("bfloat16")
  copies = []

  def watched(params):
    copy = prepare(params)
    copies.append(weakref.ref(copy["w"]))
    return copy

  params = nnx.State({"w": jnp.float32(1.0) + 2**-10})
  ask = engine.local(_write, watched)(params, 0)
  assert copies[0]().dtype == jnp.bfloat16
  np.testing.assert_array_equal(
      ask(PROMPTS, jax.random.key(0)).completions.logprobs, 1.0
  )
  del ask
  gc.collect()
  assert copies[0]() is None and params["w"].dtype == jnp.float32
