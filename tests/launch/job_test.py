"""A policy and its task are refused before anything compiles."""

import contextlib
import dataclasses
import importlib.util
import json
import pathlib
import shutil

from absl import flags
import experiment
import jax
import job
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.algorithms import catalog
from poise_jax.evaluation import suite
from poise_jax.models import lora
from poise_jax.rollout import generate, scoring
from poise_jax.training import checkpoint, math_task, prompts, run
from poise_jax.training import config as config_lib

FOLDER = pathlib.Path(__file__).parents[2] / "experiments"


def load(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


@pytest.fixture
def config(small_policy, problem_file):
  config = load("qwen25_math_small")
  config.policy = str(small_policy)
  config.problems.source = str(problem_file)
  config.train.prompts = config.train.micro_batches = 4
  config.mesh.data = jax.device_count()
  config.train.prompts *= jax.device_count()
  return config


def make(config):
  with contextlib.ExitStack() as stack:
    return job.make(experiment.read(config, []), stack)


@pytest.mark.parametrize(
    "name", ["train_embedded", "qwen25_math", "qwen25_math_small"]
)
def test_every_setting_is_a_flag(name):
  config = load(name)
  kinds = {
      "train": config_lib.TrainConfig,
      "scoring": scoring.ScoreOptions,
      "schedule": generate.Schedule,
      "mesh": sharding.MeshConfig,
      "run": run.RunConfig,
      "retention": checkpoint.Retention,
  }
  task = {"problems": math_task.ProblemsConfig, "evaluate": suite.SuiteConfig}
  kinds |= {key: kind for key, kind in task.items() if key in config}
  for section, kind in kinds.items():
    known = {field.name for field in dataclasses.fields(kind)} - kinds.keys()
    assert set(config[section]) == known, section
  assert set(config.train.lora) == {
      field.name for field in dataclasses.fields(lora.LoraOptions)
  }


def test_no_more_is_asked_than_sampled_at_once():
  told = lambda at_once: config_lib.TrainConfig(
      *(1, 8, 2, 1, 1, 1e-3), schedule=generate.Schedule(0, at_once)
  )
  assert [job.held_out_batch(told(n)) for n in (0, 4, 8, 100)] == [8, 4, 8, 8]


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("rank", [0, 2])
def test_the_base_is_freed_where_nothing_reads_it(config, reference, rank):
  config.algorithm = "grpo"
  config.train.reference, config.train.lora.rank = reference, rank
  made = make(config)
  state = made.trainer.start(
      made.policy.params, catalog.make("grpo"), made.environment
  )
  kept = made.trainer.reference(state, made.policy.params)
  job.release(made)
  freed = {leaf.is_deleted() for leaf in jax.tree.leaves(made.policy.params)}
  assert freed == {not reference and not rank}
  # Whatever a step reads is there.
  for leaf in jax.tree.leaves((state, kept, made.trainer.policy(state))):
    assert np.isfinite(np.asarray(leaf)).all()


def test_a_loss_that_reads_the_reference_is_refused_at_once(config):
  config.train.reference = False
  config.policy = "nowhere"
  with pytest.raises(flags.Error) as error:
    make(config)
  told = "--config.train.reference=False leaves out the reference policy"
  assert str(error.value).startswith(told)


def test_problems_and_policy_are_made_ready(config, small_policy):
  made = make(config)
  assert made.base == small_policy and made.evaluate is None
  assert made.about.startswith("12 of 12 problems")
  assert made.environment.bucket_count == 12
  assert made.policy.config.vocab_size == 264
  problems, _ = made.environment.source(prompts.START, 4)
  encoded = made.environment.encode(problems)
  assert encoded.tokens.shape == (4, 256)
  assert {"--config.policy", "--config.problems"} == set(made.fingerprint)
  assert made.fingerprint["--config.problems"]["stop"] == [259]
  leaf = made.policy.params["norm"]["weight"].get_value()
  assert leaf.sharding.mesh == made.trainer.mesh


def test_problems_to_ask_are_set_aside(config):
  config.run.evaluate_every = 2
  with pytest.raises(flags.Error, match="_every=2 needs problems to ask: set"):
    make(config)
  config.problems.held_out = 3
  config.problems.count = 8
  made = make(config)
  assert made.about.endswith("; 3 are asked during the run")
  assert made.evaluate is not None and made.environment.bucket_count == 8
  assert len(made.fingerprint["--config.problems"]) > 6


def test_further_tokens_end_a_completion(config):
  config.problems.stop = ("<|im_end|>",)
  made = make(config)
  assert made.fingerprint["--config.problems"]["stop"] == [259, 261]
  assert made.eos_ids == (259, 261)


def test_the_embedded_policy_has_no_words(config):
  config.policy = "embedded"
  with pytest.raises(flags.Error, match="--config.policy must be a Hugging"):
    make(config)


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("problems", "source", "", "--config.problems: `source` must be"),
        ("problems", "source", "no.jsonl", "--config.problems: `path` must be"),
        ("problems", "source", "/", "--config.problems: `source` must be a"),
        ("problems", "template", "x", "--config.problems: the template must"),
        ("problems", "count", 13, "--config.problems: `count` must be at most"),
        ("problems", "levels", (9,), "--config.problems: `levels` must leave"),
        ("problems", "prompt_length", 9, "--config.problems: `limit` must"),
        ("problems", "stop", ("<x>",), "--config.problems.stop: `stop` must"),
        ("train", "prompts", 16, "--config.problems: `multiple_of` must be"),
        (
            *("train", "completion_length", 4000),
            "--config.train.completion_length and --config.problems.prompt_",
        ),
        ("mesh", "tensor", 2, "--config.mesh"),
    ],
)
def test_what_is_wrong_names_its_flag(config, section, key, value, words):
  config[section][key] = value
  with pytest.raises(flags.Error) as error:
    make(config)
  assert str(error.value).startswith(words) or words in str(error.value)


@pytest.mark.parametrize(
    "break_it, words",
    [
        (lambda d: (d / "tokenizer.json").unlink(), "must hold a tokenizer"),
        (lambda d: (d / "config.json").unlink(), "no config.json in"),
        (lambda d: (d / "model.safetensors").unlink(), "no model.safetensors"),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"\0" * 20),
            "cannot read",
        ),
    ],
)
def test_a_broken_policy_names_its_flag(config, tmp_path, break_it, words):
  policy = shutil.copytree(config.policy, tmp_path / "policy")
  break_it(policy)
  config.policy = str(policy)
  with pytest.raises(flags.Error) as error:
    make(config)
  assert str(error.value).startswith(f"--config.policy={policy}: ")
  assert words in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(config, tmp_path):
  policy = shutil.copytree(config.policy, tmp_path / "policy")
  fields = json.loads((policy / "config.json").read_text())
  fields["vocab_size"] = 200
  (policy / "config.json").write_text(json.dumps(fields))
  config.policy = str(policy)
  with pytest.raises(flags.Error, match="vocabulary of 200"):
    make(config)


def test_widths_of_prompts(config):
  told = experiment.read(config, [])
  assert job.prompt_width(told) == 512
  config.problems.prompt_length = 200
  assert job.prompt_width(experiment.read(config, [])) == 256
