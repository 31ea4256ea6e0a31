"""A budget of seconds, and whatever is costly to make, made once.

A laboratory compiles a policy, the gate traces a source and a trainer compiles
a loss: all are functions of their arguments alone, so campaigns may share them.
"""

import contextlib
import functools

import jax
import pytest

from poise_jax.archive import store
from poise_jax.candidates import (
    artifact,
    inmate,
    known,
    limits,
    verification,
)
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery import budgets, search, trial
from poise_jax.evaluation import suite
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

  def trace(self, source, *, group_size=8, fallback_shape=None, deadline=None):
    request = {"group_size": group_size, "fallback_shape": fallback_shape}
    header, body = inmate.serve(request, source, self.bounds)
    return jail_lib._read_trace(header, body, ())

  def examine(self, artifact, *, parent=None, must_learn=True, deadline=None):
    request = {"artifact_bytes": len(artifact), "must_learn": must_learn}
    grpo = known.catalogue().known["grpo"]
    answer = inmate.examine(request, artifact + (parent or b""), grpo)
    return jail_lib._read_examination(*answer)

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
  monkeypatch.setattr(trial, "Laboratory", lambda base, budget: laboratory)
  monkeypatch.setattr(jail_lib, "Jail", lambda **options: jail)
  monkeypatch.setattr(verification, "verify", verify)
  monkeypatch.setattr(artifact, "load", load)


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
      workers=2,
  )


@pytest.fixture
def opened(tmp_path):
  """Opens archives by name; all are closed at the end."""
  with contextlib.ExitStack() as stack:
    yield lambda name, kind=store.Archive: stack.enter_context(
        kind.open(tmp_path / f"{name}.db", create=True)
    )
