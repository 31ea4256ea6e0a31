"""Experiment files as dataclasses; what is wrong in them names its flag."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import difflib
from typing import Any, NamedTuple

from absl import flags

from poise_jax import sharding, types
from poise_jax.algorithms import catalog
from poise_jax.evaluation import suite
from poise_jax.models import families
from poise_jax.rollout import generate, scoring
from poise_jax.training import checkpoint, math_task
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    run as run_lib,
)

# Section of an experiment -> what is made of it.
_SECTIONS = {
    "train": config_lib.TrainConfig,
    "scoring": scoring.ScoreOptions,
    "schedule": generate.Schedule,
    "mesh": sharding.MeshConfig,
    "run": run_lib.RunConfig,
    "retention": checkpoint.Retention,
    "evaluate": suite.SuiteConfig,
    "problems": math_task.ProblemsConfig,
    "architecture": families.TransformerConfig,
}
_NEEDED = ("policy", "algorithm", "train")
_KEYS = ("policy", "algorithm", "device", *_SECTIONS)


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
  """Lets errors name the flag to change, unless they do."""
  try:
    yield
  except (ValueError, TypeError, OSError) as error:
    text = str(error)
    if not text.startswith("--"):
      text = f"{flag}: {text}"
    raise flags.Error(text) from error


def unknown(flag: str, known: Sequence[str]) -> flags.Error:
  """An error about a flag that there is not."""
  prefix, _, key = flag.rpartition(".")
  close = difflib.get_close_matches(key, known, 1)
  hint = f" (did you mean {prefix}.{close[0]}?)" if close else ""
  return flags.Error(
      f"{flag} is unknown{hint}; there are: {', '.join(sorted(known))}"
  )


def section(config: Any, name: str, **more: Any) -> Any:
  """Makes one part of an experiment; `more` is what is not in the file."""
  values = dict(config.get(name, {}))
  known = {f.name for f in dataclasses.fields(_SECTIONS[name])} - more.keys()
  for key in values.keys() - known:
    raise unknown(f"--config.{name}.{key}", sorted(known))
  with naming(f"--config.{name}"):
    return _SECTIONS[name](**values, **more)


def algorithm_of(name: str, settings: Sequence[str]) -> types.Algorithm:
  """Makes the algorithm with the constants of --hparam."""
  with naming(f"--config.algorithm={name}"):
    catalog.describe(name)
  constants = {}
  for setting in settings:
    key, _, value = setting.partition("=")
    try:
      constants[key] = float(value)
    except ValueError:
      raise flags.Error(
          f"--hparam={setting} must be NAME=VALUE with a number, such as"
          " --hparam=clip_eps_high=0.28"
      ) from None
  with naming("--hparam"):
    return catalog.make(name, **constants)


class Experiment(NamedTuple):
  """What an experiment says.

  Attributes:
    policy: directory, "embedded", or empty for a dry run of `architecture`.
    algorithm: to train with.
    training: how long and how fast.
    running: what is kept.
    scored: problems of the embedded task to evaluate on; None for another.
    problems: to train on; None for the embedded task.
    device: kind of the devices that the mesh is made for, empty for any.
    architecture: of the policy, for a dry run without it; None if not said.
  """

  policy: str
  algorithm: types.Algorithm
  training: config_lib.TrainConfig
  running: run_lib.RunConfig
  scored: suite.SuiteConfig | None
  problems: math_task.ProblemsConfig | None
  device: str
  architecture: families.TransformerConfig | None


def read(config: Any, hparams: Sequence[str]) -> Experiment:
  """Reads and checks an experiment; starts nothing.

  Args:
    config: what `get_config` gave, with the changes of flags.
    hparams: constants of the algorithm, as NAME=VALUE.

  Raises:
    flags.Error: naming the flag to change.
  """
  for key in set(config) - set(_KEYS):
    raise unknown(f"--config.{key}", _KEYS)
  for key in set(_NEEDED) - set(config):
    raise flags.Error(f"get_config() in --config must set `{key}`")
  if "problems" in config and "evaluate" in config:
    raise flags.Error(
        "--config.evaluate is of the embedded task, and --config.problems is"
        " given: leave `evaluate` out of the experiment"
    )
  optional = lambda name: section(config, name) if name in config else None
  return Experiment(
      policy=config.policy,
      algorithm=algorithm_of(config.algorithm, hparams),
      training=section(
          config,
          "train",
          scoring=section(config, "scoring"),
          schedule=section(config, "schedule"),
          mesh=section(config, "mesh"),
      ),
      running=section(config, "run", retention=section(config, "retention")),
      scored=None if "problems" in config else section(config, "evaluate"),
      problems=optional("problems"),
      device=config.get("device", ""),
      architecture=optional("architecture"),
  )
