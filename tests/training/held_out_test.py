"""Scores during a run: every problem once, whatever the size of a batch."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, prompt_batches, scoring
from poise_jax.training import environment as environment_lib
from poise_jax.training import held_out

MESH = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
PROBLEMS = (2, 3, 4, 5, 6)


@pytest.fixture
def asked():
  """What was asked, batch by batch."""
  return []


@pytest.fixture
def task(asked):
  """Numbers: even ones are solved, and 3 is cut off; n has n tokens."""

  def grade(problems, completions):
    np.testing.assert_array_equal(completions.tokens[:, 0], problems)
    asked.append(list(problems))
    column = lambda values: np.array(values, np.float32)[:, None]
    return scoring.Grades(
        column([p % 2 == 0 for p in problems]),
        column([p != 5 for p in problems]),
        column([p == 3 for p in problems]),
        column(problems),
    )

  never = lambda *given: pytest.fail("no problem is drawn")
  return environment_lib.Environment(
      source=never,
      encode=lambda problems: prompt_batches.Prompts(
          np.array([[p] for p in problems], np.int32)
      ),
      grade=grade,
      buckets=never,
      bucket_count=1,
      prompt_of=str,
  )


def _generate(params, prompts, key):
  """Writes the prompt, times a number of the params."""
  ones = jnp.ones(prompts.tokens.shape)
  tokens = params["scale"] * prompts.tokens
  return generate.Completions(tokens, ones, ones, ones[:, 0])


@pytest.mark.parametrize("batch, calls", [(1, 5), (2, 3), (5, 1), (8, 1)])
def test_every_problem_counts_once(task, asked, batch, calls):
  evaluate = held_out.make_evaluate(
      engine_lib.local(_generate), task, PROBLEMS, batch, MESH
  )
  assert evaluate(nnx.State({"scale": jnp.int32(1)}), 0) == {
      "accuracy": 3 / 5,
      "format_rate": 4 / 5,
      "truncated_rate": 1 / 5,
      "mean_length": 4.0,
  }
  assert len(asked) == calls and {len(part) for part in asked} == {batch}


def test_keys_are_no_key_of_a_step(task):
  heard = []

  def listen(params, prompts, key):
    heard.append(tuple(np.asarray(jax.random.key_data(key))))
    return _generate(params, prompts, key)

  evaluate = held_out.make_evaluate(
      engine_lib.local(listen), task, PROBLEMS, 2, MESH
  )
  for seed in (0, 0, 1):
    evaluate(nnx.State({"scale": jnp.int32(1)}), seed)
  assert heard[:3] == heard[3:6] and len(set(heard)) == 6
  steps = (jax.random.fold_in(jax.random.key(0), step) for step in range(9))
  assert not {tuple(np.asarray(jax.random.key_data(k))) for k in steps} & {
      *heard
  }


@pytest.mark.parametrize("problems, batch", [((), 2), (PROBLEMS, 0)])
def test_what_cannot_be_asked(task, problems, batch):
  with pytest.raises(ValueError, match="`problems` must not be empty and"):
    held_out.make_evaluate(
        engine_lib.local(_generate), task, problems, batch, MESH
    )
