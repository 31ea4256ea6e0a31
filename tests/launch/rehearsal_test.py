"""--dry_run compiles for a mesh that is not here, and says what fits."""

import pathlib
import subprocess
import sys

from absl import flags
import experiment
import pytest
import rehearsal

from poise_jax.training import config as config_lib
from poise_jax.training import dry_run

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "train.py"


def start(name, *arguments):
  path = ROOT / "experiments" / name
  return subprocess.run(
      [
          sys.executable,
          str(SCRIPT),
          f"--config={path}",
          "--dry_run",
          *arguments,
      ],
      capture_output=True,
      text=True,
      check=False,
      timeout=1200,
  )


SMALL = (
    *("--config.architecture.num_hidden_layers=1", "--config.train.prompts=8"),
    *("--config.train.completion_length=8", "--config.schedule.segment=4"),
    *("--config.scoring.chunk=4", "--config.train.group_size=2"),
    *(
        "--config.problems.prompt_length=16",
        "--config.schedule.prompts_at_once=4",
    ),
)


def test_a_mesh_of_eight_devices_is_compiled_for():
  done = start(
      "qwen25_math_small.py",
      *SMALL,
      "--config.architecture.vocab_size=64",
      "--config.problems.prompt_buckets=(16,)",
      *("--config.mesh.data=2", "--config.mesh.fsdp=2"),
      *("--config.mesh.tensor=2", "--config.device=TPU v5 lite"),
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  # Embedding 64 · 96, three norms of 96, queries 96 · 97, keys and values
  # 2 · 16 · 97, output 96², MLP 3 · 96 · 560.
  assert lines[0].startswith("189,344 parameters on 8 x TPU v5 lite (data 2,")
  named = [line[:20].strip() for line in lines]
  start_of = named.index("program")
  assert named[start_of + 1 : start_of + 8] == [
      *("prefill", "grow cache", "decode 4 tokens", "score a rollout"),
      *("forward", "loss of grpo_poise", "backward"),
  ]
  assert any("it stands in for that of the accelerator" in x for x in lines)
  assert lines[-1].startswith("It fits: ")


def test_what_cannot_fit_is_refused_before_it_compiles():
  done = start(
      "qwen25_math.py:v5e_16",
      *("--config.train.micro_batches=1", "--config.scoring.chunk=0"),
  )
  assert done.returncode == 2
  assert "compiled in" not in done.stdout
  assert "At least, by shapes alone" in done.stdout
  assert done.stderr.startswith("train: --config.mesh: at least ")
  assert "TPU v5 lite has 16.0" in done.stderr
  assert done.stderr.count("\n") == 1
  assert "set --config.scoring.chunk=" in done.stderr


@pytest.fixture
def told():
  training = config_lib.TrainConfig(
      steps=1,
      prompts=8,
      group_size=2,
      epochs=2,
      minibatches=2,
      learning_rate=1e-3,
      completion_length=6,
  )
  return experiment.Experiment(
      *("policy", None, training, None, None, None, "TPU v5 lite", None)
  )


def program(name, gigabytes, flops=1e12):
  return dry_run.Program(name, flops, int(gigabytes * 1e9), 0, 0, 0, 1.0)


@pytest.mark.parametrize(
    "name, flag",
    [
        ("decode 6 tokens", "--config.schedule.prompts_at_once"),
        ("backward", "--config.train.micro_batches"),
    ],
)
def test_what_does_not_fit_names_a_flag(told, name, flag):
  with pytest.raises(flags.Error) as error:
    rehearsal._conclude(told, [program("prefill", 1), program(name, 17)])
  assert f"{name} needs 17.000 GB on each device" in str(error.value)
  assert flag in str(error.value)


def test_flops_of_a_step_count_programs_as_often_as_they_run(told, capsys):
  programs = [
      program(name, 1, flops)
      for name, flops in (
          *(("prefill", 1.0), ("grow cache", 0.0), ("decode 6 tokens", 10.0)),
          *(("score a rollout", 100.0), ("forward", 1e3), ("backward", 1e4)),
      )
  ]
  # Four updates, one pass of the reference, one rollout in one part.
  assert rehearsal.step_flops(programs, told) == 111 + 4 * 11e3
  rehearsal._conclude(told, programs)
  assert "It fits: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["a100_80gb_8", "v5e_16", "v5p_8"])
def test_the_recipe_of_the_paper_fits_its_meshes(mesh):
  done = start(f"qwen25_math.py:{mesh}")
  assert done.returncode == 0, done.stdout + done.stderr
  assert done.stdout.startswith("1,543,714,304 parameters on")
