"""Trains a policy with an algorithm of the catalogue, or continues to.

  python launch/train.py --config=experiments/train_embedded.py --workdir=DIR \
      [--config.algorithm=vm_av_grpo] [--hparam=clip_eps_high=0.3] \
      [--config.mesh.data=8] [--tensorboard] [--wandb=PROJECT]

With --dry_run nothing is trained: see launch/rehearsal.py. An experiment with
`problems` trains a Hugging Face policy on them, the others the embedded task.
Interrupted, preempted or killed: the same command continues. On several
machines start it on each with --coordinator_address, --num_processes and
--process_id, or let a TPU pod or SLURM be detected.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.util
import pathlib
import sys
from typing import Any, NoReturn

from absl import app, flags
import experiment
import jax
import job as job_lib
from ml_collections import config_flags
import rehearsal
from rich import console as console_lib
from rich import progress as progress_lib

from poise_jax import sharding
from poise_jax.models import checkpoints as policies
from poise_jax.training import (
    run as run_lib,
)
from poise_jax.training import (
    sinks,
)

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
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Compile for the mesh without its devices or any weights, print memory and"
    " FLOPs, and end; 2 is the exit status if it does not fit --config.device.",
)
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "Dry run with the compiler of these TPUs, such as v5e:4x4; needs libtpu.",
)


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
            run_id=sinks.run_id(workdir),
            directory=workdir,
            config=config,
            name=workdir.resolve().name,
        )
    )
  return sinks.combine(*found)


def workdir_of() -> pathlib.Path:
  """The directory of the run, checked like the sinks."""
  if not _WORKDIR.value:
    raise flags.Error("give --workdir=DIR, a directory of this run alone")
  with experiment.naming("--workdir"):
    run_lib.check_workdir(_WORKDIR.value)
  check_sinks()
  return pathlib.Path(_WORKDIR.value)


def run() -> int:
  """Trains, exports the policy, and returns the exit status."""
  dry = _DRY_RUN.value or bool(_TOPOLOGY.value)
  # Before the experiment, so that what is missing is said first.
  workdir = None if dry else workdir_of()
  told = experiment.read(_CONFIG.value, _HPARAM.value)
  if dry:
    return rehearsal.run(told, _TOPOLOGY.value or "")
  with experiment.naming("--coordinator_address"):
    sharding.start_processes(
        _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    )
  with contextlib.ExitStack() as stack:
    return train(told, job_lib.make(told, stack), workdir)


def train(
    told: experiment.Experiment, job: job_lib.Job, workdir: pathlib.Path
) -> int:
  """Trains in `workdir`, exports, and returns the exit status."""
  name, steps = told.algorithm.name, told.training.steps
  with display(name, steps, workdir) as (on_start, on_step):

    def begin(step: int) -> None:
      if job.about and sharding.is_writer():
        print(job.about, file=sys.stderr)
      on_start(step)
      job_lib.release(job)

    result = run_lib.train(
        job.trainer,
        job.policy.params,
        told.algorithm,
        job.environment,
        told.running,
        workdir,
        fingerprint=job.fingerprint,
        decode=job.decode,
        evaluate=job.evaluate,
        more_sinks=lambda first: further_sinks(
            workdir, _CONFIG.value.to_dict(), first
        ),
        on_start=begin,
        on_step=on_step,
    )
  done, target = result.state.step, workdir / "policy"
  fresh = result.finished and not (result.start == done and target.exists())
  if fresh:
    # By all processes: each holds a part of the weights.
    policies.save(
        target,
        job.policy.config,
        job.trainer.policy(result.state),
        eos_token_id=list(job.eos_ids) or None,
        source=job.base,
        dtype=stored_dtype(job.policy.fields),
    )
  if not sharding.is_writer():
    return result.exit_code
  if not result.finished:
    print(f"stopped after step {done}; the same command continues")
    return result.exit_code
  if not fresh:
    print(f"finished before, after step {done}: nothing to do")
  report(workdir)
  return 0


def stored_dtype(fields: Mapping[str, Any]) -> str | None:
  """The type of weights that a config.json names, None if it is no usual one."""
  named = fields.get("torch_dtype", fields.get("dtype"))
  return named if named in ("float32", "bfloat16", "float16") else None


def report(workdir: pathlib.Path) -> None:
  """Prints the last line of the metrics."""
  records = sinks.read_jsonl(workdir / "metrics.jsonl")
  values = records[-1].values
  named = (
      "reward",
      "eval/overall",
      "eval/accuracy",
      "entropy",
      "kl",
      "grad_norm",
  )
  for name in named:
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
