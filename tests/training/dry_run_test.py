"""What a compiler says of programs that never run."""

import dataclasses
import json
import subprocess
import sys

from flax import nnx
import jax
import pytest

from poise_jax.algorithms import catalog
from poise_jax.models import (
    attention,
    attention_kernels,
    families,
    transformer,
)
from poise_jax.training import config as config_lib
from poise_jax.training import dry_run, step

MODEL = families.TransformerConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
NUMBERS = 1024 + 16 + 32 + 272 + 272 + 256 + 1536
# Weights of matrices in the block: the others are added.
BLOCK = 256 + 256 + 256 + 1536


# A program of its own: batches of shapes are no batches to the type checker.
SCRIPT = """
import json
import jax
from poise_jax.algorithms import catalog
from poise_jax.models import families
from poise_jax.rollout import generate, scoring
from poise_jax.training import config as config_lib
from poise_jax.training import dry_run
config = config_lib.TrainConfig(
    steps=1,
    prompts=4,
    group_size=2,
    epochs=1,
    minibatches=1,
    learning_rate=1e-3,
    completion_length=6,
    micro_batches=2,
    schedule=generate.Schedule(4, 2),
    scoring=scoring.ScoreOptions(3, "bfloat16", "block", True),
    lora=json.loads(input()),
    reference=json.loads(input()),
)
model = families.TransformerConfig(**json.loads(input()))
told = []
found = dry_run.programs(
    model, catalog.make("grpo"), config, 5, jax.devices()[:1], told.append
)
assert told == found
print(json.dumps(found))
"""


def _programs(lora=None, reference=True):
  done = subprocess.run(
      [sys.executable, "-c", SCRIPT],
      input="\n".join(
          map(json.dumps, (lora, reference, dataclasses.asdict(MODEL)))
      ),
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  found = [dry_run.Program(*x) for x in json.loads(done.stdout)]
  return {program.name: program for program in found}


@pytest.fixture(scope="module")
def programs():
  return _programs()


@pytest.mark.slow
def test_adapters_need_a_small_optimizer_and_no_second_base(programs):
  found = _programs({"rank": 2, "alpha": 4.0, "targets": ["q_proj"]})
  assert list(found) == list(programs)
  adapters, weights = 4 * 2 * (16 + 16), 4 * NUMBERS
  # The base, its adapters, their two moments and two counts.
  assert found["prefill"].beside == weights + 3 * adapters + 8
  assert found["backward"].beside == 0
  assert found["backward"].output < adapters
  assert found["backward"].flops > programs["forward"].flops


@pytest.mark.slow
def test_without_reference_no_second_copy_lives(programs):
  found = _programs(reference=False)
  assert list(found) == [n for n in programs if n != "score a rollout"]
  assert found["prefill"].beside == 4 * 3 * NUMBERS + 8
  assert found["backward"].beside == 0


def test_a_loss_that_reads_the_reference_needs_one():
  alone = config_lib.TrainConfig(1, 4, 2, 1, 1, 1e-3, reference=False)
  with pytest.raises(ValueError, match="^--config.train.reference=False"):
    dry_run.programs(MODEL, catalog.make("grpo_poise"), alone, 5)


def test_the_platform_is_that_of_the_devices(monkeypatch):
  """The default one is never asked, for it may be another."""
  asked = []

  def for_platform(platform):
    asked.append(platform)
    return attention.attend

  monkeypatch.setattr(attention_kernels, "for_platform", for_platform)
  monkeypatch.setattr(jax, "default_backend", lambda: pytest.fail("asked"))
  graphdef, params = transformer.structure(MODEL, "tpu")
  tokens = jax.ShapeDtypeStruct((1, 3), "int32")
  run = lambda params, tokens: nnx.merge(graphdef, params).hidden(tokens)[0]
  jax.eval_shape(run, params, tokens)
  assert asked == ["tpu"]
  step.make_differentiate(catalog.make("grpo").loss, platform="tpu")


def test_every_program_of_a_step(programs):
  assert list(programs) == [
      *("prefill", "grow cache", "decode 4 tokens", "score a rollout"),
      *("forward", "loss of grpo", "backward"),
  ]
  for program in programs.values():
    assert program.arguments > 0 and program.seconds > 0
    assert program.peak == (
        program.arguments + program.temporary + program.output + program.beside
    )


def test_flops_by_hand(programs):
  # Two prompts of 5, one row of logits each; attention of 5 x 5, 4 heads of 4.
  prefill = 2 * (2 * BLOCK * 5 + 2 * 16 * 64 + 4 * 16 * 25)
  assert programs["prefill"].flops == prefill
  # Four rows, four times a token that sees all 11 slots.
  decode = 4 * 4 * (2 * BLOCK + 2 * 16 * 64 + 4 * 16 * 11)
  assert programs["decode 4 tokens"].flops == decode
  assert programs["grow cache"].flops == 0
  forward, backward = programs["forward"].flops, programs["backward"].flops
  # Forward twice again, in blocks and in all, and two products for each.
  assert 3 * forward <= backward <= 4.5 * forward


def test_bytes_by_hand(programs):
  weights = 4 * NUMBERS
  # The optimizer has two numbers a weight, and two counts.
  assert programs["prefill"].beside == 4 * weights + 8
  backward = programs["backward"]
  assert backward.beside == weights
  tokens = 4 * (4 * 5 + 4) + 4 * 2 * 8 * 6
  assert 3 * weights + tokens <= backward.arguments < 3.2 * weights + tokens
  # It overwrites weights and optimizer: a norm, a count and pointers are new.
  assert backward.output < weights / 10
  # A cache of 5 + 4 slots becomes one of 5 + 6, keys and values in bf16.
  grown = programs["grow cache"]
  cache = lambda slots: 2 * 2 * 4 * 2 * 4 * slots
  rest = grown.arguments - cache(9)
  assert rest > 0
  assert grown.output - cache(11) == pytest.approx(rest, abs=500)


def test_a_mesh_of_other_devices_is_refused():
  config = config_lib.TrainConfig(1, 4, 2, 1, 1, 1e-3)
  with pytest.raises(ValueError, match="--config.mesh.data"):
    dry_run.programs(
        MODEL, catalog.make("grpo"), config, 5, jax.devices()[:1] * 2
    )
