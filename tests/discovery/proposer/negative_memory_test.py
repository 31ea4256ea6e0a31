import math

import pytest

from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import negative_memory

GRPO = genomes.named("grpo")
BONUS = genomes.edited(GRPO, {"entropy": "bonus"})


def test_nothing_failed_nothing_is_avoided():
  assert negative_memory.acceptance(BONUS, []) == 1.0


def test_the_same_genome_is_hardly_made_again():
  failure = negative_memory.Failure(BONUS)
  assert negative_memory.acceptance(BONUS, [failure]) == pytest.approx(0.05)


def test_distance_in_slots_by_hand():
  # One choice is one slot away: two radii.
  failure = negative_memory.Failure(BONUS, belief=0.8)
  expected = 1.0 - 0.8 * math.exp(-2.0)
  assert negative_memory.acceptance(GRPO, [failure]) == pytest.approx(expected)


def test_the_nearest_failure_decides():
  near, far = negative_memory.Failure(GRPO), negative_memory.Failure(BONUS)
  both = negative_memory.acceptance(GRPO, [far, near])
  assert both == negative_memory.acceptance(GRPO, [near])
