from poise_jax.discovery.directives import sets
from poise_jax.evaluation import suite
from poise_jax.tasks import arithmetic, benchmarks, carryless


def test_all_sets_can_be_named():
  suites = (*benchmarks.MATH6, *arithmetic.SUITE, *carryless.SUITE)
  for problem_set in suites:
    spaced = sets.spaced(problem_set.name)
    assert sets.PHRASES[spaced] == (problem_set.name,)


def test_metrics_of_the_paper():
  assert sets.METRIC_OF["AIME24"] == "pass_at_k"
  assert sets.METRIC_OF["MATH500"] == "accuracy"
  assert sets.METRIC_OF["mixed3"] == "accuracy"
  assert sets.spaced("MATH500") == "math 500"
  assert sets.PHRASES["aime"] == ()


def test_the_k_of_pass_at_k_is_how_many_are_sampled():
  sampled = {s.samples for s in benchmarks.MATH6 if s.metric == "pass_at_k"}
  assert sampled == {suite.SAMPLES} == {sets.TRIES}
