import json

import pytest

from poise_jax.discovery.proposer import genome as genomes


def test_json_round_trip_through_text():
  for name in ("grpo", "vm_av_grpo", "dr_grpo"):
    genome = genomes.named(name)
    text = json.dumps(genomes.to_json(genome), sort_keys=True)
    assert genomes.from_json(json.loads(text)) == genome


def test_from_json_refuses_missing_and_unknown_keys():
  value = genomes.to_json(genomes.named("grpo"))
  with pytest.raises(ValueError, match="`value` must have exactly"):
    genomes.from_json({k: v for k, v in value.items() if k != "kl"})
  with pytest.raises(ValueError, match="`value` must have exactly"):
    genomes.from_json({**value, "bonus_slot": "none"})


def test_construction_refuses_what_is_not_allowed():
  with pytest.raises(ValueError, match="`baseline` must be one of"):
    genomes.Genome(baseline="median")
  with pytest.raises(ValueError, match="`constants` must be exactly"):
    genomes.Genome(kl="k3")
  with pytest.raises(ValueError, match="constant `clip_eps` must be in"):
    genomes.Genome(constants={"clip_eps": 70.0, "epsilon": 1e-6})
  with pytest.raises(ValueError, match="`baseline` must be .* where `scale`"):
    genomes.Genome(scale="bernoulli")


def test_named_refuses_what_the_slots_cannot_say():
  with pytest.raises(ValueError, match="`name` must be one of.*'sign_flipped'"):
    genomes.named("sign_flipped")


def test_edited_keeps_shared_constants_and_drops_idle_ones():
  grpo = genomes.edited(genomes.named("grpo"), constants={"clip_eps": 0.11})
  higher = genomes.edited(grpo, {"clip": "clip_higher"})
  rest = {"epsilon": 1e-6}
  assert higher.constants == {"clip_eps": 0.11, "clip_eps_high": 0.28} | rest
  assert genomes.edited(higher, {"clip": "none"}).constants == rest


def test_edited_mends_what_does_not_go_along():
  smoothed = genomes.edited(genomes.named("grpo"), {"scale": "bernoulli"})
  assert smoothed.baseline == "beta_prior"
  assert smoothed.constants["prior_successes"] == 1.0
  back = genomes.edited(smoothed, {"baseline": "group_mean"})
  assert (back.baseline, back.scale) == ("group_mean", "none")


def test_identity_depends_on_content_alone():
  first = genomes.named("dapo")
  same = genomes.Genome(
      clip="clip_higher",
      constants={"clip_eps_high": 0.28, "epsilon": 1e-6, "clip_eps": 0.2},
  )
  assert genomes.identity(first) == genomes.identity(same)
  other = genomes.edited(first, constants={"clip_eps_high": 0.29})
  assert genomes.identity(first) != genomes.identity(other)


def test_distance_by_hand():
  grpo, dr_grpo = genomes.named("grpo"), genomes.named("dr_grpo")
  # Two of twenty slots differ by choice.
  assert genomes.distance(grpo, dr_grpo) == pytest.approx(2 / 20)
  assert genomes.distance(dr_grpo, grpo) == pytest.approx(2 / 20)
  assert genomes.distance(grpo, grpo) == 0
  # Equal choices, clip_eps 0.2 against 0.02 in 1e-4 .. 10:
  # 0.5 * log(10) / log(1e5) / 20 = 0.005.
  low = genomes.edited(grpo, constants={"clip_eps": 0.02})
  assert genomes.distance(grpo, low) == pytest.approx(0.005, abs=1e-6)


def test_changed_slots_sees_choices_and_constants():
  grpo = genomes.named("grpo")
  child = genomes.edited(grpo, {"entropy": "bonus"}, {"clip_eps": 0.1})
  assert genomes.changed_slots(child, grpo) == ("clip", "entropy")


def test_without_restores_choice_and_constants_of_the_root():
  root = genomes.edited(genomes.named("grpo"), constants={"clip_eps": 0.15})
  child = genomes.edited(root, {"clip": "dual", "kl": "k3"}, {"clip_eps": 0.4})
  restored = genomes.without(child, ["clip"], root)
  assert restored == genomes.edited(root, {"kl": "k3"})
