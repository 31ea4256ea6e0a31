"""The state holds what a checkpoint needs, and nothing random."""

import jax
import numpy as np

from poise_jax.algorithms import catalog
from poise_jax.training import environment, prompts, trainer


def test_a_fresh_state_is_where_training_begins(policy, words, short_config):
  made = trainer.make_trainer(
      policy.graphdef, policy.params, words, short_config, jax.devices()[:1]
  )
  task = environment.arithmetic_environment(words, 0)
  state = made.start(policy.params, catalog.make("grpo_adaptive_kl"), task)
  assert (state.position, state.step, state.skipped) == (prompts.START, 0, 0)
  assert state.history.seen.shape == (task.bucket_count,)
  assert state.algorithm_state.keys() == {"kl_coef"}
  for leaf in jax.tree.leaves(state):
    dtype = np.asarray(leaf).dtype if np.isscalar(leaf) else leaf.dtype
    assert np.issubdtype(dtype, np.number), "random keys are derived, not kept"
  # The params are its own: the reference must not be overwritten with them.
  for mine, base in zip(
      jax.tree.leaves(state.params), jax.tree.leaves(policy.params), strict=True
  ):
    assert mine is not base
    np.testing.assert_array_equal(mine, base)
    assert mine.unsafe_buffer_pointer() != base.unsafe_buffer_pointer()
