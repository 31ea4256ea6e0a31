import json

import pytest

from poise_jax.discovery import genome as genomes


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
    genomes.Genome(constants={"clip_eps": 7.0})


def test_named_refuses_what_the_slots_cannot_say():
  with pytest.raises(ValueError, match="`name` must be one of.*'gspo'"):
    genomes.named("gspo")


def test_edited_keeps_shared_constants_and_drops_idle_ones():
  grpo = genomes.edited(genomes.named("grpo"), constants={"clip_eps": 0.11})
  higher = genomes.edited(grpo, {"clip": "clip_higher"})
  assert higher.constants == {"clip_eps": 0.11, "clip_eps_high": 0.28}
  assert genomes.edited(higher, {"clip": "none"}).constants == {}


def test_identity_depends_on_content_alone():
  first = genomes.named("dapo")
  same = genomes.Genome(
      clip="clip_higher", constants={"clip_eps_high": 0.28, "clip_eps": 0.2}
  )
  assert genomes.identity(first) == genomes.identity(same)
  other = genomes.edited(first, constants={"clip_eps_high": 0.29})
  assert genomes.identity(first) != genomes.identity(other)


def test_distance_by_hand():
  grpo, dr_grpo = genomes.named("grpo"), genomes.named("dr_grpo")
  # Two of twelve slots differ by choice.
  assert genomes.distance(grpo, dr_grpo) == pytest.approx(2 / 12)
  assert genomes.distance(dr_grpo, grpo) == pytest.approx(2 / 12)
  assert genomes.distance(grpo, grpo) == 0
  # Equal choices, clip_eps 0.2 against 0.02 in 0.003 .. 0.6:
  # 0.5 * log(10) / log(200) / 12 = 0.018108.
  low = genomes.edited(grpo, constants={"clip_eps": 0.02})
  assert genomes.distance(grpo, low) == pytest.approx(0.018108, abs=1e-6)


def test_changed_slots_sees_choices_and_constants():
  grpo = genomes.named("grpo")
  child = genomes.edited(grpo, {"entropy": "bonus"}, {"clip_eps": 0.1})
  assert genomes.changed_slots(child, grpo) == ("clip", "entropy")


def test_without_restores_choice_and_constants_of_the_root():
  root = genomes.edited(genomes.named("grpo"), constants={"clip_eps": 0.15})
  child = genomes.edited(root, {"clip": "dual", "kl": "k3"}, {"clip_eps": 0.4})
  restored = genomes.without(child, ["clip"], root)
  assert restored == genomes.edited(root, {"kl": "k3"})


def test_idle_choices_need_a_signal_to_act_on():
  grpo = genomes.named("grpo")
  damped = genomes.edited(grpo, {"failures": "damped"})
  assert genomes.idle_choices(damped) == {"failures": "none"}
  for extra in ({"baseline": "beta_prior"}, {"validity": "format_penalty"}):
    assert not genomes.idle_choices(genomes.edited(damped, extra))
  silent = genomes.edited(grpo, {"gating": "silence_solved"})
  assert genomes.idle_choices(silent) == {"gating": "none"}
  assert not genomes.idle_choices(
      genomes.edited(silent, {"baseline": "batch_mean"})
  )
  uniform = {"gating": "downweight_uniform", "failures": "fixed_negatives"}
  assert not genomes.idle_choices(genomes.edited(grpo, uniform))
  loo = genomes.edited(grpo, {"baseline": "leave_one_out"})
  assert genomes.idle_choices(loo) == {"baseline": "group_mean"}
  assert not genomes.idle_choices(genomes.named("rloo"))
