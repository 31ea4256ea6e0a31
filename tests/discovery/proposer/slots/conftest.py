"""A batch of four tokens, on which gradients can be worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.candidates import scope as scope_lib
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering

_REWARDS = [[1.0, 0.0], [0.0, 0.0]]


def _batch(**fields):
  """Two prompts, two completions of one token; all policies agree."""
  shape = (2, 2)
  logprobs = jnp.full((2, 2, 1), jnp.log(0.5))
  correct = jnp.asarray(fields.pop("correct", _REWARDS), jnp.float32)
  valid = fields.pop("format_valid", jnp.ones(shape))
  valid = jnp.asarray(valid, jnp.float32)
  plain = types.RolloutBatch(
      logprobs=logprobs,
      entropy=jnp.full((2, 2, 1), 0.5),
      old_logprobs=logprobs,
      sampler_logprobs=logprobs,
      ref_logprobs=logprobs,
      completion_mask=jnp.ones((2, 2, 1)),
      rewards=correct,
      correct=correct,
      format_valid=valid,
      truncated=jnp.zeros(shape),
      lengths=jnp.ones(shape),
      staleness=jnp.zeros(shape),
      reward_components=jnp.stack([correct, valid], axis=-1),
      history_pass_rate=jnp.asarray([0.5, 0.25]),
      step=jnp.asarray(3, jnp.int32),
      progress=jnp.asarray(0.25),
  )
  arrays = {k: jnp.asarray(v, jnp.float32) for k, v in fields.items()}
  return dataclasses.replace(plain, **arrays)


@pytest.fixture(scope="session")
def step():
  """Runs a genome: gradients by log-probability and entropy, next state."""
  scope = scope_lib.namespace()

  def run(choices, constants=None, **fields):
    base = {"scale": "none", "clip": "none"}
    genome = genomes.edited(genomes.named("grpo"), base | choices, constants)
    source = rendering.render(
        genome,
        name="x",
        parents=[],
        rationale="r",
        prediction="p",
        falsifier="f",
    )
    module = dict(scope)
    exec(compile(source, "candidate", "exec"), module)
    batch, hparams = _batch(**fields), module["HPARAMS"]

    def loss(logprobs, entropy):
      own = dataclasses.replace(batch, logprobs=logprobs, entropy=entropy)
      value, state, _ = module["loss"](hparams, module["init"](hparams), own)
      return value, state

    grads, state = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        batch.logprobs, batch.entropy
    )
    return grads[0][..., 0], grads[1][..., 0], state

  return run


@pytest.fixture(scope="session")
def advantage(step):
  """The advantages of a genome: the mean over 4 tokens has slope -A / 4."""
  return lambda *args, **fields: -4.0 * step(*args, **fields)[0]
