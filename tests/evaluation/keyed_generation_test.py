"""Completions that follow their problem through any batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.evaluation import keyed_generation, running
from poise_jax.models import checkpoints
from poise_jax.rollout import generate, prompt_batches, sampling

LENGTH = 8
PROMPTS = ([5, 6, 7], [8, 9], [10, 11, 12, 13], [5, 6, 7])
KEY = keyed_generation.key_of(0, "AMC")


@pytest.fixture(scope="module")
def policy():
  return checkpoints.load(running.directory_of("embedded"))


@pytest.fixture(scope="module")
def run(policy):
  return keyed_generation.make(
      policy.graphdef,
      sampling.sample,
      max_length=LENGTH,
      eos_ids=(19,),
      pad_id=17,
  )


def _ask(run, policy, order, copies=2):
  prompts = prompt_batches.pad([PROMPTS[i] for i in order], (4,), 17)
  numbers = [
      n for i in order for n in keyed_generation.numbers(f"p/{i}", copies)
  ]
  found = run(policy.params, prompts, jnp.array(numbers, jnp.int32), KEY)
  tokens = np.asarray(found.tokens).reshape(len(order), copies, LENGTH)
  return {i: tokens[row] for row, i in enumerate(order)}


def test_a_completion_follows_its_problem(run, policy):
  whole = _ask(run, policy, [0, 1, 2, 3])
  turned = _ask(run, policy, [3, 1, 0, 2])
  for i in range(4):
    np.testing.assert_array_equal(turned[i], whole[i])
  # One prompt, two names: other numbers.
  assert (whole[0] != whole[3]).any()
  # And so have the copies.
  assert (whole[0][0] != whole[0][1]).any()


def test_batches_of_another_size(run, policy):
  whole = _ask(run, policy, [0, 1, 2, 3])
  part = _ask(run, policy, [2, 1])
  for i in (1, 2):
    np.testing.assert_array_equal(part[i], whole[i])


def test_with_numbers_by_place_it_is_generate(run, policy):
  prompts = prompt_batches.pad(PROMPTS, (4,), 17)
  ours = run(policy.params, prompts, jnp.arange(8), KEY)
  plain = generate.make_generate(
      policy.graphdef,
      sampling.sample,
      copies=2,
      max_length=LENGTH,
      eos_ids=(19,),
      pad_id=17,
  )
  on_device = jax.tree.map(jnp.asarray, prompts)
  theirs = plain(policy.params, on_device, KEY)
  np.testing.assert_array_equal(ours.tokens, theirs.tokens)
  np.testing.assert_array_equal(ours.finished, theirs.finished)


def test_numbers():
  # The first 8 bytes of SHA-256 of "abc", modulo 2^31.
  assert keyed_generation.number("abc") == 0xBA7816BF8F01CFEA % 2**31
  found = keyed_generation.numbers("abc", 32)
  assert len(set(found)) == 32 and min(found) >= 0 and max(found) < 2**31


def test_keys_differ_by_seed_and_set():
  keys = [
      jax.random.key_data(keyed_generation.key_of(*x)).tolist()
      for x in [(0, "AMC"), (1, "AMC"), (0, "AIME24")]
  ]
  assert len({tuple(k) for k in keys}) == 3
