import numpy as np

from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import effects, mechanisms, operators
from poise_jax.discovery.proposer import genome as genomes

GRPO = genomes.named("grpo")
DACE = genomes.named("dace")
NOTHING = effects.mean(effects.posterior([], effects.Prior(mean=0.0)))


def _with(**choices):
  """A draw in which these choices are worth what is said, others nothing."""
  known = dict.fromkeys(NOTHING.choices, -1.0)
  for slot in mechanisms.BY_SLOT:
    known[slot, getattr(GRPO, slot)] = 0.0
  known |= {tuple(k.split("__")): v for k, v in choices.items()}
  return effects.Draw(known, dict(NOTHING.slopes))


def _material(draw, *parents):
  return operators.Material(parents, GRPO, draw)


def test_mutation_makes_what_the_draw_says_is_best():
  draw = _with(gating__difficulty_weight=2.0, entropy__bonus=1.0)
  rng = np.random.default_rng(0)
  child, used = operators.mutate(rng, _material(draw, GRPO))
  assert used == 1
  assert child == genomes.edited(GRPO, {"gating": "difficulty_weight"})
  child, _ = operators.mutate_two(rng, _material(draw, GRPO))
  assert genomes.changed_slots(child, GRPO) == ("gating", "entropy")


def test_company_counts_in_the_gain():
  # The scale alone looks best, but takes a bad baseline along.
  draw = _with(
      scale__bernoulli=2.0, baseline__beta_prior=-5.0, entropy__bonus=1.0
  )
  child, _ = operators.mutate(np.random.default_rng(0), _material(draw, GRPO))
  assert child.entropy == "bonus" and child.scale == "group_std"


def test_removal_takes_the_worst_part_out():
  draw = _with(
      gating__difficulty_weight=2.0,
      efficiency__z_score=-3.0,
      entropy__annealed=1.0,
  )
  rng = np.random.default_rng(0)
  child, _ = operators.remove(rng, _material(draw, DACE))
  assert genomes.changed_slots(child, DACE) == ("efficiency",)
  assert operators.remove(rng, _material(draw, GRPO)) is None


def test_tuning_follows_the_slope_and_stays_inside():
  slopes = dict(NOTHING.slopes) | {"clip_eps": 9.0}
  draw = effects.Draw(NOTHING.choices, slopes)
  rng = np.random.default_rng(0)
  for _ in range(50):
    child, _ = operators.tune(rng, _material(draw, GRPO))
    # The epsilon is set, not tuned.
    assert child.constants["epsilon"] == 1e-6
    assert 0.2 < child.constants["clip_eps"] <= knobs.CONSTANTS["clip_eps"].high


def test_a_cross_takes_some_and_prefers_what_looks_good():
  draw = _with(gating__difficulty_weight=8.0, efficiency__z_score=-8.0)
  rng = np.random.default_rng(0)
  taken = []
  for _ in range(40):
    child, used = operators.cross(rng, _material(draw, GRPO, DACE))
    assert used == 2
    assert child not in (GRPO, DACE)
    taken.append((child.gating, child.efficiency))
  good = sum(gating == "difficulty_weight" for gating, _ in taken)
  bad = sum(efficiency == "z_score" for _, efficiency in taken)
  assert good >= 36 and bad <= 4


def test_a_cross_needs_two_parents_that_differ():
  rng = np.random.default_rng(0)
  assert operators.cross(rng, _material(NOTHING, GRPO)) is None
  assert operators.cross(rng, _material(NOTHING, GRPO, GRPO)) is None
