"""Steps of the optimizer by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax.training import config as config_lib
from poise_jax.training import optimizer as optimizer_lib

SHORT = dict(
    steps=3,
    prompts=8,
    group_size=4,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
)


def test_the_rate_of_learning_and_clipping_are_as_told():
  settings = config_lib.TrainConfig(**(SHORT | {"max_grad_norm": 0.5}))
  optimizer = optimizer_lib.make_optimizer(settings)
  params = {"w": jnp.zeros(4)}
  large = {"w": jnp.full(4, 100.0)}
  _, state = optimizer.update(large, optimizer.init(params), params)
  moments = [x for x in jax.tree.leaves(state) if x.ndim]
  np.testing.assert_allclose(moments[0], 0.1 * 0.5 / 2, rtol=1e-5)


def test_the_rate_rises_and_weights_decay_as_told():
  settings = config_lib.TrainConfig(
      **(SHORT | {"steps": 2, "epochs": 1, "learning_rate": 0.1}),
      warmup_steps=2,
      weight_decay=0.5,
      final_learning_rate=0.0,
      b1=0.8,
      b2=0.9,
  )
  optimizer = optimizer_lib.make_optimizer(settings)
  params = {"w": jnp.full(1, 2.0)}
  state, w = optimizer.init(params), 2.0
  # Constant gradients make steps of Adam of length 1. Four updates: the rate
  # rises from 0 by halves of 0.1, then falls from 0.1 by halves.
  for update, rate in enumerate((0.0, 0.05, 0.1, 0.05)):
    assert optimizer_lib.rate(settings, update) == pytest.approx(rate)
    found, state = optimizer.update({"w": jnp.full(1, 0.3)}, state, params)
    params = optax.apply_updates(params, found)
    w -= rate * (1.0 + 0.5 * w)
    np.testing.assert_allclose(params["w"], w, rtol=1e-5)
