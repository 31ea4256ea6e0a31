"""Which losses need to know the sampler."""

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog, dependence


@pytest.mark.parametrize(
    "name, expected",
    [("grpo", False), ("dapo", False), ("icepop", True), ("grpo_tis", True)],
)
def test_who_reads_the_samplers_logprobs(name, expected):
  found = dependence.depends_on(catalog.make(name), "sampler_logprobs")
  assert found is expected


@pytest.mark.parametrize("field", ["old_logprobs", "ref_logprobs", "entropy"])
def test_plain_grpo_reads_the_old_policy_alone(field):
  grpo = catalog.make("grpo", kl_coef=0.0)
  assert dependence.depends_on(grpo, field) is (field == "old_logprobs")


@pytest.mark.parametrize("group_size", [2, 3, 8])
def test_small_groups_tell_as_much(group_size):
  for coefficient, expected in ((0.0, False), (0.1, True)):
    grpo = catalog.make("grpo", kl_coef=coefficient)
    found = dependence.depends_on(grpo, "ref_logprobs", group_size)
    assert found is expected


def test_a_gradient_alone_counts():
  # Its value is 0 whatever the reference says, its gradient is not.
  def loss(hparams, state, batch):
    moved = batch.logprobs - jax.lax.stop_gradient(batch.logprobs)
    return jnp.sum(moved * batch.ref_logprobs), state, {}

  silent = types.Algorithm("silent", {}, lambda hparams: {}, loss)
  assert dependence.depends_on(silent, "ref_logprobs")
  assert not dependence.depends_on(silent, "sampler_logprobs")


def test_fields_of_other_shapes_are_refused():
  with pytest.raises(ValueError, match="`field` must be one of .*'rewards'"):
    dependence.depends_on(catalog.make("grpo"), "rewards")
