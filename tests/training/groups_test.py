"""Groups stay whole: problem, prompt, completions and verdicts together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.rollout import engine, generate, prompt_batches, scoring
from poise_jax.training import environment, groups, prompts, throughput

P, G, T = 3, 2, 4
MESH = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
START = prompts.Position(0, 5)


def _encode(problems):
  """The problem's number, as wide as the largest problem."""
  width = max(problems)
  return prompt_batches.Prompts(
      np.array([[p] * width for p in problems], np.int32)
  )


def _grade(problems, completions):
  """Every fourth problem is answered half right."""
  np.testing.assert_array_equal(
      completions.tokens[:, 0], np.repeat(problems, G)
  )
  correct = np.zeros((len(problems), G), np.float32)
  correct[:, 1] = [problem % 4 == 0 for problem in problems]
  return scoring.Grades(correct, 1 + 0 * correct, 0 * correct, T + 0 * correct)


TASK = environment.Environment(
    source=lambda position, count: (
        range(position.index, position.index + count),
        prompts.Position(0, position.index + count),
    ),
    encode=_encode,
    grade=_grade,
    buckets=lambda problems: np.array([p % 2 for p in problems]),
    bucket_count=2,
    prompt_of=str,
)


def _ask(versions):
  """Writes the problem's number, and noise of the key."""

  def ask(asked, key):
    rows = jnp.repeat(asked.tokens[:, :1], G, axis=0)
    noise = jax.random.randint(key, (len(rows), T - 1), 0, 1000)
    tokens = jnp.concatenate([rows, noise], axis=1)
    ones = jnp.ones(tokens.shape)
    written = generate.Completions(tokens, -ones, ones, ones[:, 0])
    return engine.Sampled(written, next(versions))

  return ask


@pytest.fixture
def sampling():
  """Policies that wrote the rounds: 7, then 4, then 9."""
  return groups.Sampling(
      _ask(iter([7, 4, 9])),
      TASK,
      jax.random.key(3),
      P,
      lambda correct, index: correct,
      MESH,
      throughput.Stopwatch(),
  )


def test_one_round_is_taken_as_it_comes(sampling):
  found = groups.take(sampling, START, 1)
  assert found.groups.problems == [5, 6, 7]
  assert (found.position, found.version) == (prompts.Position(0, 8), 7)
  assert found.statistics is None
  assert found.groups.prompts.tokens.shape == (P, 7)
  tokens = np.asarray(found.groups.completions.tokens)
  np.testing.assert_array_equal(tokens[:, 0], [5, 5, 6, 6, 7, 7])
  # The key is taken as it is.
  noise = jax.random.randint(jax.random.key(3), (P * G, T - 1), 0, 1000)
  np.testing.assert_array_equal(tokens[:, 1:], noise)
  np.testing.assert_array_equal(found.sampled.correct, np.zeros((P, G)))
  np.testing.assert_array_equal(found.buckets, [1, 0, 1])


def test_rounds_of_other_widths_make_one_batch(sampling):
  """5 to 13 are drawn, 8 and 12 are mixed, and 5 makes up for the third."""
  found = groups.take(sampling, START, 3)
  assert found.groups.problems == [5, 8, 12]
  tokens = np.asarray(found.groups.prompts.tokens)
  np.testing.assert_array_equal(tokens, [[5] * 12, [8] * 12, [12] * 12])
  completions = np.asarray(found.groups.completions.tokens)
  np.testing.assert_array_equal(completions[:, 0], [5, 5, 8, 8, 12, 12])
  # The middle two were written in the second round, whose key is its own.
  later = jax.random.fold_in(jax.random.key(3), 2**32 - 1)
  key = jax.random.fold_in(later, 1)
  noise = jax.random.randint(key, (P * G, T - 1), 0, 1000)
  np.testing.assert_array_equal(completions[2:4, 1:], noise[:2])
  np.testing.assert_array_equal(
      found.groups.grades.correct, [[0, 0], [0, 1], [0, 1]]
  )
  np.testing.assert_array_equal(found.groups.buckets, [1, 0, 0])
  # Of all that were drawn something is known.
  correct = found.sampled.correct
  assert correct.shape == (9, G) and correct.sum() == 2
  assert found.sampled.lengths.shape == (9, G)
  np.testing.assert_array_equal(found.buckets, np.arange(5, 14) % 2)
  assert found.position == prompts.Position(0, 14)
  assert found.statistics.padded == 1
  # The oldest of those that wrote, though not the first.
  assert found.version == 4


def test_no_round_shares_a_key_with_a_row_of_another(sampling):
  """Row i of a round is written with fold_in(its key, i)."""
  keys, ask = [], sampling.ask

  def heard(asked, key):
    keys.append(key)
    return ask(asked, key)

  groups.take(sampling._replace(ask=heard), START, 3)
  rows = [jax.random.fold_in(key, row) for key in keys for row in range(P * G)]
  data = [tuple(np.asarray(jax.random.key_data(k))) for k in (*keys, *rows)]
  assert len(keys) == 3 and len(set(data)) == len(data)


def test_arrays_lie_on_the_mesh_either_way(sampling):
  places = []
  for attempts in (1, 2):
    found = groups.take(
        sampling._replace(ask=_ask(iter([0, 0]))), START, attempts
    )
    arrays = jax.tree.leaves((found.groups.prompts, found.groups.completions))
    places.append([(x.dtype, x.sharding, x.weak_type) for x in arrays])
    grades = jax.tree.leaves(found.groups.grades)
    assert all(isinstance(x, np.ndarray) for x in grades)
  assert places[0] == places[1]


def test_what_is_judged_is_all_that_is_seen(sampling):
  """The judge turns the second round round, so that all but 8 are right."""
  asked = []

  def judge(correct, index):
    asked.append(index)
    return 1 - correct if index == 1 else 0 * correct

  found = groups.take(sampling._replace(judge=judge), START, 2)
  assert asked == [0, 1]
  assert found.groups.problems == [5, 6, 8]
  np.testing.assert_array_equal(
      found.groups.grades.correct, [[0, 0], [0, 0], [1, 0]]
  )
  np.testing.assert_array_equal(
      found.sampled.correct[3:], [[1, 0], [1, 1], [1, 1]]
  )


def test_seconds_are_charged_round_by_round(sampling):
  clock = [0.0]

  def source(position, count):
    clock[0] += 10.0
    return TASK.source(position, count)

  def grade(problems, completions):
    clock[0] += 1.0
    return TASK.grade(problems, completions)

  watch = throughput.Stopwatch(lambda: clock[0])
  task = TASK._replace(source=source, grade=grade)
  groups.take(sampling._replace(environment=task, watch=watch), START, 3)
  seconds = {name: part.total for name, part in watch.phases().items()}
  assert seconds == {"time/rollout": 30.0, "time/grade": 3.0}


@pytest.mark.parametrize("attempts", [1, 3])
def test_each_round_can_be_the_last(sampling, attempts):
  graded, paused = [], []

  def grade(problems, completions):
    graded.append(problems)
    return _grade(problems, completions)

  def pause():
    paused.append(len(graded))
    if len(paused) == min(attempts, 2):
      raise KeyboardInterrupt

  task = TASK._replace(grade=grade)
  with pytest.raises(KeyboardInterrupt):
    groups.take(
        sampling._replace(environment=task, pause=pause), START, attempts
    )
  # After what was sampled was graded, and before anything else is.
  assert paused == [*range(1, len(graded) + 1)] == [1, 2][:attempts]


def test_groups_of_one_are_never_mixed(sampling):
  with pytest.raises(ValueError, match="at least 2 completions a group"):
    groups.take(
        sampling._replace(judge=lambda correct, index: correct[:, :1]),
        *(START, 2),
    )
