"""Settings that cannot work are refused when they are made."""

import math

import ml_collections
import pytest

from poise_jax import sharding
from poise_jax.models import lora
from poise_jax.training import config

GOOD = dict(
    steps=1,
    prompts=8,
    group_size=2,
    epochs=3,
    minibatches=2,
    learning_rate=1e-3,
)


def test_updates_are_counted_over_epochs_and_minibatches():
  assert config.TrainConfig(**GOOD).updates == 6


def test_an_old_policy_needs_no_pass_for_a_single_update():
  scores = lambda **changes: config.TrainConfig(**(GOOD | changes)).scores_old
  assert scores(recompute_old=True) and not scores()
  assert not scores(recompute_old=True, epochs=1, minibatches=1)


def test_adapters_as_a_section_of_an_experiment():
  make = lambda section: config.TrainConfig(**GOOD, lora=section).lora
  fields = {"rank": 4, "alpha": 8.0, "targets": ["q_proj"]}
  options = lora.LoraOptions(4, 8.0, ("q_proj",))
  assert make(fields) == make(options) == options
  section = ml_collections.ConfigDict(fields | {"targets": ("q_proj",)})
  assert make(section) == options
  assert make(fields | {"rank": 0}) is make(None) is None
  with pytest.raises(ValueError, match="`lora` must have only rank, .*got r"):
    make({"r": 4})
  with pytest.raises(ValueError, match="`rank` must be at least 1"):
    make({"rank": -1})


@pytest.mark.parametrize(
    "name",
    [
        *("steps", "prompts", "group_size", "epochs", "minibatches"),
        *("micro_batches", "sampling_attempts"),
    ],
)
def test_counts_are_at_least_one(name):
  with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
    config.TrainConfig(**(GOOD | {name: 0}))


@pytest.mark.parametrize("name", ["learning_rate", "max_grad_norm"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_sizes_are_positive_and_finite(name, value):
  with pytest.raises(ValueError, match=f"`{name}` must be positive"):
    config.TrainConfig(**(GOOD | {name: value}))


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_the_final_rate_is_a_fraction(value):
  with pytest.raises(ValueError, match="`final_learning_rate` must be"):
    config.TrainConfig(**GOOD, final_learning_rate=value)
  assert config.TrainConfig(**GOOD, final_learning_rate=0.0)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("b1", 1.0), ("b2", -0.1), ("b2", math.nan)),
        *(("weight_decay", -0.1), ("weight_decay", math.inf)),
        *(("warmup_steps", -1), ("warmup_steps", 6)),
    ],
)
def test_the_optimizer_within_its_bounds(name, value):
  with pytest.raises(ValueError, match=f"`{name}` must be"):
    config.TrainConfig(**GOOD, **{name: value})
  assert config.TrainConfig(**GOOD, warmup_steps=5, b1=0.0)


def test_groups_of_one_are_never_mixed():
  alone = GOOD | {"group_size": 1}
  assert config.TrainConfig(**alone)
  with pytest.raises(ValueError, match="`group_size` must be at least 2"):
    config.TrainConfig(**alone, sampling_attempts=2)


def test_no_group_is_split():
  with pytest.raises(ValueError, match="`prompts` must be a multiple of"):
    config.TrainConfig(**(GOOD | {"minibatches": 3}))


def test_prompts_split_over_micro_batches_and_mesh():
  mesh = sharding.MeshConfig(data=2, tensor=2)
  assert config.TrainConfig(**GOOD, mesh=mesh, micro_batches=2)
  with pytest.raises(ValueError, match="--config.train.prompts must be a mul"):
    config.TrainConfig(**GOOD, mesh=mesh, micro_batches=4)
