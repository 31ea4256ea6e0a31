"""Maximum likelihood of demonstrations."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax.models import transformer
from poise_jax.tasks import arithmetic, demonstrations
from poise_jax.training import imitation


@pytest.fixture(scope="module")
def worked(words):
  rng = np.random.default_rng(0)
  problems = arithmetic.sample(
      rng, [arithmetic.Tier(1, 0.0)], 32, arithmetic.Split.TRAIN
  )
  texts = [demonstrations.worked(p, rng) for p in problems]
  return imitation.encode(words, problems, texts)


def test_rows_are_prompt_completion_padding(words):
  problem = arithmetic.make_problem(123, "+", (4,))
  rows = imitation.encode(words, [problem], ["\\boxed{127}"])
  assert rows.tokens.shape == (1, 46)
  assert rows.tokens[0, 15:21].tolist() == [15, 1, 2, 7, 16, 19]
  assert rows.mask[0].tolist() == [0.0] * 15 + [1.0] * 6 + [0.0] * 25


def test_uniform_logits_cost_log_vocabulary(worked):
  config = transformer.TransformerConfig(20, 8, 8, 1, 1, 1, 46)
  graphdef, params = transformer.make(config, 0)
  silent = jax.tree.map(jnp.zeros_like, params)
  loss = imitation.negative_log_likelihood(graphdef, silent, worked)
  assert float(loss) == pytest.approx(np.log(20), rel=1e-5)


def test_the_shipped_policy_has_the_skill(policy, worked):
  share = jax.jit(imitation.exact_match, static_argnums=0)(
      policy.graphdef, policy.params, worked
  )
  assert float(share) > 0.7


def test_imitation_lowers_the_loss_and_stops_when_told(worked):
  config = transformer.TransformerConfig(20, 16, 16, 1, 1, 1, 46)
  graphdef, params = transformer.make(config, 0)
  losses = []

  def stop(step, params, loss):
    losses.append(loss)
    return step >= 15

  fitted = imitation.imitate(
      graphdef, params, optax.adam(1e-2), [worked] * 50, stop=stop
  )
  assert len(losses) == 15
  assert losses[-1] < 0.8 * losses[0]
  assert jax.tree.structure(fitted) == jax.tree.structure(params)
  assert isinstance(nnx.merge(graphdef, fitted), transformer.Transformer)
