"""Flags of asking to settings, in a process where no other program has flags."""

import os
import pathlib
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"

BEGIN = """
import sys
from absl import flags
import asking
from poise_jax import sharding
from poise_jax.tasks import arithmetic, grading_pool
flags.FLAGS(["program", *sys.argv[1:]])
"""


def _run(code, *arguments):
  path = os.pathsep.join([str(LAUNCH), os.environ.get("PYTHONPATH", "")])
  return subprocess.run(
      [sys.executable, "-c", BEGIN + code, *arguments],
      capture_output=True,
      text=True,
      env=os.environ | {"PYTHONPATH": path},
      timeout=120,
  )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (
            [],
            "assert asking.settings().mesh == sharding.MeshConfig()\n"
            "assert asking.settings().stop is None",
        ),
        (
            [
                "--mesh.data=4",
                "--mesh.tensor=2",
                "--seed=3",
                "--dtype=bfloat16",
            ],
            "found = asking.settings()\n"
            "assert found.mesh == sharding.MeshConfig(data=4, tensor=2)\n"
            "assert (found.seed, found.dtype) == (3, 'bfloat16')\n"
            "assert found.batch == 64",
        ),
        (
            ["--stop=<|im_end|>,###"],
            "assert asking.settings().stop == ('<|im_end|>', '###')",
        ),
        (["--stop="], "assert asking.settings().stop == ()"),
        (
            ["--data=somewhere", "--split=sealed"],
            "with grading_pool.GradingPool(1) as pool:\n"
            "  path, split, used, own = asking.sources(pool)\n"
            "assert (str(path), split) == ('somewhere', arithmetic.Split.SEALED)\n"
            "assert used is pool and not own",
        ),
    ],
    ids=["default", "set", "stop", "no stop", "sources"],
)
def test_settings_are_what_the_flags_say(arguments, code):
  found = _run(code, *arguments)
  assert found.returncode == 0, found.stderr


def test_errors_name_the_flags_there_are():
  code = """
try:
  asking.settings()
except ValueError as error:
  print(asking.of_mesh(error))
"""
  found = _run(code, "--mesh.fsdp=0")
  assert found.stdout.strip().endswith("set --mesh.fsdp")
