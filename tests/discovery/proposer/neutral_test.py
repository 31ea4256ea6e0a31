import pytest

from poise_jax import types
from poise_jax.candidates import fingerprint, probes, tracing
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import neutral, rendering

GRPO = genomes.named("grpo")


def _edited(choices, start=GRPO):
  return genomes.edited(start, choices)


def test_values_by_hand():
  assert neutral.constants(_edited({"entropy": "bonus"}), GRPO) == {
      "entropy_coef": 0.0
  }
  assert neutral.constants(_edited({"clip": "clip_higher"}), GRPO) == {
      "clip_eps_high": 0.2
  }
  tuned = genomes.edited(GRPO, constants={"clip_eps": 0.3})
  assert neutral.constants(tuned, GRPO) == {"clip_eps": 0.2}
  adaptive = _edited({"kl_control": "adaptive"})
  assert neutral.constants(adaptive, GRPO) == {"kl_coef": 0.0}


def test_nothing_is_claimed_where_one_change_cannot_be_undone():
  both = _edited({"entropy": "bonus", "baseline": "batch_mean"})
  assert neutral.constants(both, GRPO) == {}
  assert neutral.constants(GRPO, _edited({"entropy": "bonus"})) == {}


def _source(genome, hparams):
  text = rendering.render(
      genome,
      name="x",
      parents=[],
      rationale="r",
      prediction="p",
      falsifier="f",
  )
  program = tracing.execute(text)
  return types.Algorithm(
      "x", program.hparams | hparams, program.init, program.loss
  )


BATCHES = probes.suite()


def _check(child, parent):
  values = neutral.constants(child, parent)
  if not values:
    return 0
  reduced = fingerprint.of(_source(child, values), BATCHES)
  original = fingerprint.of(_source(parent, {}), BATCHES)
  assert fingerprint.twins(reduced, original), neutral.constants(child, parent)
  return 1


STARTS = {
    "grpo": GRPO,
    "unclipped": _edited({"clip": "none", "scale": "none"}),
    "sums": _edited({"aggregation": "seq_sum_mean", "entropy": "bonus"}),
    "constant": _edited({"aggregation": "constant_norm", "kl": "k3"}),
}


@pytest.mark.parametrize(
    "choices",
    [
        {"baseline": "beta_prior"},
        {"scale": "analytic"},
        {"trust_region": "clip_cov"},
        {"entropy": "stepped"},
        {"kl": "returns"},
    ],
    ids=str,
)
def test_a_mechanism_vanishes_at_its_neutral_values(choices):
  assert _check(_edited(choices), GRPO)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_every_mechanism_that_claims_to_vanish_does(start):
  parent = STARTS[start]
  claimed = 0
  for slot, options in genomes.SLOTS.items():
    for choice in options:
      claimed += _check(_edited({slot: choice}, parent), parent)
  assert claimed >= 20
