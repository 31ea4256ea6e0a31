"""Trials: pure functions of their key, whatever else runs."""

import concurrent.futures
import dataclasses
import json
import statistics

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.discovery.trials import budgets, trial, variation
from poise_jax.models import checkpoints
from poise_jax.tasks import arithmetic, embedded

SEARCH = arithmetic.Split.SEARCH


def test_the_base_is_the_shipped_policy_or_a_directory(tmp_path):
  shipped = trial.base_directory("embedded")
  assert (shipped / "model.safetensors").is_file()
  assert trial.base_directory(str(tmp_path)) == tmp_path


def test_a_base_that_is_not_there_is_named(tmp_path, tiny):
  with pytest.raises(FileNotFoundError, match="no config.json in .*nowhere"):
    trial.Laboratory(str(tmp_path / "nowhere"), tiny)


def test_versions_name_what_could_change_a_bit(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
  found = trial.versions()
  assert found["jax"] == jax.__version__
  assert found["backend"] == "cpu"
  assert found["xla_flags"] == "--xla_backend_optimization_level=0"
  assert {"poise_jax", "jaxlib", "flax", "optax", "numpy"} <= set(found)


class TestKey:

  @pytest.fixture
  def candidate(self, make):
    return make.candidate(3, "dapo", [0], hparams={"clip_eps": 0.2})

  def test_is_json_and_canonical(self, laboratory, candidate):
    key = laboratory.key(candidate, SEARCH, 1)
    assert json.loads(records.canonical_json(key)) == key
    assert laboratory.key(candidate, SEARCH, 1) == key
    directory = trial.base_directory(trial.EMBEDDED)
    assert key["base"] == checkpoints.fingerprint(directory)

  def test_changes_with_each_of_its_parts(
      self, laboratory, candidate, tiny, monkeypatch
  ):
    def digest(candidate=candidate, split=SEARCH, seed=1):
      key = laboratory.key(candidate, split, seed)
      return records.sha256(records.canonical_json(key))

    changed = lambda **changes: dataclasses.replace(candidate, **changes)
    digests = [
        digest(),
        digest(seed=2),
        digest(split=arithmetic.Split.CONFIRM),
        digest(changed(id="c0ffee-004")),
        digest(changed(artifact_sha256="0" * 64)),
        digest(changed(hparams={"clip_eps": 0.3})),
    ]
    # What the laboratory itself is made of.
    train = dataclasses.replace(tiny.train, learning_rate=2e-3)
    parts = {
        "budget": dataclasses.replace(tiny, train=train),
        "base_sha256": "0" * 64,
        "versions": laboratory.versions | {"jax": "0.0.1"},
    }
    for name, value in parts.items():
      with monkeypatch.context() as patch:
        patch.setattr(laboratory, name, value)
        digests.append(digest())
    assert len(set(digests)) == 9
    # When and why a candidate was made changes nothing.
    assert digest(changed(rationale="other", name="other")) == digests[0]


@pytest.fixture(scope="module")
def outcomes(laboratory):
  """Two algorithms with two seeds, one trial after the other."""
  jobs = [(name, seed) for name in ("grpo", "dapo") for seed in (0, 1)]
  return {
      job: laboratory.run(catalog.make(job[0]), SEARCH, job[1]) for job in jobs
  }


def test_an_outcome_has_scores_and_the_end_of_the_curve(outcomes, tiny):
  outcome = outcomes["grpo", 0]
  assert outcome.diverged == ""
  assert 0 <= outcome.metrics["overall"] <= 100
  for name in ("entropy", "kl"):
    quarter = outcome.curve[name][-max(tiny.train.steps // 4, 1) :]
    assert outcome.metrics[name] == statistics.median(quarter)
  assert {len(v) for v in outcome.curve.values()} == {tiny.train.steps}
  assert records.canonical_json(dataclasses.asdict(outcome))


def test_seeds_differ(outcomes):
  first, second = outcomes["grpo", 0], outcomes["grpo", 1]
  assert first.curve != second.curve
  assert first.metrics != second.metrics


def test_two_at_once_are_as_one_after_the_other(laboratory, outcomes):
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    again = {
        (name, seed): pool.submit(
            laboratory.run, catalog.make(name), SEARCH, seed
        )
        for name, seed in outcomes
    }
  assert {job: future.result() for job, future in again.items()} == outcomes


def test_without_gradient_the_scores_are_those_of_the_base(laboratory):
  base = laboratory.score_base(SEARCH, 1)
  outcome = laboratory.run(catalog.make("zero_gradient"), SEARCH, 1)
  assert {name: outcome.metrics[name] for name in base} == base
  assert set(outcome.metrics) - set(base) == {"entropy", "kl"}
  assert outcome.metrics["kl"] == pytest.approx(0, abs=1e-9)


def test_training_moves_the_scores(laboratory, outcomes):
  base = laboratory.score_base(SEARCH, 0)
  assert outcomes["grpo", 0].metrics["overall"] != base["overall"]


def _breaking(value, metrics):
  """A loss with `value` added, and these metrics, from the second step on."""

  def loss(hparams, state, batch):
    late = batch.step == 1
    return jnp.mean(batch.logprobs) + value(late), state, metrics(late)

  return types.Algorithm("breaking", {}, lambda hparams: {}, loss)


def test_a_loss_that_is_not_finite_has_diverged(laboratory):
  algorithm = _breaking(
      lambda late: jnp.where(late, jnp.nan, 0.0), lambda _: {}
  )
  steps = []
  outcome = laboratory.run(algorithm, SEARCH, 0, steps.append)
  assert outcome.diverged == "non-finite loss at step 1"
  assert outcome.metrics == {}
  assert {len(values) for values in outcome.curve.values()} == {1}
  assert steps == [1]
  assert records.canonical_json(dataclasses.asdict(outcome))


def test_a_metric_that_is_not_finite_is_left_out(laboratory):
  algorithm = _breaking(
      lambda _: 0.0,
      lambda late: {"odd": jnp.where(late, jnp.inf, 0.0), "even": 2.0},
  )
  outcome = laboratory.run(algorithm, SEARCH, 0)
  assert outcome.diverged == ""
  assert "odd" not in outcome.curve
  assert outcome.curve["even"] == [2.0, 2.0]
  # The archive refuses NaN and infinity.
  assert records.canonical_json(dataclasses.asdict(outcome))


def test_warming_up_compiles_all_but_the_loss(laboratory):
  laboratory.warm_up(catalog.make("grpo"))
  compiled = []

  def count(event, seconds, fun_name="", **details):
    if event.endswith("backend_compile_duration"):
      compiled.append(fun_name)

  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    laboratory.run(catalog.make("rloo"), SEARCH, 0)
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert compiled == ["jit(differentiate)"]


class TestVaried:
  """A laboratory with something changed, and what it shares."""

  @pytest.fixture
  def laboratories(self, laboratory, tiny, monkeypatch):
    monkeypatch.setitem(budgets.ALL, "tiny", tiny)
    return trial.Laboratories(lambda base, budget: laboratory)

  @pytest.fixture
  def at(self, laboratories):
    """The laboratory of a variation of the tiny budget."""

    def at(**changes):
      name = variation.Variation("tiny", **changes).name
      return laboratories.at(trial.Setting(name, SEARCH))

    return at

  def test_each_is_made_once(self, at, laboratory):
    assert at(lag=1) is at(lag=1)
    assert at() is not laboratory
    assert at().budget.name == "explain:tiny"

  def test_keys_tell_variations_apart_and_say_what_changed(
      self, at, laboratory, make
  ):
    candidate = make.candidate(3, "dapo", [0], hparams={"clip_eps": 0.2})
    key = lambda lab: lab.key(candidate, SEARCH, 1)
    constants = (("clip_eps", 0.4),)
    varied = [key(at()), key(at(lag=1)), key(at(constants=constants))]
    texts = {records.canonical_json(k) for k in [key(laboratory), *varied]}
    assert len(texts) == 4
    assert "variation" not in key(laboratory)
    assert [k["variation"] for k in varied[:2]] == [{}, {"lag": 1}]
    assert varied[2]["hparams"] == {"clip_eps": 0.4}
    assert key(at(rate=0.5))["budget"]["train"]["learning_rate"] == 5e-4

  def test_without_changes_a_trial_is_the_usual_one(self, at, outcomes):
    grpo = catalog.make("grpo")
    assert at().run(grpo, SEARCH, 0) == outcomes["grpo", 0]

  def test_lag_errors_and_constants_compile_nothing(
      self, at, outcomes, monkeypatch
  ):
    grpo = catalog.make("grpo")
    at().run(grpo, SEARCH, 0)
    compiled = []

    def count(event, seconds, fun_name="", **details):
      if event.endswith("backend_compile_duration"):
        compiled.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
      found = {
          name: at(**{name: value}).run(grpo, SEARCH, 0)
          for name, value in {
              "lag": 1,
              "false_negative": 1.0,
              "constants": (("clip_eps_low", 0.01),),
          }.items()
      }
      at(lag=1).warm_up(grpo)
    finally:
      jax.monitoring.unregister_event_duration_listener(count)
    assert compiled == []
    usual = outcomes["grpo", 0].curve
    assert usual["reward"][0] > 0 == found["false_negative"].curve["reward"][0]
    for outcome in found.values():
      # The first rollout is the same; what is made of it is not.
      lengths = "completions/mean_length"
      assert outcome.curve[lengths][0] == usual[lengths][0]
      assert outcome.curve != usual

  def test_a_name_that_is_none_is_refused(self, laboratories):
    with pytest.raises(ValueError, match="`budget` must be one of"):
      laboratories.at(trial.Setting("explain:huge", SEARCH))


def test_the_second_task_has_its_own_problems_suite_and_length(tiny):
  task = embedded.CARRYLESS
  made = trial.Laboratory("carryless", tiny, task)
  assert made.conditions["task"] == "carryless-1"
  assert made.budget.train.completion_length == task.completion_length
  scores = made.score_base(SEARCH, 0)
  names = {f"{s.metric}/{s.name}" for s in task.suite}
  assert names <= set(scores)
  outcome = made.run(catalog.make("grpo"), SEARCH, 0)
  assert set(outcome.curve) >= {"reward", "kl"} and not outcome.diverged


def test_shipped_bases_have_names():
  for name in ("arithmetic_second", "carryless", "carryless_second"):
    assert (trial.base_directory(name) / "model.safetensors").is_file()
