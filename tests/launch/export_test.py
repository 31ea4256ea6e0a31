"""Any step of a run becomes a Hugging Face directory."""

import pathlib
import shutil
import subprocess
import sys

import export
import jax
import numpy as np
import pytest

from poise_jax.models import checkpoints
from poise_jax.training import checkpoint

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "export.py"


@pytest.fixture(scope="module")
def base(small_policy):
  return checkpoints.load(small_policy)


@pytest.fixture(scope="module")
def workdir(base, tmp_path_factory):
  """A run of two steps: half of the weights, then a quarter."""
  place = tmp_path_factory.mktemp("run")
  retention = checkpoint.Retention(last=2, metric="reward")
  fields = {"--config.policy": base.sha256}
  with checkpoint.open(
      place / "checkpoints", retention, fingerprint=fields
  ) as checkpoints_:
    for step, share in ((3, 0.5), (5, 0.25)):
      params = jax.tree.map(lambda x, share=share: share * x, base.params)
      arrays = {"params": params, "opt_state": {"count": np.int32(step)}}
      checkpoints_.save(step, arrays, {"step": step}, {"reward": share})
    checkpoints_.wait()
  return place


@pytest.mark.parametrize(
    "step, number, share", [("latest", 5, 0.25), ("3", 3, 0.5)]
)
def test_a_step_is_exported(
    base, workdir, small_policy, tmp_path, step, number, share
):
  out = tmp_path / "out"
  found = export.export(workdir, small_policy, out, step, "float32")
  assert found == number
  loaded = checkpoints.load(out)
  for ours, theirs in zip(
      jax.tree.leaves(loaded.params), jax.tree.leaves(base.params), strict=True
  ):
    np.testing.assert_array_equal(ours, share * theirs)
  for name in ("tokenizer.json", "generation_config.json"):
    assert (out / name).read_bytes() == (small_policy / name).read_bytes()


def test_half_precision_takes_half_the_room(workdir, small_policy, tmp_path):
  sizes = []
  for dtype in ("float32", "bfloat16"):
    export.export(workdir, small_policy, tmp_path / dtype, "latest", dtype)
    sizes.append((tmp_path / dtype / "model.safetensors").stat().st_size)
  assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.02)


def test_what_does_not_fit_is_refused(workdir, small_policy, tmp_path):
  run = lambda policy, out, step="latest": export.export(
      workdir, policy, out, step, "float32"
  )
  with pytest.raises(ValueError, match="--step=4 must be latest, best, or one"):
    run(small_policy, tmp_path / "out", "4")
  other = shutil.copytree(small_policy, tmp_path / "other")
  with (other / "tokenizer.json").open("a") as file:
    file.write(" ")
  with pytest.raises(ValueError, match="its files differ"):
    run(other, tmp_path / "out")
  # Of another shape: without weights its files are not compared.
  (other / "model.safetensors").unlink()
  text = (other / "config.json").read_text()
  (other / "config.json").write_text(
      text.replace('"intermediate_size": 560', '"intermediate_size": 64')
  )
  with pytest.raises(ValueError, match="must be what the run started from: "):
    run(other, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  with pytest.raises(ValueError, match="must be a new or empty directory"):
    run(small_policy, small_policy)


def test_errors_are_one_line():
  done = subprocess.run(
      [sys.executable, str(SCRIPT), "--workdir=/nowhere", "--policy=embedded"],
      capture_output=True,
      text=True,
      check=False,
  )
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr == "export: give --out\n"
