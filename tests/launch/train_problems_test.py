"""A Hugging Face policy trains on problems: killed, continued, exported."""

import json
import os
import pathlib
import subprocess
import sys

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import checkpoints, lora
from poise_jax.training import completions_log, sinks

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "train.py"
EXPERIMENT = ROOT / "experiments" / "qwen25_math_small.py"
SHORT = (
    *("--config.train.steps=2", "--config.train.prompts=2"),
    *("--config.train.group_size=4", "--config.train.micro_batches=2"),
    "--config.train.completion_length=8",
    # With this seed both steps have groups that are right in part.
    "--config.run.seed=3",
    # So that a step is seen in f32 weights.
    "--config.train.learning_rate=1e-3",
    *("--config.schedule.segment=4", "--config.schedule.prompts_at_once=1"),
    *("--config.scoring.chunk=4", "--config.run.checkpoint_every=1"),
    *("--config.problems.prompt_buckets=(256,)", "--config.problems.count=9"),
    *("--config.problems.prompt_length=256", "--config.problems.graders=1"),
    "--config.problems.stop=('<|im_end|>',)",
    *("--config.problems.held_out=2", "--config.run.evaluate_every=1"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("problems")


@pytest.fixture(scope="module")
def start(folder, small_policy, problem_file):
  """Starts a run in a folder; programs compile once for all tests."""
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

  def start(workdir, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), f"--config={EXPERIMENT}"),
            *(f"--workdir={workdir}", f"--config.policy={small_policy}"),
            *(f"--config.problems.source={problem_file}", *SHORT, *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )

  return start


@pytest.fixture(scope="module")
def finish(start):
  def finish(workdir, *arguments):
    process = start(workdir, *arguments)
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stderr
    return stdout, stderr

  return finish


@pytest.fixture(scope="module")
def whole(finish, folder):
  return folder / "whole", *finish(folder / "whole")


def _values(workdir):
  """The metrics of each step, clock readings aside."""
  return [
      {
          name: value
          for name, value in record.values.items()
          if not name.startswith(("time/", "perf/", "step_time"))
      }
      for record in sinks.read_jsonl(workdir / "metrics.jsonl")
  ]


def test_a_run_learns_from_graded_text(whole, small_policy):
  workdir, _, stderr = whole
  first = stderr.splitlines()[0]
  assert first.startswith("9 of 12 problems to train on; 0 are also evaluated")
  records = _values(workdir)
  assert len(records) == 2
  assert 0 < records[0]["reward"] < 1
  assert records[0]["grad_norm"] > 0
  assert records[0]["skipped_updates"] == 0
  assert "eval/overall" not in records[-1]
  for values in records:
    assert 0 <= values["eval/accuracy"] <= values["eval/format_rate"] <= 1
    assert 0 < values["eval/mean_length"] <= 8
  entries = completions_log.read(workdir / "completions.jsonl")
  texts = [entry.completion for entry in entries]
  assert all("<|im_start|>user\nThere were" in text.prompt for text in texts)
  assert any("\\boxed{" in text.completion for text in texts)
  before = checkpoints.load(small_policy)
  after = checkpoints.load(workdir / "policy")
  embedding = lambda policy: np.asarray(
      policy.params["lm_head"]["kernel"].get_value()
  )
  assert not np.array_equal(embedding(before), embedding(after))


def test_the_policy_goes_with_its_tokenizer_and_settings(whole, small_policy):
  policy = whole[0] / "policy"
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (policy / name).read_bytes() == (small_policy / name).read_bytes()
  told, before = (
      json.loads((folder / "generation_config.json").read_text())
      for folder in (policy, small_policy)
  )
  # What ended completions is written down; the rest is that of the base.
  ended = json.loads((policy / "config.json").read_text())["eos_token_id"]
  assert told == before | {"eos_token_id": ended}


@pytest.mark.slow
def test_killed_after_a_step_nothing_differs(start, finish, whole, folder):
  workdir = folder / "killed"
  process = start(workdir)
  try:
    lines = iter(process.stderr.readline, "")
    assert any(line.startswith("step 1/2") for line in lines)
  finally:
    process.kill()
    process.communicate()
  finish(workdir)
  assert _values(workdir) == _values(whole[0])
  for name in ("completions.jsonl", "policy/model.safetensors"):
    ours, theirs = (run / name for run in (workdir, whole[0]))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_adapters_killed_continued_and_exported(
    start, finish, folder, small_policy
):
  """The way of LoRA from the command line to a directory."""
  rank = ("--config.train.lora.rank=2", "--config.train.learning_rate=1e-2")
  whole_run, workdir = folder / "lora", folder / "lora killed"
  finish(whole_run, *rank)
  process = start(workdir, *rank)
  try:
    lines = iter(process.stderr.readline, "")
    assert any(line.startswith("step 1/2") for line in lines)
  finally:
    process.kill()
    process.communicate()
  finish(workdir, *rank)
  assert _values(workdir) == _values(whole_run)
  name = "policy/model.safetensors"
  assert (workdir / name).read_bytes() == (whole_run / name).read_bytes()
  for kind, arguments in (("merged", ()), ("adapter", ("--adapter",))):
    subprocess.run(
        [
            *(sys.executable, str(SCRIPT.with_name("export.py"))),
            *(f"--workdir={workdir}", f"--policy={small_policy}"),
            *(f"--out={folder / kind}", *arguments),
        ],
        check=True,
    )
  merged = checkpoints.load(folder / "merged")
  options, adapters = lora.load(folder / "adapter", merged.config)
  assert options.rank == 2
  base = checkpoints.load(small_policy)
  again = lora.merge(base.params, adapters, options)
  jax.tree.map(np.testing.assert_array_equal, merged.params, again)
  changed = [
      not np.array_equal(a, b)
      for a, b in zip(
          jax.tree.leaves(merged.params),
          jax.tree.leaves(base.params),
          strict=True,
      )
  ]
  assert any(changed) and not all(changed)


def test_transformers_loads_what_was_trained(whole):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  policy = str(whole[0] / "policy")
  model = transformers.AutoModelForCausalLM.from_pretrained(policy)
  words = transformers.AutoTokenizer.from_pretrained(policy)
  assert words.decode([256, 258]) == "\\boxed{0}\\boxed{2}"
  ids = torch.tensor([[1, 2, 256, 7]])
  with torch.no_grad():
    theirs = model(ids).logits.numpy()
  loaded = checkpoints.load(policy)
  tokens = jnp.asarray(ids.numpy(), jnp.int32)
  ours = nnx.merge(loaded.graphdef, loaded.params)(tokens)
  np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_other_problems_are_another_run(start, whole):
  process = start(whole[0], "--config.problems.seed=1")
  _, stderr = process.communicate(timeout=100)
  assert process.returncode == 2
  assert "--config.problems.prompts and answers is" in stderr
