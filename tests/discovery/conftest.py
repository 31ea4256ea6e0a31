"""A budget of seconds, and whatever is costly to make, made once.

A laboratory compiles a policy, the gate traces a source and a trainer compiles
a loss: all are functions of their arguments alone, so campaigns may share them.
"""

import contextlib
import functools

import jax
import pytest

from poise_jax.algorithms import catalog
from poise_jax.archive import store
from poise_jax.candidates import (
    answers,
    artifact,
    inmate,
    known,
    limits,
    verification,
)
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery import admission, explaining, search
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import progress as progress_lib
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.trials import budgets, trial
from poise_jax.evaluation import suite
from poise_jax.tasks import arithmetic
from poise_jax.training import config


@pytest.fixture(scope="session")
def tiny():
  """A budget of seconds, also known by its name while tests run."""
  train = config.TrainConfig(
      steps=2,
      prompts=6,
      group_size=4,
      epochs=1,
      minibatches=2,
      learning_rate=1e-3,
  )
  return budgets.Budget("tiny", train, suite.SuiteConfig(2, 4))


@pytest.fixture(scope="session")
def laboratory(tiny):
  return trial.Laboratory(trial.EMBEDDED, tiny)


class Unlocked(jail_lib.Jail):
  """Traces in this process, as the child of a jail does in its own.

  Seconds faster for each source, and the sources here are ours; the tests of
  `candidates` and of `launch` use the real one.
  """

  def __init__(self):
    self.bounds = limits.Limits()

  def refill(self):
    pass

  def trace(self, source, *, group_size=8, fallback_shape=None, deadline=None):
    request = {"group_size": group_size, "fallback_shape": fallback_shape}
    header, body = inmate.serve(request, source, self.bounds)
    return answers.read_trace(header, body, (), self.bounds)

  def examine(self, artifact, *, parent=None, must_learn=True, deadline=None):
    request = {"artifact_bytes": len(artifact), "must_learn": must_learn}
    grpo = known.catalogue().known["grpo"]
    answer = inmate.examine(request, artifact + (parent or b""), grpo)
    return answers.read_examination(*answer)

  def close(self):
    pass


@pytest.fixture(scope="session")
def jail():
  # As in a real child: else programs name the lines that they came from.
  name = "jax_traceback_in_locations_limit"
  before = getattr(jax.config, name)
  jax.config.update(name, 0)
  yield Unlocked()
  jax.config.update(name, before)


@pytest.fixture(scope="session")
def verify(jail):
  """The whole gate, each source once."""
  gate = verification.verify

  @functools.cache
  def remembered(source, *arguments):
    return gate(source, jail, known=known.catalogue(), **dict(arguments))

  def verify(source, jail, *, known, **arguments):
    return remembered(source, *arguments.items())

  return verify


@pytest.fixture(scope="session")
def load():
  """Loads each artifact once, so that campaigns share what compiles."""
  return functools.cache(artifact.load)


@pytest.fixture
def shared(monkeypatch, tiny, laboratory, jail, verify, load):
  """Lets campaigns share laboratory, verdicts and compiled losses."""
  monkeypatch.setitem(budgets.ALL, "tiny", tiny)
  monkeypatch.setattr(
      trial, "Laboratory", lambda base, budget, task=None: laboratory
  )
  monkeypatch.setattr(jail_lib, "Jail", lambda **options: jail)
  monkeypatch.setattr(verification, "verify", verify)
  monkeypatch.setattr(artifact, "load", load)


HOME = trial.Setting("tiny", arithmetic.Split.SEARCH)


@pytest.fixture
def campaigns(opened, shared, laboratory, jail):
  """Makes a campaign in the archive of this name, in some laboratory."""

  def make(name="a", *, laboratory=laboratory, progress=None, workers=2):
    archive = opened(name)
    return campaign_lib.Campaign(
        campaign_lib.enter(archive, "test", {"budget": "tiny"}),
        archive=archive,
        laboratories=trial.Laboratories(lambda base, budget: laboratory),
        home=HOME,
        jail=jail,
        progress=progress or progress_lib.Silent(),
        workers=workers,
    )

  return make


class Scripted(trial.Laboratory):
  """Trains nothing: what a run scores is a function of name, split and seed."""

  def __init__(self, laboratory, overall):
    self.__dict__.update(vars(laboratory))
    self._overall = overall
    self.runs = []

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    self.runs.append((algorithm.name, split, seed))
    overall = self._overall(algorithm.name, split, seed)
    if overall is None:
      return trial.Outcome("non-finite loss at step 1", {}, {})
    metrics = {"overall": overall, "response_length": 20.0}
    return trial.Outcome("", metrics, {"entropy": [0.3], "kl": [0.1]})

  def warm_up(self, algorithm):
    pass


@pytest.fixture
def scripted(campaigns, laboratory):
  """A campaign whose runs score what a function says, and its root."""

  def make(overall, names=("grpo",), **options):
    at_work = Scripted(laboratory, overall)
    campaign = campaigns(laboratory=at_work, workers=1, **options)
    for index, name in enumerate(names):
      campaign.admit(
          index,
          admission.Draft(
              name=name,
              role="generated" if index else "root",
              generation=int(index > 0),
              parents=(f"{campaign.id}-000",) if index else (),
              source=catalog.source(name),
              mechanisms={},
              rationale="",
          ),
      )
    assert all(c.accepted for c in campaign.candidates)
    return campaign, at_work

  return make


@pytest.fixture(scope="session")
def plain_worth():
  """Overall as it is."""
  return worths.Worth(objectives.DEFAULT, {"overall": 50.0}, {})


@pytest.fixture(scope="session")
def wanted():
  """Every seed below `seeds` of every candidate, at the tiny budget."""
  return lambda candidates, seeds: [
      trial.Measurement(candidate, seed, HOME)
      for seed in range(seeds)
      for candidate in candidates
  ]


@pytest.fixture(scope="session")
def tiny_config():
  """Makes a campaign of two rounds of two, each field replaceable."""
  return functools.partial(
      search.SearchConfig,
      name="tiny",
      budget="tiny",
      root_seeds=1,
      baselines=("dapo",),
      rounds=2,
      parents=2,
      children=2,
      child_seeds=1,
      max_seeds=2,
      rungs=(),
      confirm_budget="tiny",
      confirm_seeds=2,
      second_base="",
      sealed_seeds=1,
      explain=explaining.Plan(ablation_trials=0, settings=0, hard_seeds=0),
      workers=2,
  )


@pytest.fixture
def opened(tmp_path):
  """Opens archives by name; all are closed at the end."""
  with contextlib.ExitStack() as stack:
    yield lambda name, kind=store.Archive: stack.enter_context(
        kind.open(tmp_path / f"{name}.db", create=True)
    )
