import numpy as np
import pytest

from poise_jax.discovery.proposer import effects, mechanisms
from poise_jax.discovery.proposer import genome as genomes

GRPO = genomes.named("grpo")
DAPO = genomes.named("dapo")
BONUS = genomes.edited(GRPO, {"entropy": "bonus"})
# One level, one scale: what a single option does can be worked out by hand.
FLAT = effects.Prior(0.0, 0.0, 0.0, 2.0, 2.0, 3.0, (1.0,))


def _draws(found, key, count=100):
  rng = np.random.default_rng(0)
  return [effects.draw(rng, found).choices[key] for _ in range(count)]


def test_posterior_of_one_choice_by_hand():
  # Four observations of +9: precision 1/4 + 4/9 = 25/36, variance 1.44,
  # mean 1.44 * 36 / 9 = 5.76.
  seen = [effects.Observation(BONUS, GRPO, 9.0)] * 4
  found = effects.posterior(seen, FLAT)
  assert effects.mean(found).choices["entropy", "bonus"] == pytest.approx(5.76)
  drawn = _draws(found, ("entropy", "bonus"))
  assert np.mean(drawn) == pytest.approx(5.76, abs=4 * 1.2 / 10)
  assert np.std(drawn) == pytest.approx(1.2, rel=0.3)


def test_a_swap_is_the_difference_of_two_choices():
  # Of δ = β[new] - β[plain] all goes to the new one, as plain ones have none;
  # between two others it is shared: 9 * 4 / (4 + 4 + 9) each.
  sequence = genomes.edited(GRPO, {"ratio": "sequence"})
  product = genomes.edited(GRPO, {"ratio": "product"})
  one = effects.posterior([effects.Observation(product, sequence, 9.0)], FLAT)
  mean = effects.mean(one).choices
  assert mean["ratio", "product"] == pytest.approx(36 / 17)
  assert mean["ratio", "sequence"] == pytest.approx(-36 / 17)
  assert mean["ratio", "token"] == 0.0


def test_slots_and_all_mechanisms_share_what_is_seen():
  # Levels of variance 1, 4 and 9 under noise of variance 2: of δ = 16 the
  # option gets 14/16, its neighbours in the slot 5/16, all others 1/16.
  prior = effects.Prior(0.0, 1.0, 2.0, 3.0, 1.0, 1.0, (1.0,))
  seen = [effects.Observation(BONUS, GRPO, 16.0, 2.0)]
  mean = effects.mean(effects.posterior(seen, prior)).choices
  assert mean["entropy", "bonus"] == pytest.approx(14.0)
  assert mean["entropy", "annealed"] == pytest.approx(5.0)
  assert mean["gating", "difficulty_weight"] == pytest.approx(1.0)
  assert mean["entropy", "none"] == 0.0


def test_most_changes_are_expected_to_do_harm():
  mean = effects.mean(effects.posterior([])).choices
  assert mean["entropy", "bonus"] == -1.0 and mean["scale", "none"] == -1.0
  assert mean["entropy", "none"] == 0.0 and mean["scale", "group_std"] == 0.0
  # Of δ = 9 the prior mean of -1 is missed by 10, of which 4/13 are believed.
  prior = FLAT._replace(mean=-1.0)
  seen = [effects.Observation(BONUS, GRPO, 9.0)]
  mean = effects.mean(effects.posterior(seen, prior)).choices
  assert mean["entropy", "bonus"] == pytest.approx(-1 + 40 / 13)


def test_less_noise_less_shrinkage():
  # Prior variance 4: means 9 * 4/(4 + v).
  for variance, expected in ((1.0, 7.2), (36.0, 0.9)):
    seen = [effects.Observation(BONUS, GRPO, 9.0, variance)]
    mean = effects.mean(effects.posterior(seen, FLAT))
    assert mean.choices["entropy", "bonus"] == pytest.approx(expected)


def test_unseen_choices_keep_the_prior():
  found = effects.posterior([effects.Observation(BONUS, GRPO, 9.0)] * 4, FLAT)
  unseen = _draws(found, ("scale", "batch_rms"))
  assert np.mean(unseen) == pytest.approx(0.0, abs=4 * 2 / 10)
  assert np.std(unseen) == pytest.approx(2.0, rel=0.3)


def test_large_effects_speak_for_a_large_scale():
  quiet = [effects.Observation(BONUS, GRPO, d, 0.01) for d in (-1.1, -0.9)]
  loud = [effects.Observation(BONUS, GRPO, 12.0, 0.01)]
  weights = [effects.posterior(seen).weights for seen in (quiet, loud)]
  assert weights[0].argmax() == 0 and weights[1].argmax() == 2
  np.testing.assert_allclose(effects.posterior([]).weights, 1 / 3)


def test_tuning_teaches_the_slope_of_a_constant_alone():
  # One of the five decades from 1e-4 to 10: 0.2 of the range.
  tuned = genomes.edited(GRPO, constants={"clip_eps": 0.02})
  seen = [effects.Observation(tuned, GRPO, 1.0, 0.0001)]
  mean = effects.mean(effects.posterior(seen, FLAT))
  assert mean.slopes["clip_eps"] == pytest.approx(-5.0, rel=0.01)
  assert set(mean.choices.values()) == {0.0}


def test_expected_gain_adds_what_changed():
  draw = effects.draw(np.random.default_rng(1), effects.posterior([]))
  both = genomes.edited(BONUS, {"ratio": "sequence"})
  assert effects.expected_gain(draw, both, GRPO) == pytest.approx(
      draw.choices["entropy", "bonus"] + draw.choices["ratio", "sequence"]
  )


def _planted(seed, *, thompson, trials):
  """Mean true effect of what is tried, of which one is 6 and others about 0."""
  slot, choice = "gating", "difficulty_weight"
  keys = [
      (s, c)
      for s in ("gating", "failures", "entropy", "efficiency", "correction")
      for c in genomes.SLOTS[s]
      if c != getattr(GRPO, s)
  ]
  children = [genomes.edited(GRPO, dict([key])) for key in keys]
  rng = np.random.default_rng(seed)
  truth = rng.normal(0.0, 0.7, len(keys))
  truth[keys.index((slot, choice))] = 6.0
  history, gained = [], 0.0
  for _ in range(trials):
    pick = int(rng.integers(len(keys)))
    if thompson:
      draw = effects.draw(rng, effects.posterior(history))
      gains = [effects.expected_gain(draw, child, GRPO) for child in children]
      pick = int(np.argmax(gains))
    gained += truth[pick] / trials
    delta = float(truth[pick] + rng.normal(0.0, 3.0))
    history.append(effects.Observation(children[pick], GRPO, delta, 9.0))
  return gained


def test_acting_on_draws_finds_a_planted_mechanism_sooner():
  pairs = [
      [_planted(seed, thompson=way, trials=40) for way in (True, False)]
      for seed in range(8)
  ]
  ahead = np.subtract(*np.array(pairs).T)
  # Far from 0 by a t-test of 8 pairs: t_7 = 2.36 at 95 %.
  assert ahead.mean() > 2.36 * ahead.std(ddof=1) / np.sqrt(8)
  assert ahead.mean() > 1.0


def test_what_is_wanted_is_hoped_of_what_promises_it():
  promised = {
      key: about.effects.get("response_length", 0)
      for key, about in mechanisms.MECHANISMS.items()
  }
  shorter = effects.mean(
      effects.posterior([], wanted={"response_length": -1.0})
  )
  plain = effects.mean(effects.posterior([], wanted={"overall": 1.0}))
  assert plain == effects.mean(effects.posterior([]))
  usual = genomes.Genome().choices
  for key, sign in promised.items():
    moved = shorter.choices[key] - plain.choices[key]
    expected = 0.0 if usual[key[0]] == key[1] else -effects.HOPE * sign
    assert moved == pytest.approx(expected)
  assert {-1, 1} <= set(promised.values())
  # Constants too, and draws as well as means.
  assert shorter.slopes != plain.slopes
  rng = np.random.default_rng(0)
  found = effects.posterior([], wanted={"response_length": -1.0})
  draws = [effects.draw(rng, found).choices for _ in range(400)]
  best = max(shorter.choices, key=shorter.choices.get)
  drawn = np.mean([draw[best] for draw in draws])
  assert drawn == pytest.approx(shorter.choices[best], abs=0.3)
