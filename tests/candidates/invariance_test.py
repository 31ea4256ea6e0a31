"""What changes nothing in the catalogue, and is found where it does."""

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import advantages, catalog
from poise_jax.candidates import contract, invariance, probes


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def _checked(algorithm, suite):
  """Rule -> level, with the padding looked at in any case."""
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = jax.tree.map(jnp.asarray, algorithm.init(hparams))
  step = contract.compile_step(algorithm, state, suite["mixed"])
  seen = step(hparams, state, suite["mixed"]).state
  subject = invariance.Subject(step, hparams, seen, suite)
  found = invariance.check(subject)
  wider = contract.compile_step(
      algorithm, state, invariance.widened(suite["mixed"])
  )
  found += invariance.check_padding(subject, wider)
  assert all(f.message and f.hint for f in found)
  return {f.rule: f.level for f in found}


@pytest.mark.parametrize("name", ["grpo", "vm_av_grpo", "grpo_adaptive_kl"])
def test_the_catalogue_is_unaltered(suite, name):
  assert _checked(catalog.make(name), suite) == {}


def _plain(batch):
  advantage = advantages.group_centered(batch.rewards)[..., None]
  mask = batch.completion_mask
  value = -jnp.sum(advantage * mask * batch.logprobs)
  return value / jnp.maximum(mask.sum(), 1.0)


def _of(function, init=lambda hparams: {}):
  return types.Algorithm("mine", {}, init, function)


def _by_size(hparams, state, batch):
  tokens = batch.completion_mask.sum()
  value = _plain(batch) * tokens / batch.completion_mask.size
  return value, state, {}


def _unmasked_mean(hparams, state, batch):
  return _plain(batch) * jnp.exp(batch.old_logprobs.mean()), state, {}


def _first_completion(hparams, state, batch):
  first = jnp.arange(batch.rewards.shape[1]) == 0
  weighed = batch.rewards * jnp.where(first, 2.0, 1.0)
  batch = types.RolloutBatch(**{**vars(batch), "rewards": weighed})
  return _plain(batch), state, {}


def _first_prompt(hparams, state, batch):
  first = jnp.arange(batch.rewards.shape[0]) == 0
  weighed = batch.rewards * jnp.where(first, 2.0, 1.0)[:, None]
  batch = types.RolloutBatch(**{**vars(batch), "rewards": weighed})
  return _plain(batch), state, {}


def _by_slot(hparams, state, batch):
  decay = 0.9 ** jnp.arange(batch.completion_mask.shape[2])
  batch = types.RolloutBatch(
      **{**vars(batch), "logprobs": batch.logprobs * decay}
  )
  return _plain(batch), state, {}


def _counting(hparams, state, batch):
  return _plain(batch), {"seen": state["seen"] + 1.0}, {}


def _rounding(hparams, state, batch):
  rewards = batch.rewards
  spread = rewards.std(axis=1, keepdims=True) + 1e-6
  z = (rewards - rewards.mean(axis=1, keepdims=True)) / spread
  mask = batch.completion_mask
  value = -jnp.sum(z[..., None] * mask * batch.logprobs)
  return value / jnp.maximum(mask.sum(), 1.0), state, {}


@pytest.mark.parametrize(
    ("algorithm", "rules"),
    [
        (_of(_by_size), {"padding": "contract"}),
        (_of(_unmasked_mean), {"padding": "contract", "junk": "contract"}),
        (_of(_first_completion), {"completion-order": "advisory"}),
        (_of(_first_prompt), {"prompt-order": "advisory"}),
        (_of(_by_slot), {"placement": "advisory"}),
        (
            _of(_counting, lambda hparams: {"seen": jnp.float32(0.0)}),
            {"all-masked": "advisory"},
        ),
        (_of(_rounding), {"equal-rewards": "advisory"}),
    ],
    ids="size mean completion prompt slot state rounding".split(),
)
def test_what_changes_something_is_found(suite, algorithm, rules):
  assert _checked(algorithm, suite) == rules
