"""Experiments and texts to configurations; nothing is trained."""

import functools

from absl import flags
import ml_collections
import pytest
import sweep_axes

from poise_jax.algorithms import catalog
from poise_jax.discovery.sweeps import cell, design
from poise_jax.tasks import arithmetic


@pytest.fixture
def config():
  config = ml_collections.ConfigDict()
  config.policy = "embedded"
  config.algorithm = "grpo"
  config.train = ml_collections.ConfigDict(
      {
          "steps": 18,
          "prompts": 24,
          "group_size": 8,
          "epochs": 2,
          "minibatches": 4,
          "learning_rate": 2e-4,
      }
  )
  config.evaluate = ml_collections.ConfigDict(
      {"sampled_problems": 192, "greedy_problems": 384}
  )
  return config


def test_the_line_of_the_readme(config):
  text = "algorithm=grpo,vm_av_grpo;lr=2e-4,3e-4;seed=0:3"
  told = sweep_axes.read(config, text)
  assert told.seeds == (0, 1, 2)
  assert [c.name for c in told.configs] == [
      "grpo learning_rate=0.0002",
      "grpo learning_rate=0.0003",
      "vm_av_grpo learning_rate=0.0002",
      "vm_av_grpo learning_rate=0.0003",
  ]
  # What a search calls `standard` has that name here too.
  budgets = [c.budget for c in told.configs]
  assert budgets[0].name == budgets[2].name == "standard"
  assert budgets[1].name.startswith("custom-")
  assert budgets[1].train.learning_rate == 3e-4
  assert told.configs[2].algorithm == "vm_av_grpo"
  assert told.counts == {"configurations": 4, "seeds": 3}
  # The experiment itself is as it was.
  assert config.train.learning_rate == 2e-4


def test_what_only_a_sweep_has(config):
  config.sweep = "algorithm=grpo,dapo"
  config.baseline, config.split, config.title = "dapo", "confirm", "Mine"
  told = sweep_axes.read(config, None)
  assert (told.baseline, told.title) == ("dapo", "Mine")
  assert {c.split for c in told.configs} == {arithmetic.Split.CONFIRM}
  assert len(told.seeds) == 5
  config.split = "train"
  with pytest.raises(flags.Error, match="`split` must be one of search"):
    sweep_axes.read(config, None)


def test_a_sweep_is_of_one_task(config):
  told = sweep_axes.read(config, "algorithm=grpo")
  assert [c.task for c in told.configs] == ["arithmetic"]
  config.task, config.policy = "carryless", "carryless"
  told = sweep_axes.read(config, "algorithm=grpo")
  assert [(c.name, c.task, c.base) for c in told.configs] == [
      ("grpo", "carryless", "carryless")
  ]
  config.task = "chess"
  with pytest.raises(flags.Error, match="one of arithmetic, carryless, got"):
    sweep_axes.read(config, "algorithm=grpo")


def test_constants_of_the_algorithms(config):
  told = sweep_axes.read(config, "algorithm=dapo;clip_eps_high=0.2,0.4")
  assert [dict(c.hparams) for c in told.configs] == [
      {"clip_eps_high": 0.2},
      {"clip_eps_high": 0.4},
  ]
  with pytest.raises(
      flags.Error,
      match="--sweep: gpg .*`clip_eps_high`|must be constants of gpg",
  ):
    sweep_axes.read(config, "algorithm=dapo,gpg;clip_eps_high=0.2")


def test_drawn_at_random(config):
  draw = functools.partial(design.random, count=3, seed=0)
  told = sweep_axes.read(config, "lr=log(1e-5,1e-3)", draw)
  rates = [c.budget.train.learning_rate for c in told.configs]
  assert len(set(rates)) == 3 and all(1e-5 <= r <= 1e-3 for r in rates)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "give --sweep"),
        ("lrr=1", "--sweep: `lrr` .*did you mean lr"),
        ("algorithm=dapoo", "did you mean 'dapo'"),
        ("prompts=25", "--config.train.*`prompts` must be a multiple"),
        ("lr=log(1e-5,1e-3)", "`train.learning_rate` must be a list"),
        ("algorithm=no_such.py", "--sweep: algorithm=no_such.py"),
        ("policy=no_such", "no_such"),
    ],
)
def test_what_is_wrong_names_its_flag(config, text, words, tmp_path):
  if text.startswith("policy"):
    told = sweep_axes.read(config, text)
    assert told.configs[0].base == "no_such"
    return
  with pytest.raises(flags.Error, match=words):
    sweep_axes.read(config, text)


def test_a_problems_experiment_is_refused(config):
  del config.evaluate
  config.problems = ml_collections.ConfigDict({"source": "x.jsonl"})
  with pytest.raises(flags.Error, match="of the embedded task"):
    sweep_axes.read(config, "lr=1e-4")


def test_the_candidate_of_a_file(config, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(catalog.source("dr_grpo"), "utf-8")
  told = sweep_axes.read(config, f"algorithm=grpo,{path}")
  mine = told.configs[1]
  assert (mine.name, mine.algorithm) == ("mine", "mine")
  assert mine.source == path.read_text("utf-8")
  algorithm = cell.algorithm_of(mine)
  assert algorithm.hparams == catalog.make("dr_grpo").hparams
  path.write_text("import os\n", "utf-8")
  with pytest.raises(flags.Error, match="mine.py may not be trained"):
    sweep_axes.read(config, f"algorithm={path}")
