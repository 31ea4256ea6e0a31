"""The suite: Overall as in the paper, scores that depend on what they should."""

import csv
import importlib.util
import pathlib

import numpy as np
import pytest

from poise_jax.discovery.trials import budgets, trial
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints
from poise_jax.rollout import scoring, tokenizer
from poise_jax.tasks import arithmetic, embedded

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT.parent / "shared" / "reference" / "poise_table2.csv"
SEARCH = arithmetic.Split.SEARCH
SETS = (
    "pass_at_k/products4",
    "pass_at_k/mixed5",
    "pass_at_k/mixed4",
    "accuracy/sums2",
    "accuracy/mixed3",
    "accuracy/assorted",
)
# In the order of the sets above, by which they share their weights.
COLUMNS = (
    "AIME24_pass32",
    "AIME25_pass32",
    "AMC_pass32",
    "MATH500_acc1",
    "Minerva_acc1",
    "Olympiad_acc1",
)


def _scores(values):
  names = [name.partition("/")[2] for name in SETS]
  return dict(zip(names, values, strict=True))


def test_overall_by_hand():
  scores = _scores([0.5, 0.25, 0.8, 0.7, 0.2, 0.3])
  # 0.2 * 0.75 + 0.15 * 2.0
  assert suite.overall(scores) == pytest.approx(45, rel=1e-12)
  assert suite.overall(_scores([1.0] * 6)) == pytest.approx(100, rel=1e-12)


@pytest.mark.skipif(not TABLE.is_file(), reason=f"{TABLE.name} is not here")
def test_the_weights_reproduce_the_papers_table():
  rows = list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))
  assert len(rows) == 64
  for row in rows:
    scores = _scores([float(row[column]) / 100 for column in COLUMNS])
    expected = float(row["Overall"])
    assert suite.overall(scores) == pytest.approx(expected, abs=0.11), row


def test_grades_of_a_suite_by_hand():
  """Overall weighs sets; in rates and lengths each set counts the same."""

  def grades(correct, valid, length):
    ones = np.ones_like(correct)
    return scoring.Grades(correct, valid * ones, 0 * ones, length * ones)

  graded = {}
  for i, problem_set in enumerate(arithmetic.SUITE):
    sampled = problem_set.metric == "pass_at_k"
    correct = np.zeros((2, suite.SAMPLES if sampled else 1), np.float32)
    # Problem 0 of all sets: once right, or eight times in the first set.
    correct[0, : 1 if i else 8] = 1
    graded[problem_set] = grades(correct, 0.5 if i else 0.8, 3.0 + i)
  # Cut off: 4 of 64 in the last sampled set.
  graded[arithmetic.SUITE[2]].truncated[1, :4] = 1
  found = suite.measured(graded)
  assert all(found[name] == 0.5 for name in SETS)
  assert found["overall"] == pytest.approx(50, rel=1e-12)
  assert found["pass_at_1/products4"] == 8 / 64
  assert found["pass_at_1/mixed5"] == 1 / 64
  assert found["valid_rate"] == pytest.approx((0.8 + 0.5 + 0.5) / 3)
  assert found["truncated_rate"] == pytest.approx(4 / 64 / 3)
  assert found["response_length"] == pytest.approx((3 + 4 + 5) / 3)
  assert found["greedy_length"] == pytest.approx((6 + 7 + 8) / 3)


@pytest.fixture(scope="module")
def policy():
  return checkpoints.load(trial.base_directory(trial.EMBEDDED))


@pytest.fixture(scope="module")
def evaluate(policy):
  words = tokenizer.load(trial.base_directory(trial.EMBEDDED))
  config = suite.SuiteConfig(sampled_problems=4, greedy_problems=8)
  return suite.make_evaluate(policy.graphdef, words, config)


@pytest.fixture(scope="module")
def metrics(evaluate, policy):
  return evaluate(policy.params, 0, SEARCH)


def test_metrics_have_canonical_names_and_hang_together(metrics):
  sampled = [s for s in SETS if s.startswith("pass_at_k")]
  singles = [s.replace("pass_at_k", "pass_at_1") for s in sampled]
  rates = ["valid_rate", "truncated_rate"]
  lengths = ["response_length", "greedy_length"]
  assert set(metrics) == {*SETS, *singles, *rates, *lengths, "overall"}
  assert all(0 <= metrics[name] <= 1 for name in [*SETS, *singles, *rates])
  assert all(1 <= metrics[x] <= arithmetic.COMPLETION_LENGTH for x in lengths)
  for at_k, at_1 in zip(sampled, singles, strict=True):
    assert 0 < metrics[at_1] < metrics[at_k]
    assert metrics[at_k] * 4 == int(metrics[at_k] * 4)
    assert metrics[at_1] * 128 == int(metrics[at_1] * 128)
  scores = _scores([metrics[name] for name in SETS])
  assert metrics["overall"] == suite.overall(scores)


def test_equal_seeds_give_equal_bits(evaluate, policy, metrics):
  assert evaluate(policy.params, 0, SEARCH) == metrics


def test_a_seed_draws_other_samples_of_the_same_problems(
    evaluate, policy, metrics
):
  other = evaluate(policy.params, 1, SEARCH)
  drawn = [n for n in metrics if n.startswith("pass_at_1")]
  assert all(other[name] != metrics[name] for name in drawn)
  greedy = [n for n in metrics if n.startswith("accuracy")]
  assert [other[n] for n in greedy] == [metrics[n] for n in greedy]
  assert other["greedy_length"] == metrics["greedy_length"]


def test_splits_hold_other_problems(evaluate, policy, metrics):
  for split in (arithmetic.Split.CONFIRM, arithmetic.Split.SEALED):
    other = evaluate(policy.params, 0, split)
    assert other["greedy_length"] != metrics["greedy_length"]
    assert other["overall"] != metrics["overall"]


def test_training_problems_are_not_scored(evaluate, policy):
  with pytest.raises(ValueError, match="got TRAIN"):
    evaluate(policy.params, 0, arithmetic.Split.TRAIN)


def test_another_task_brings_its_own_sets(policy):
  words = tokenizer.load(trial.base_directory(trial.EMBEDDED))
  sizes = suite.SuiteConfig(sampled_problems=1, greedy_problems=2)
  task = embedded.CARRYLESS
  evaluate = suite.make_evaluate(policy.graphdef, words, sizes, task)
  found = evaluate(policy.params, 0, SEARCH)
  names = {f"{s.metric}/{s.name}" for s in task.suite}
  assert names <= set(found)
  assert "pass_at_k/products4" not in found and "accuracy/sums2" not in found
  scores = {s.name: found[f"{s.metric}/{s.name}"] for s in task.suite}
  assert found["overall"] == suite.overall(scores, task.suite)
  assert found["response_length"] <= task.completion_length


@pytest.mark.slow
def test_the_shipped_policy_leaves_room_for_learning(policy):
  path = ROOT / "experiments" / "embedded_policy.py"
  spec = importlib.util.spec_from_file_location("embedded_policy", path)
  recipe = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(recipe)
  words = tokenizer.load(trial.base_directory(trial.EMBEDDED))
  evaluate = suite.make_evaluate(
      policy.graphdef, words, budgets.STANDARD.evaluate
  )
  found = evaluate(policy.params, 0, SEARCH)
  found |= recipe.group_shares(policy.graphdef, policy.params, words)
  recipe.check_room(found)
  assert set(recipe.BANDS) <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["arithmetic_second", "carryless", "carryless_second"]
)
def test_the_other_policies_leave_room_for_learning(name):
  path = ROOT / "experiments" / "second_policies.py"
  spec = importlib.util.spec_from_file_location("second_policies", path)
  recipes = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(recipes)
  recipe = recipes.RECIPES[name]
  folder = trial.base_directory(trial.EMBEDDED).with_name("embedded_policies")
  base = checkpoints.load(folder / name)
  words = tokenizer.load(folder / name)
  evaluate = suite.make_evaluate(
      base.graphdef, words, recipes.SIZES, recipe.task
  )
  recipes.check_room(recipe, evaluate(base.params, 0, SEARCH))
