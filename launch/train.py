"""Trains a policy with an algorithm of the catalogue, or continues to.

  python launch/train.py --config=experiments/train_embedded.py --workdir=DIR \
      [--config.algorithm=vm_av_grpo] [--hparam=clip_eps_high=0.3] \
      [--config.mesh.data=8] [--tensorboard] [--wandb=PROJECT]

Interrupted, preempted or killed: the same command continues. On several
machines start it on each with --coordinator_address, --num_processes and
--process_id, or let a TPU pod or SLURM be detected.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import difflib
import importlib.util
import json
import pathlib
import shutil
import sys
from typing import Any, NamedTuple, NoReturn

from absl import app, flags
import jax
from ml_collections import config_flags
from rich import console as console_lib
from rich import progress as progress_lib

from poise_jax import sharding, types
from poise_jax.algorithms import catalog
from poise_jax.discovery import trial
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints as policies
from poise_jax.rollout import scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic
from poise_jax.training import (
    checkpoint,
    sinks,
)
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    run as run_lib,
)
from poise_jax.training import (
    trainer as trainer_lib,
)

_TASK = "arithmetic-1"  # as in poise_jax.discovery.trial

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of this run alone.")
_HPARAM = flags.DEFINE_multi_string(
    "hparam", [], "NAME=VALUE of a constant of the algorithm."
)
_TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write WORKDIR/tensorboard too."
)
_WANDB = flags.DEFINE_string("wandb", None, "Weights & Biases project.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, for many processes."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which this one is.")


# Section of an experiment -> what is made of it.
_SECTIONS = {
    "train": config_lib.TrainConfig,
    "scoring": scoring.ScoreOptions,
    "mesh": sharding.MeshConfig,
    "run": run_lib.RunConfig,
    "retention": checkpoint.Retention,
    "evaluate": suite.SuiteConfig,
}
_KEYS = ("policy", "algorithm", *_SECTIONS)


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


def check_sinks() -> None:
  """Refuses sinks whose modules are missing, before anything is written."""
  for flag, given, module, extra in (
      ("tensorboard", _TENSORBOARD.value, "tensorboardX", "tensorboard"),
      ("wandb", _WANDB.value, "wandb", "wandb"),
  ):
    if given and importlib.util.find_spec(module) is None:
      raise flags.Error(
          f"--{flag} needs the Python module {module}: `pip install"
          f" 'poise_jax[{extra}]'`, or leave the flag out"
      )


def further_sinks(
    workdir: pathlib.Path, config: Mapping[str, Any], start: int
) -> sinks.Sink:
  """TensorBoard and Weights & Biases, if asked for."""
  found = []
  if _TENSORBOARD.value:
    found.append(
        sinks.to_tensorboard(workdir / "tensorboard", start_step=start)
    )
  if _WANDB.value:
    found.append(
        sinks.to_wandb(
            project=_WANDB.value,
            run_id=workdir.resolve().name,
            directory=workdir,
            config=config,
        )
    )
  return sinks.combine(*found)


class Settings(NamedTuple):
  """What the flags and the experiment say."""

  policy: str
  algorithm: types.Algorithm
  training: config_lib.TrainConfig
  running: run_lib.RunConfig
  scored: suite.SuiteConfig
  workdir: pathlib.Path


def settings() -> Settings:
  """Reads and checks all flags; starts nothing."""
  config = _CONFIG.value
  if not _WORKDIR.value:
    raise flags.Error("give --workdir=DIR, a directory of this run alone")
  for key in set(config) - set(_KEYS):
    raise unknown(f"--config.{key}", _KEYS)
  for key in {"policy", "algorithm", "train"} - set(config):
    raise flags.Error(f"get_config() in --config must set `{key}`")
  check_sinks()
  return Settings(
      policy=config.policy,
      algorithm=algorithm_of(config.algorithm, _HPARAM.value),
      training=section(
          config,
          "train",
          scoring=section(config, "scoring"),
          mesh=section(config, "mesh"),
      ),
      running=section(config, "run", retention=section(config, "retention")),
      scored=section(config, "evaluate"),
      workdir=pathlib.Path(_WORKDIR.value),
  )


def run() -> int:
  """Trains, exports the policy, and returns the exit status."""
  told = settings()
  algorithm, training, workdir = told.algorithm, told.training, told.workdir
  base = trial.base_directory(told.policy)
  with naming("--coordinator_address"):
    sharding.start_processes(
        _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    )
  with naming(f"--config.policy={told.policy}"):
    policy, tokenizer = policies.load(base), tokenizer_lib.load(base)
  with naming("--config.mesh"):
    trainer = trainer_lib.make_trainer(
        policy.graphdef, policy.params, tokenizer, training
    )
  evaluate = suite.make_evaluate(policy.graphdef, tokenizer, told.scored)

  def score(params: Any, seed: int) -> Mapping[str, float]:
    # Scored on one device: the suite is small.
    return evaluate(sharding.fetch(params), seed, arithmetic.Split.SEARCH)

  with display(algorithm.name, training.steps, workdir) as (on_start, on_step):
    result = run_lib.train(
        trainer,
        policy.params,
        algorithm,
        environment_lib.arithmetic_environment(tokenizer, told.running.seed),
        told.running,
        workdir,
        fingerprint={"--config.policy": policy.sha256, "task": _TASK},
        decode=tokenizer.decode,
        evaluate=score,
        more_sinks=lambda first: further_sinks(
            workdir, _CONFIG.value.to_dict(), first
        ),
        on_start=on_start,
        on_step=on_step,
    )
  params = sharding.fetch(result.state.params)
  if not sharding.is_writer():
    return result.exit_code
  done, target = result.state.step, workdir / "policy"
  if not result.finished:
    print(f"stopped after step {done}; the same command continues")
    return result.exit_code
  if result.start == done and target.exists():
    print(f"finished before, after step {done}: nothing to do")
  else:
    export(policy, params, base, target)
  report(workdir)
  return 0


def export(
    policy: policies.Checkpoint,
    params: Any,
    base: pathlib.Path,
    target: pathlib.Path,
) -> None:
  """Writes new weights with the tokenizer of the base, whole or not at all."""
  unfinished = target.with_name(f".{target.name}")
  shutil.rmtree(unfinished, ignore_errors=True)
  fields = json.loads((base / "config.json").read_text("utf-8"))
  special = ("eos_token_id", "bos_token_id", "pad_token_id")
  policies.save(
      unfinished, policy.config, params, **{k: fields.get(k) for k in special}
  )
  for path in base.iterdir():
    if path.is_file() and not (unfinished / path.name).exists():
      shutil.copyfile(path, unfinished / path.name)
  # Of a run whose checkpoints were removed.
  shutil.rmtree(target, ignore_errors=True)
  unfinished.rename(target)


def report(workdir: pathlib.Path) -> None:
  """Prints the last line of the metrics."""
  records = sinks.read_jsonl(workdir / "metrics.jsonl")
  values = records[-1].values
  for name in ("reward", "eval/overall", "entropy", "kl", "grad_norm"):
    number = values.get(name)
    if number is not None:
      print(f"{name} {number:.4g}")
  print(f"the policy is in {workdir / 'policy'}")


@contextlib.contextmanager
def display(
    name: str, steps: int, workdir: pathlib.Path
) -> Iterator[tuple[run_lib.OnStart, run_lib.OnStep]]:
  """Shows how far a run is on stderr: a bar, or a line a step.

  What is wrong with `workdir` before the start becomes an error of the flag.
  """
  console = console_lib.Console(stderr=True)
  bar = progress_lib.Progress(
      progress_lib.TextColumn("{task.description}"),
      progress_lib.BarColumn(),
      progress_lib.MofNCompleteColumn(),
      progress_lib.TimeRemainingColumn(),
      console=console,
      disable=not (console.is_terminal and sharding.is_writer()),
  )
  started = False

  def say(line: str) -> None:
    if sharding.is_writer():
      console.print(line, highlight=False, soft_wrap=True)

  with contextlib.ExitStack() as stack:

    def on_start(step: int) -> None:
      nonlocal started
      started = True
      if step < steps:
        stack.enter_context(bar)
        bar.add_task(name, total=steps, completed=step)
        if step:
          say(f"continuing after step {step}")

    def on_step(step: int, values: run_lib.Values) -> None:
      reward = f"reward {values['reward']:.3f}"
      bar.update(bar.task_ids[0], completed=step, description=reward)
      if bar.disable:
        say(f"step {step}/{steps} {reward}")

    try:
      yield on_start, on_step
    except (ValueError, RuntimeError, OSError) as error:
      if started and not isinstance(error, OSError):
        raise
      raise flags.Error(f"--workdir={workdir}: {error}") from error


def main(argv: Sequence[str]) -> None:
  """Runs; anything wrong is one line on stderr and exit status 2."""
  try:
    if argv[1:]:
      raise flags.Error(f"unexpected argument {argv[1]!r}: use --flag=value")
    status = run()
  except KeyboardInterrupt:
    fail("interrupted; the same command continues", status=130)
  except (flags.Error, OSError) as error:
    fail(str(error))
  sys.exit(status)


def fail(message: str, status: int = 2) -> NoReturn:
  """Ends the program with one line on stderr."""
  print(f"train: {' '.join(message.split())}", file=sys.stderr)
  sys.exit(status)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags, and executes the experiment file."""
  try:
    rest = flags.FLAGS(argv)
    # A file that is missing is noticed only when something is asked of it.
    given = _CONFIG.value is not None and callable(_CONFIG.value.to_dict)
  except flags.Error as error:
    fail(str(error))
  except (AttributeError, KeyError) as error:
    fail(unknown_key(argv, str(error)))
  except Exception as error:  # Whatever an experiment file may raise.
    # Of a traceback the last line says what is wrong.
    reason = str(error).strip().split("\n")[-1].strip()
    fail(f"cannot load --config: {type(error).__name__}: {reason}")
  if not given:
    fail("give --config=FILE, such as experiments/train_embedded.py")
  return rest


def unknown_key(argv: Sequence[str], error: str) -> str:
  """Says which --config.KEY=VALUE has no such key."""
  for argument in argv:
    name = argument.partition("=")[0]
    for key in name.split(".")[1:]:
      if f"'{key}" in error:
        _, *hint = error.replace("\\n", " ").split("Did you mean")
        words = "".join(hint).translate(str.maketrans("", "", "\\\"'"))
        return f"{name} is unknown" + f" (did you mean{words})" * bool(hint)
  return f"cannot load --config: {error}"


if __name__ == "__main__":
  jax.config.config_with_absl()
  app.run(main, flags_parser=parse)
