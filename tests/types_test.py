"""The batch is a pytree of arrays that no function can change."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.candidates import probes


@pytest.fixture(scope="module")
def batch():
  return next(iter(probes.suite().values()))


def test_every_field_is_a_leaf_and_survives_jit(batch):
  fields = [field.name for field in dataclasses.fields(types.RolloutBatch)]
  assert len(jax.tree.leaves(batch)) == len(fields) == 16
  again = jax.jit(lambda b: jax.tree.map(lambda x: x + 1, b))(batch)
  assert isinstance(again, types.RolloutBatch)
  for name in fields:
    assert (getattr(again, name) == getattr(batch, name) + 1).all(), name


def test_fields_cannot_be_assigned_but_replaced(batch):
  with pytest.raises(dataclasses.FrozenInstanceError):
    batch.rewards = jnp.zeros_like(batch.rewards)
  other = dataclasses.replace(batch, rewards=jnp.zeros_like(batch.rewards))
  assert float(jnp.abs(other.rewards).sum()) == 0
  assert other.logprobs is batch.logprobs


def test_shapes_must_agree_where_annotations_are_checked(batch):
  with pytest.raises(TypeError, match="rewards"):
    dataclasses.replace(batch, rewards=batch.rewards[:, :-1])


def test_an_algorithm_is_a_value():
  init, loss = (lambda hparams: {}), (lambda hparams, state, batch: None)
  algorithm = types.Algorithm("a", {"beta": 0.1}, init, loss)
  assert algorithm == types.Algorithm("a", {"beta": 0.1}, init, loss)
  changed = algorithm._replace(hparams={"beta": 0.2})
  assert changed.loss is loss and algorithm.hparams == {"beta": 0.1}
