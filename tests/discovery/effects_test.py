import numpy as np
import pytest

from poise_jax.discovery import effects
from poise_jax.discovery import genome as genomes

GRPO = genomes.named("grpo")
DAPO = genomes.named("dapo")


def _draws(history, count=400):
  rng = np.random.default_rng(0)
  return [effects.draw_effects(rng, history) for _ in range(count)]


def test_posterior_of_one_choice_by_hand():
  # Four observations of +9: precision 1/4 + 4/9 = 25/36, variance 1.44,
  # mean 1.44 * 36 / 9 = 5.76.
  history = [effects.Observation(DAPO, GRPO, 9.0)] * 4
  seen = [d["clip", "clip_higher"] for d in _draws(history)]
  assert np.mean(seen) == pytest.approx(5.76, abs=4 * 1.2 / 20)
  assert np.std(seen) == pytest.approx(1.2, rel=0.15)
  replaced = [d["clip", "symmetric"] for d in _draws(history)]
  assert np.mean(replaced) == pytest.approx(-5.76, abs=4 * 1.2 / 20)


def test_unseen_choices_keep_the_prior():
  history = [effects.Observation(DAPO, GRPO, 9.0)] * 4
  unseen = [d["scale", "batch_rms"] for d in _draws(history)]
  assert np.mean(unseen) == pytest.approx(0.0, abs=4 * 2 / 20)
  assert np.std(unseen) == pytest.approx(2.0, rel=0.15)


def test_tuning_teaches_nothing_about_choices():
  tuned = genomes.edited(GRPO, constants={"clip_eps": 0.1})
  with_tuning = _draws([effects.Observation(tuned, GRPO, -30.0)], 3)
  assert with_tuning == _draws([], 3)
