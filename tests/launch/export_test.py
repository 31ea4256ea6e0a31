"""Any step of a run becomes a Hugging Face directory."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import export
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import checkpoints, lora
from poise_jax.rollout import text_tokenizer
from poise_jax.training import checkpoint, checkpoint_record

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


def test_what_ended_completions_ends_generation(base, small_policy, tmp_path):
  fields = {
      "--config.policy": base.sha256,
      "--config.problems": {"stop": [259, 261]},
  }
  with checkpoint.open(
      tmp_path / "checkpoints",
      checkpoint.Retention(last=1, metric="reward"),
      fingerprint=fields,
  ) as checkpoints_:
    arrays = {"params": base.params, "opt_state": {"count": np.int32(1)}}
    checkpoints_.save(1, arrays, {"step": 1}, {"reward": 0.5})
    checkpoints_.wait()
  out = tmp_path / "out"
  export.export(tmp_path, small_policy, out, "1", "float32")
  told = json.loads((out / "config.json").read_text())
  assert told["eos_token_id"] == [259, 261]
  # Of the other file too; the rest of that is that of the base.
  found = json.loads((out / "generation_config.json").read_text())
  base_fields = json.loads(
      (small_policy / "generation_config.json").read_text()
  )
  assert found == base_fields | {"eos_token_id": [259, 261]}
  assert text_tokenizer.load(out).eos_ids == (259, 261)


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


def test_the_best_is_that_of_the_run(workdir, small_policy, tmp_path):
  found = export.export(
      workdir, small_policy, tmp_path / "best", "best", "float32"
  )
  assert found == 3
  assert (tmp_path / "best" / "model.safetensors").is_file()


def _record(metrics, retention):
  return checkpoint_record.Record(0, {}, metrics, {}, {}, {}, [], retention)


def test_the_best_is_by_the_metric_that_was_told_last():
  reward = dataclasses.asdict(checkpoint.Retention(metric="reward"))
  loss = dataclasses.asdict(
      checkpoint.Retention(metric="loss", larger_is_better=False)
  )
  scores = ({"reward": 2.0, "loss": 1.0}, {"reward": 1.0, "loss": 0.5})
  records = {3: _record(scores[0], reward), 5: _record(scores[1], reward)}
  assert export.best_step(records) == 3
  records[5] = _record(scores[1], loss)
  assert export.best_step(records) == 5


def test_without_a_best_there_is_no_other():
  accuracy = dataclasses.asdict(checkpoint.Retention(metric="eval/accuracy"))
  records = {
      3: _record({"reward": 1.0, "eval/accuracy": float("nan")}, accuracy),
      5: _record({"kl": 0.1}, accuracy),
  }
  with pytest.raises(ValueError) as error:
    export.best_step(records)
  assert str(error.value) == (
      "--step=best: no step has the metric 'eval/accuracy' of"
      " --config.retention.metric: step 3 has eval/accuracy, reward; step 5 has"
      " kl"
  )
  old = {3: _record({"reward": 1.0}, {})}
  with pytest.raises(
      ValueError, match="has not recorded .* 3, whose .* reward"
  ):
    export.best_step(old)


OPTIONS = lora.LoraOptions(2, 6.0, ("q_proj", "down_proj"))


@pytest.fixture(scope="module")
def adapters(base):
  """As if they had trained."""
  fresh = lora.init(base.config, OPTIONS, jax.random.key(0))
  return jax.tree.map(lambda x: x + 0.01, fresh)


@pytest.fixture(scope="module")
def lora_run(base, adapters, tmp_path_factory):
  """A checkpoint of adapters."""
  place = tmp_path_factory.mktemp("lora")
  fields = {
      "--config.policy": base.sha256,
      "--config.train": {"lora": dataclasses.asdict(OPTIONS)},
  }
  with checkpoint.open(
      place / "checkpoints", checkpoint.Retention(), fingerprint=fields
  ) as checkpoints_:
    checkpoints_.save(7, {"params": adapters}, {"step": 7}, {})
    checkpoints_.wait()
  return place


def test_adapters_are_merged(base, adapters, lora_run, small_policy, tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  out = tmp_path / "merged"
  assert export.export(lora_run, small_policy, out, "latest", "float32") == 7
  merged = lora.merge(base.params, adapters, OPTIONS)
  jax.tree.map(
      np.testing.assert_array_equal, checkpoints.load(out).params, merged
  )
  model = transformers.AutoModelForCausalLM.from_pretrained(str(out))
  ids = torch.tensor([[1, 2, 256, 7]])
  with torch.no_grad():
    theirs = model(ids).logits.numpy()
  ours = nnx.merge(base.graphdef, merged)(jnp.asarray(ids.numpy(), jnp.int32))
  np.testing.assert_allclose(ours, theirs, atol=1e-3)
  before = nnx.merge(base.graphdef, base.params)
  assert np.abs(before(jnp.asarray(ids.numpy(), jnp.int32)) - ours).max() > 1e-2


def test_adapters_are_written_alone(
    base, adapters, lora_run, small_policy, tmp_path
):
  out = tmp_path / "adapter"
  export.export(lora_run, small_policy, out, "latest", "float32", adapter=True)
  options, found = lora.load(out, base.config)
  assert options == OPTIONS
  jax.tree.map(np.testing.assert_array_equal, found, adapters)
  assert {p.name for p in out.iterdir()} == {
      lora.CONFIG_FILE,
      lora.WEIGHTS_FILE,
  }
  fields = json.loads((out / lora.CONFIG_FILE).read_text())
  assert fields["base_model_name_or_path"] == str(small_policy)


def test_peft_adds_the_same(base, adapters, lora_run, small_policy, tmp_path):
  torch = pytest.importorskip("torch")
  peft = pytest.importorskip("peft")
  transformers = pytest.importorskip("transformers")
  out = tmp_path / "adapter"
  export.export(lora_run, small_policy, out, "latest", "float32", adapter=True)
  model = transformers.AutoModelForCausalLM.from_pretrained(str(small_policy))
  model = peft.PeftModel.from_pretrained(model, str(out))
  ids = torch.tensor([[1, 2, 256, 7]])
  with torch.no_grad():
    theirs = model(ids).logits.numpy()
  merged = lora.merge(base.params, adapters, OPTIONS)
  ours = nnx.merge(base.graphdef, merged)(jnp.asarray(ids.numpy(), jnp.int32))
  np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_adapters_need_the_weights_that_they_were_trained_on(
    workdir, lora_run, small_policy, tmp_path
):
  with pytest.raises(ValueError, match="--adapter: this run trained every"):
    export.export(
        *(workdir, small_policy, tmp_path / "out", "latest", "float32"),
        adapter=True,
    )
  bare = shutil.copytree(small_policy, tmp_path / "bare")
  (bare / "model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="no model.safetensors"):
    export.export(lora_run, bare, tmp_path / "out", "latest", "float32")
  assert not (tmp_path / "out").exists()


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


def test_a_bucket_is_no_directory():
  with pytest.raises(
      ValueError, match="--out must be in a file system, got 'g"
  ):
    export.check_place("out", "gs://bucket/out")
  export.check_place("policy", "embedded")


def test_errors_are_one_line():
  done = subprocess.run(
      [sys.executable, str(SCRIPT), "--workdir=/nowhere", "--policy=embedded"],
      capture_output=True,
      text=True,
      check=False,
  )
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr == "export: give --out\n"
