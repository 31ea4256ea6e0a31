import math

import numpy as np
import pytest

from poise_jax.candidates import fingerprint
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import negative_memory

GRPO = genomes.named("grpo")
BONUS = genomes.edited(GRPO, {"entropy": "bonus"})


def _fingerprint(*numbers):
  slopes = np.zeros((1, 2, 1, 1, len(numbers)), np.float32)
  slopes[0, 0, 0, 0] = numbers
  return fingerprint.Fingerprint("suite", ("only",), slopes)


def test_nothing_failed_nothing_is_avoided():
  assert negative_memory.acceptance(BONUS, None, []) == 1.0


def test_the_same_genome_is_hardly_made_again():
  failure = negative_memory.Failure(BONUS)
  assert negative_memory.acceptance(BONUS, None, [failure]) == pytest.approx(
      0.05
  )


def test_distance_in_slots_by_hand():
  # One choice is one slot away: two radii.
  failure = negative_memory.Failure(BONUS, belief=0.8)
  expected = 1.0 - 0.8 * math.exp(-2.0)
  assert negative_memory.acceptance(GRPO, None, [failure]) == pytest.approx(
      expected
  )


def test_gradients_go_before_genomes():
  # Another genome whose gradients point the same way, and one at a distance
  # of sqrt(2) / 2.
  failure = negative_memory.Failure(
      BONUS, fingerprint=_fingerprint(1.0, 0.0), belief=0.9
  )
  same = negative_memory.acceptance(GRPO, _fingerprint(2.0, 0.0), [failure])
  assert same == pytest.approx(0.1)
  far = negative_memory.acceptance(GRPO, _fingerprint(0.0, 1.0), [failure])
  assert far == pytest.approx(1.0)


def test_the_nearest_failure_decides():
  near, far = negative_memory.Failure(GRPO), negative_memory.Failure(BONUS)
  both = negative_memory.acceptance(GRPO, None, [far, near])
  assert both == negative_memory.acceptance(GRPO, None, [near])


def test_twins_have_the_same_steps():
  known = [_fingerprint(1.0, 2.0)]
  assert negative_memory.is_twin(_fingerprint(1.0, 2.0), known)
  assert not negative_memory.is_twin(_fingerprint(2.0, 4.0), known)
  assert not negative_memory.is_twin(None, known)
