"""From an experiment and the text of a sweep to configurations and seeds."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

from absl import flags
import experiment

from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import verification
from poise_jax.discovery.sweeps import cell, design, spec
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.tasks import arithmetic, embedded
from poise_jax.training import config as config_lib
from poise_jax.training import policy_engine

_REQUIRE_JAIL = flags.DEFINE_bool(
    "require_jail",
    False,
    "Refuse to verify the FILE.py of a candidate where seccomp is missing.",
)
_SEEDS = tuple(range(5))
_TASK = "arithmetic"
# Keys of an experiment that only a sweep has.
_OWN = ("sweep", "baseline", "split", "task", "title")
_SCALARS = (int, float, bool, str)

Draw = Callable[[Mapping[str, design.Axis]], list[dict[str, Any]]]


class Told(NamedTuple):
  """What a sweep is of.

  Attributes:
    configs: what is compared.
    seeds: of each.
    baseline: that the experiment names; empty if it does not.
    title: of the tables.
    counts: axis -> how many values, for people.
  """

  configs: tuple[cell.Config, ...]
  seeds: tuple[int, ...]
  baseline: str
  title: str
  counts: Mapping[str, int]


def read(config: Any, text: str | None, draw: Draw | None = None) -> Told:
  """Reads and checks a sweep; trains nothing.

  Args:
    config: what `get_config` gave, with the changes of flags.
    text: the sweep; None for that of the experiment.
    draw: makes combinations from axes; a grid if None.

  Raises:
    flags.Error: naming the flag to change.
  """
  own = {key: config[key] for key in _OWN if key in config}
  text = text if text is not None else own.get("sweep")
  if not text:
    raise flags.Error('give --sweep="NAME=VALUE,VALUE;...;seed=0:5"')
  with experiment.naming("--sweep"):
    axes = spec.parse(text, fields(config, text))
    seeds = axes.pop("seed", _SEEDS)
    if isinstance(seeds, design.Range):
      raise ValueError("`seed` must be a list such as 0:5, got a range")
    combinations = (draw or design.grid)(axes)
  with experiment.naming("--config.split"):
    split = split_of(own.get("split", "search"))
  sources = verified({str(c.get("algorithm")) for c in combinations})
  configs = [
      _config(
          config,
          combination,
          own.get("task", _TASK),
          split,
          sources,
      )
      for combination in combinations
  ]
  counts = {"configurations": len(configs), "seeds": len(seeds)}
  return Told(
      tuple(configs),
      tuple(seeds),
      own.get("baseline", ""),
      own.get("title", "Sweep"),
      counts,
  )


def split_of(name: str) -> arithmetic.Split:
  """The problems to score on.

  Raises:
    ValueError: if there are none of that name.
  """
  known = [s.name.lower() for s in arithmetic.Split if s.name != "TRAIN"]
  if name not in known:
    raise ValueError(f"`split` must be one of {', '.join(known)}, got {name!r}")
  return arithmetic.Split[name.upper()]


def fields(config: Any, text: str) -> dict[str, type]:
  """What can be swept: name -> type, by what the experiment is made of."""
  found: dict[str, type] = {"algorithm": str, "policy": str, "seed": int}
  for section, kind in (
      ("train", config_lib.TrainConfig),
      ("evaluate", suite.SuiteConfig),
  ):
    found |= {
        f"{section}.{field.name}": field.type
        for field in dataclasses.fields(kind)
        if field.type in _SCALARS
    }
  named = [config.algorithm]
  for part in text.split(";"):
    name, _, values = part.partition("=")
    if name.strip() == "algorithm":
      named += [value.strip() for value in values.split(",")]
  for name in named:
    if name in catalog.names():
      defaults = catalog.describe(name).defaults
      found |= {f"hparam.{key}": float for key in defaults}
  return found


def _config(
    config: Any,
    combination: Mapping[str, Any],
    task: str,
    split: arithmetic.Split,
    sources: Mapping[str, tuple[bytes, str]],
) -> cell.Config:
  """One combination as a configuration."""
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    for key in _OWN:
      if key in changed:
        del changed[key]
    for name, value in combination.items():
      section, _, field = name.rpartition(".")
      if section == "hparam":
        continue
      if section:
        if section not in changed:
          changed[section] = {}
        changed[section][field] = value
      else:
        changed[field] = value
  program, source = sources.get(changed.algorithm, (None, ""))
  algorithm = changed.algorithm
  if program is not None:
    # The experiment is read with another one in its place.
    algorithm = pathlib.Path(changed.algorithm).stem
    changed.algorithm = catalog.names()[0]
  told = experiment.read(changed, ())
  if told.scored is None:
    raise flags.Error(
        "--config must be an experiment of the embedded task, got one with"
        " `problems`; train those one by one with launch/train.py"
    )
  made = cell.Config(
      name=_name(algorithm, combination),
      algorithm=algorithm,
      budget=_budget(told),
      hparams={
          name.removeprefix("hparam."): value
          for name, value in combination.items()
          if name.startswith("hparam.")
      },
      task=task,
      base=told.policy,
      split=split,
      artifact=program,
      source=source,
  )
  with experiment.naming(f"--sweep: {made.name}"):
    embedded.named(task)
    policy_engine.check_algorithm(cell.algorithm_of(made), told.training)
  return made


def _name(algorithm: str, combination: Mapping[str, Any]) -> str:
  """The algorithm and the last part of what else is swept."""
  changed = [
      f"{name.rpartition('.')[2]}={value}"
      for name, value in combination.items()
      if name != "algorithm"
  ]
  return " ".join([algorithm, *changed])


def _budget(told: experiment.Experiment) -> budgets.Budget:
  """The budget with these sizes: a named one, or one named by its hash."""
  for known in budgets.ALL.values():
    if (known.train, known.evaluate) == (told.training, told.scored):
      return known
  made = budgets.Budget("custom", told.training, told.scored)
  digest = records.sha256(records.canonical_json(dataclasses.asdict(made)))
  return dataclasses.replace(made, name=f"custom-{digest[:8]}")


def verified(names: Sequence[str] | set[str]) -> dict[str, tuple[bytes, str]]:
  """Verifies the candidates among algorithms: those that are files.

  Returns:
    Name -> exported program and text.

  Raises:
    flags.Error: if one may not be trained, or this machine cannot tell.
  """
  files = sorted(name for name in names if name.endswith(".py"))
  if not files:
    return {}
  found = {}
  with jail_lib.Jail(require_jail=_required()) as jail:
    for name in files:
      with experiment.naming(f"--sweep: algorithm={name}"):
        text = pathlib.Path(name).read_text("utf-8")
      try:
        verdict = verification.verify(text, jail)
      except jail_lib.JailError as error:
        raise flags.Error(
            f"--sweep: {name} is not verified: {error}"
        ) from error
      if not verdict.ok:
        said = "; ".join(f.message for f in verdict.findings)
        raise flags.Error(f"--sweep: {name} may not be trained: {said}")
      found[name] = (verdict.artifact, text)
  return found


def _required() -> bool:
  """What the flag says; not where no command line was read."""
  return flags.FLAGS.is_parsed() and _REQUIRE_JAIL.value
