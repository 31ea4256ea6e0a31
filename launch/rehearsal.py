"""What `launch/train.py --dry_run` prints: memory and FLOPs of each program."""

from collections.abc import Mapping, Sequence
import os
import re

from absl import flags
import experiment
import jax
import job

from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints as policies
from poise_jax.models import transformer
from poise_jax.training import dry_run, memory, throughput

_COLUMNS = "{:<20} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}  {}"


def _shape(told: experiment.Experiment) -> transformer.TransformerConfig:
  """Shape of the policy: config.json is enough, or the experiment tells it."""
  if not told.policy and told.architecture is not None:
    return told.architecture
  with experiment.naming(f"--config.policy={told.policy}"):
    return policies.read_config(trial.base_directory(told.policy))[0]


def _devices(count: int, topology: str) -> Sequence[jax.Device]:
  """Devices to compile for: those of a TPU topology, or virtual CPUs."""
  if topology:
    from jax.experimental import topologies

    # Not run by the tests of this project, which have no TPU compiler.
    return topologies.get_topology_desc(topology, "tpu").devices
  forced = r"--xla_force_host_platform_device_count=\d+"
  os.environ["XLA_FLAGS"] = re.sub(forced, "", os.environ.get("XLA_FLAGS", ""))
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", count)
  return jax.devices()


def _gigabytes(number: float) -> str:
  return f"{number / 1e9:.3f}"


def _row(program: dry_run.Program) -> str:
  flops = program.flops
  return _COLUMNS.format(
      program.name,
      "unknown" if flops is None else f"{flops / 1e12:.4g}",
      *map(
          _gigabytes,
          (
              program.arguments,
              program.temporary,
              program.output,
              program.beside,
              program.peak,
          ),
      ),
      f"{program.seconds:.0f} s",
  )


def _estimated(found: memory.Estimate) -> list[str]:
  """The arithmetic estimate, a line a phase."""

  def line(name: str, parts: Mapping[str, float]) -> str:
    listed = ", ".join(f"{k} {_gigabytes(v)}" for k, v in parts.items())
    return f"  {name}: {listed}"

  return [
      "At least, by shapes alone, GB on each device:",
      line("always", found.state),
      line("rollout", found.rollout),
      line("update", found.update),
      f"  together: {_gigabytes(found.peak)}",
  ]


def step_flops(
    programs: Sequence[dry_run.Program], told: experiment.Experiment
) -> float:
  """FLOPs of one step in which every completion is as long as it may be.

  Args:
    programs: of the step.
    told: how often each of them runs.

  Returns:
    FLOPs on all devices; NaN if those of a program are unknown.
  """
  config = told.training
  schedule = config.schedule
  at_once = min(schedule.prompts_at_once or config.prompts, config.prompts)
  parts = config.prompts // at_once
  length = config.completion_length
  stretch = min(schedule.segment or length, length)
  times = {
      "prefill": parts,
      "grow cache": 0,
      f"decode {stretch} tokens": parts * length / stretch,
      "score a rollout": config.reference + config.scores_old,
      # With residuals the backward pass has none of the forward pass's.
      "forward": config.updates,
      "backward": config.updates,
  }
  counted = (
      (float("nan") if program.flops is None else program.flops)
      * times.get(program.name, 0)
      for program in programs
      if times.get(program.name, 0)
  )
  return sum(counted)


def _conclude(
    told: experiment.Experiment, programs: Sequence[dry_run.Program]
) -> None:
  """Prints the sums, and refuses what does not fit."""
  flops, kind = step_flops(programs, told), told.device
  print(f"One step at full length: {flops / 1e15:.4g} PFLOP on all devices.")
  largest = max(programs, key=lambda program: program.peak)
  needed = f"{largest.name} needs {_gigabytes(largest.peak)} GB on each device"
  if not kind:
    print(f"Most memory: {needed}; --config.device names none to compare with.")
    return
  peak = throughput.peak_flops(kind)
  if peak is not None:
    seconds = flops / peak / told.training.mesh.size
    print(f"It takes {kind} at least {seconds:.3g} s, at their peak.")
  limit = memory.of_kind(kind)
  if largest.peak > limit:
    sampling = largest.name.startswith(("prefill", "grow", "decode"))
    advice = (
        "lower --config.schedule.prompts_at_once"
        if sampling
        else "raise --config.train.micro_batches"
    )
    raise flags.Error(
        f"{needed}, {kind} has {_gigabytes(limit)}: {advice}, or spread the"
        " policy over more devices with --config.mesh"
    )
  share = largest.peak / limit
  print(
      f"It fits: {needed}, {share:.0%} of the {_gigabytes(limit)} GB of {kind}."
  )


def run(told: experiment.Experiment, topology: str = "") -> int:
  """Compiles each program of a step, and prints what it takes.

  Args:
    told: the experiment.
    topology: of TPUs, such as "v5e:4x4", if their compiler is installed.

  Returns:
    0.

  Raises:
    flags.Error: if the experiment cannot work, or not on its device.
  """
  model, training, mesh = _shape(told), told.training, told.training.mesh
  job.check_length(told, model)
  width = job.prompt_width(told)
  parameters = jax.tree.leaves(transformer.structure(model)[1])
  print(
      f"{sum(p.size for p in parameters):,} parameters on {mesh.size} x"
      f" {told.device or 'any device'} (data {mesh.data}, fsdp {mesh.fsdp},"
      f" tensor {mesh.tensor}); {training.prompts} prompts of up to {width}"
      f" tokens x {training.group_size} completions of up to"
      f" {training.completion_length}."
  )
  with experiment.naming("--config.device"):
    limit = memory.of_kind(told.device) if told.device else None
  found = memory.estimate(model, training, width)
  print("\n".join(_estimated(found)), flush=True)
  if limit is not None:
    with experiment.naming("--config.mesh"):
      memory.check(found, limit, told.device)
  compiler = f"the compiler of {topology}" if topology else "CPU's compiler"
  print(
      f"By {compiler}, GB on each device"
      + "; it stands in for that of the accelerator:" * (not topology)
  )
  names = ("TFLOP", "arguments", "temporary", "output", "beside", "together")
  print(_COLUMNS.format("program", *names, "compiled in"), flush=True)
  with experiment.naming("--config.mesh"):
    programs = dry_run.programs(
        model,
        told.algorithm,
        training,
        width,
        _devices(mesh.size, topology),
        on_program=lambda program: print(_row(program), flush=True),
    )
  _conclude(told, programs)
  return 0
