"""What a rollout holds, and that it depends on (state, seed) alone."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.rollout import engine, generate, prompt_batches, scoring
from poise_jax.training import (
    collect,
    config,
    environment,
    history,
    prompts,
    state,
    throughput,
)

P, G, T = 4, 2, 3
CONFIG = config.TrainConfig(
    steps=10,
    prompts=P,
    group_size=G,
    epochs=2,
    minibatches=2,
    learning_rate=1e-3,
)
MESH = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])


@pytest.fixture
def task():
  """Problems are numbers; every third of them is answered half right."""

  def source(position, count):
    first = position.index
    return range(first, first + count), prompts.Position(0, first + count)

  def grade(problems, completions):
    assert completions.tokens.shape == (len(problems) * G, T)
    correct = np.zeros((len(problems), G), np.float32)
    correct[:, 0] = [problem % 3 == 0 for problem in problems]
    return scoring.Grades(correct, correct, 0 * correct, 0 * correct + T)

  return environment.Environment(
      source=source,
      encode=lambda problems: prompt_batches.Prompts(
          np.array([[p, p] for p in problems], np.int32)
      ),
      grade=grade,
      buckets=lambda problems: np.array([p % 2 for p in problems]),
      bucket_count=2,
      prompt_of=str,
  )


@pytest.fixture
def begin(task):
  """A state whose params are a number that log-probabilities show."""

  def begin(**changes):
    fresh = state.TrainState(
        params=_scale(1.0),
        opt_state=(),
        algorithm_state={},
        history=history.empty(task.bucket_count),
        position=prompts.Position(0, 0),
        step=0,
        skipped=0,
    )
    return fresh._replace(**changes)

  return begin


def _scale(value):
  return nnx.State({"scale": jnp.float32(value)})


def _generate(params, asked, key):
  """Writes the problem's number, and noise of the key."""
  rows = jnp.repeat(asked.tokens[:, :1], G, axis=0)
  noise = jax.random.randint(key, (rows.shape[0], T - 1), 0, 1000)
  ones = jnp.ones((rows.shape[0], T))
  return generate.Completions(
      jnp.concatenate([rows, noise], 1),
      -params["scale"] * ones,
      ones,
      ones[:, 0],
  )


def _score(params, rows):
  ones = jnp.ones(rows.tokens.shape)
  return scoring.TokenScores(-2 * params["scale"] * ones, ones)


def _make(score=_score, watch=None, **changes):
  settings = dataclasses.replace(CONFIG, **changes)
  run = collect.make_collect(engine.local(_generate), score, settings, MESH)

  def collected(state, reference, environment, seed, *departure):
    given = state, reference, environment, seed
    return run(*given, watch or throughput.Stopwatch(), *departure)

  return collected


def test_groups_as_they_come(begin, task):
  seen = history.PassHistory(np.array([3, 0], "f4"), np.array([4, 8], "f4"))
  found = _make()(
      begin(step=5, skipped=3, history=seen, position=prompts.Position(0, 7)),
      *(_scale(4.0), task, 0),
  )
  assert list(found.problems) == [7, 8, 9, 10]
  assert found.position == prompts.Position(0, 11)
  assert found.version == 5 * 4 - 3
  assert found.statistics is None
  batch = found.batch
  assert batch.logprobs.shape == (P, G, T)
  np.testing.assert_array_equal(batch.old_logprobs, -1.0)
  np.testing.assert_array_equal(batch.sampler_logprobs, -1.0)
  np.testing.assert_array_equal(batch.ref_logprobs, -8.0)
  np.testing.assert_array_equal(batch.correct[:, 0], [0, 0, 1, 0])
  np.testing.assert_array_equal(batch.rewards, batch.correct)
  np.testing.assert_array_equal(found.grades.correct, batch.correct)
  np.testing.assert_allclose(
      batch.history_pass_rate, [1 / 10, 4 / 6, 1 / 10, 4 / 6]
  )
  assert int(batch.step) == 5 and float(batch.progress) == 0.5
  np.testing.assert_array_equal(found.rows.prompts.tokens[:, 0], [7, 8, 9, 10])
  np.testing.assert_array_equal(
      found.rows.tokens[:, 0], [7, 7, 8, 8, 9, 9, 10, 10]
  )


def test_without_reference_it_is_the_old_policy(begin, task):
  batch = _make()(begin(), None, task, 0).batch
  np.testing.assert_array_equal(batch.ref_logprobs, batch.old_logprobs)


def test_old_logprobs_can_be_the_trainers(begin, task):
  batch = _make(recompute_old=True)(begin(), None, task, 0).batch
  np.testing.assert_array_equal(batch.old_logprobs, -2.0)
  np.testing.assert_array_equal(batch.sampler_logprobs, -1.0)


def test_a_single_update_makes_them_itself(begin, task):
  """Then no pass is run here, and the sampler's stand in."""
  never = lambda *given: pytest.fail("the pass is the update's")
  make = _make(never, recompute_old=True, epochs=1, minibatches=1)
  batch = make(begin(), None, task, 0).batch
  np.testing.assert_array_equal(batch.old_logprobs, -1.0)


@pytest.mark.parametrize("attempts", [1, 3])
def test_time_is_charged_to_what_took_it(begin, task, attempts):
  """On a clock that moves on by one second for each rollout, and so on."""
  clock = [0.0]

  def spend(seconds, function):
    def slow(*given):
      clock[0] += seconds
      return function(*given)

    return slow

  slow_task = task._replace(grade=spend(1.0, task.grade))
  slow_task = slow_task._replace(source=spend(10.0, task.source))
  watch = throughput.Stopwatch(lambda: clock[0])
  make = _make(spend(100.0, _score), watch, sampling_attempts=attempts)
  found = make(begin(), _scale(4.0), slow_task, 0)
  rounds = found.statistics.attempts if attempts > 1 else 1
  seconds = {k: v.total for k, v in watch.phases().items()}
  assert seconds == {
      "time/rollout": 10.0 * rounds,
      "time/grade": 1.0 * rounds,
      "time/score": 100.0,
  }
  watch = throughput.Stopwatch(lambda: clock[0])
  _make(watch=watch)(begin(), None, task, 0)
  assert watch.phases().keys() == {"time/rollout", "time/grade"}


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_same_state_and_seed_give_the_same(begin, task, attempts):
  make = _make(sampling_attempts=attempts)
  tokens = lambda step, seed: np.asarray(
      make(begin(step=step), None, task, seed).rows.tokens
  )
  np.testing.assert_array_equal(tokens(2, 1), tokens(2, 1))
  assert (tokens(2, 1) != tokens(3, 1)).any()
  assert (tokens(2, 1) != tokens(2, 2)).any()


def test_attempts_fill_the_batch_with_mixed_groups(begin, task):
  found = _make(sampling_attempts=9)(begin(), None, task, 0)
  # Problems 0, 3, 6 and 9 are mixed: three rounds of four.
  assert list(found.problems) == [0, 3, 6, 9]
  assert found.position == prompts.Position(0, 12)
  statistics = found.statistics
  assert (statistics.attempts, statistics.sampled) == (3, 12)
  assert (statistics.kept, statistics.padded) == (4, 0)
  # Each group has the tokens and verdicts that it was sampled with.
  np.testing.assert_array_equal(found.rows.prompts.tokens[:, 0], [0, 3, 6, 9])
  np.testing.assert_array_equal(found.rows.tokens[::G, 0], [0, 3, 6, 9])
  np.testing.assert_array_equal(found.batch.correct, [[1, 0]] * P)
  np.testing.assert_array_equal(found.grades.correct, found.batch.correct)
  # Rounds do not repeat each other's random numbers.
  noise = np.asarray(found.rows.tokens)[:, 1:]
  assert len({tuple(row) for row in noise.tolist()}) == len(noise)
  # The history hears of all that was sampled.
  assert found.sampled.correct.shape == (12, G)
  np.testing.assert_array_equal(found.buckets, np.arange(12) % 2)


def test_the_cap_makes_up_the_batch_with_others(begin, task):
  found = _make(sampling_attempts=2)(begin(), None, task, 0)
  assert found.statistics.padded == 1 and found.statistics.attempts == 2
  assert list(found.problems) == [0, 1, 3, 6]
  np.testing.assert_array_equal(found.batch.correct[:, 0], [1, 0, 1, 1])


def test_both_ways_give_arrays_of_one_kind(begin, task):
  """Else all programs would compile twice."""
  kinds = lambda found: [
      (x.shape, x.dtype, x.sharding, x.weak_type)
      for x in jax.tree.leaves((found.rows, found.batch))
  ]
  first = _make(sampling_attempts=2)(begin(), None, task, 0)
  later = _make(sampling_attempts=2)(begin(step=3), None, task, 0)
  assert kinds(first) == kinds(later)
  assert isinstance(first.rows, scoring.Rows)


def test_another_policy_may_write_and_is_told_as_stale(begin, task):
  sampler = collect.Sampler(_scale(3.0), 11)
  found = _make()(
      *(begin(step=5, skipped=3), None, task, 0),
      collect.Departure(sampler=sampler),
  )
  np.testing.assert_array_equal(found.batch.sampler_logprobs, -3.0)
  np.testing.assert_array_equal(found.batch.old_logprobs, -3.0)
  # 5 steps of 4 updates, of which 3 were not made; the sampler has seen 11.
  np.testing.assert_array_equal(found.batch.staleness, 5 * 4 - 3 - 11)
  assert found.version == 11


def test_the_trainers_own_policy_can_be_the_old_one_then(begin, task):
  departure = collect.Departure(sampler=collect.Sampler(_scale(3.0), 0))
  make = _make(recompute_old=True)
  batch = make(begin(), None, task, 0, departure).batch
  np.testing.assert_array_equal(batch.old_logprobs, -2.0)
  np.testing.assert_array_equal(batch.sampler_logprobs, -3.0)


def test_verdicts_that_flip_are_all_that_training_sees(begin, task):
  """Problems 7 to 10, of which 9 is right once: all verdicts turned round."""
  asked = []

  def flip(correct, seed, round_):
    asked.append((seed, round_))
    return 1 - correct

  departure = collect.Departure(flip=flip)
  start = begin(step=5, position=prompts.Position(0, 7))
  found = _make()(start, None, task, 3, departure)
  wrong = [[1, 1], [1, 1], [0, 1], [1, 1]]
  for seen in (
      *(found.batch.correct, found.batch.rewards, found.sampled.correct),
      *(found.batch.reward_components[..., 0], found.grades.correct),
  ):
    np.testing.assert_array_equal(seen, wrong)
  assert asked == [(3, 5)]


def test_each_round_of_sampling_flips_by_itself(begin, task):
  asked = []

  def flip(correct, seed, round_):
    asked.append(round_)
    # Only in the second round is anything left as it is.
    return correct if round_ == 2 * 3 + 1 else 0 * correct

  departure = collect.Departure(flip=flip)
  make = _make(sampling_attempts=3)
  found = make(begin(step=2), None, task, 0, departure)
  assert asked == [6, 7, 8]
  # The second round asks 4 to 7; of the others no group counts as mixed.
  assert found.statistics.padded == 3 and 6 in found.problems
