"""Sections of an experiment become dataclasses, or an error with a flag."""

import importlib.util
import pathlib

from absl import flags
import experiment
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "experiments"


def load(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def small():
  return load("qwen25_math_small").get_config()


@pytest.mark.parametrize(
    "mesh, devices", [("a100_80gb_8", 8), ("v5e_16", 16), ("v5p_8", 4)]
)
def test_the_recipe_of_the_paper(mesh, devices):
  told = experiment.read(load("qwen25_math").get_config(mesh), [])
  training, problems = told.training, told.problems
  assert training.mesh.size == devices
  assert (training.prompts, training.group_size) == (256, 8)
  assert (training.steps, training.updates) == (152, 1)
  assert training.learning_rate == 1e-6
  assert training.final_learning_rate == 1.0
  assert (problems.prompt_length, training.completion_length) == (1024, 3000)
  assert (problems.name, problems.count) == ("MATH-train", 5000)
  assert problems.levels == (3, 4, 5)
  assert told.algorithm.hparams["kl_coef"] > 0 and training.reference
  assert training.scoring.compute_dtype == "bfloat16"
  # Each device has one whole prompt in every part of an update.
  cut = training.mesh.data * training.mesh.fsdp * training.micro_batches
  assert training.prompts == cut
  assert told.scored is None


def test_a_mesh_without_a_name_is_refused():
  with pytest.raises(
      ValueError, match="one of a100_80gb_8, v5e_16, v5p_8, got"
  ):
    load("qwen25_math").get_config("v4_8")


def test_the_embedded_task_has_no_problems():
  told = experiment.read(load("train_embedded").get_config(), ["kl_coef=0.5"])
  assert told.problems is None and told.scored.greedy_problems == 384
  assert told.algorithm.hparams["kl_coef"] == 0.5
  assert (told.device, told.architecture) == ("", None)


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("problems", "name", "MATH", "--config.problems: `name` must be one"),
        ("problems", "count", -1, "--config.problems: `count` must be >= 0"),
        (
            *("problems", "prompt_length", 513),
            "--config.problems: `prompt_length` must be from 1 to",
        ),
        (
            *("problems", "prompt_buckets", (256, 128)),
            "--config.problems: `bucket_sizes` must be ascending",
        ),
        ("schedule", "segment", -1, "--config.schedule: `segment` must be"),
        ("train", "weight_decay", -1.0, "--config.train: `weight_decay` must"),
        ("architecture", "hidden_size", 0, "--config.architecture: `hidden_s"),
    ],
)
def test_what_is_wrong_names_its_section(small, section, key, value, words):
  small[section][key] = value
  with pytest.raises(flags.Error) as error:
    experiment.read(small, [])
  assert str(error.value).startswith(words)


def test_what_is_unknown_or_missing(small):
  small.problems.unlock()
  small.problems.levelz = (1,)
  with pytest.raises(flags.Error, match=r"levelz is unknown \(did you mean"):
    experiment.read(small, [])
  del small.problems.levelz
  small.unlock()
  small.evaluate = {}
  with pytest.raises(flags.Error, match="is of the embedded task"):
    experiment.read(small, [])
  del small.evaluate, small.train
  with pytest.raises(flags.Error, match="must set `train`"):
    experiment.read(small, [])
