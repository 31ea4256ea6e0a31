from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import idle

GRPO = genomes.named("grpo")


def test_damping_needs_a_signal_to_act_on():
  damped = genomes.edited(GRPO, {"failures": "damped"})
  assert idle.idle_choices(damped) == {"failures": "none"}
  for extra in (
      {"baseline": "beta_prior"},
      {"format": "penalty"},
      {"kl": "in_reward"},
      {"signal": "components"},
      {"subset": "valid"},
  ):
    assert not idle.idle_choices(genomes.edited(damped, extra)), extra


def test_solved_groups_are_silent_by_themselves():
  silent = genomes.edited(GRPO, {"gating": "damp_solved"})
  assert idle.idle_choices(silent) == {"gating": "none"}
  off_group = genomes.edited(silent, {"baseline": "batch_mean"})
  assert not idle.idle_choices(off_group)
  uniform = {"gating": "downweight_uniform"}
  assert idle.idle_choices(genomes.edited(GRPO, uniform))
  pushed = uniform | {"failures": "fixed_negatives"}
  assert not idle.idle_choices(genomes.edited(GRPO, pushed))


def test_graded_rewards_leave_less_idle():
  for name in ("gla_grpo", "pr_grpo", "dfr_grpo", "cda_grpo"):
    assert idle.idle_choices(genomes.named(name)), name
    assert not idle.idle_choices(genomes.named(name), graded=True), name


def test_factors_that_a_scale_divides_away():
  loo = genomes.edited(GRPO, {"baseline": "leave_one_out"})
  assert idle.idle_choices(loo) == {"baseline": "group_mean"}
  assert not idle.idle_choices(genomes.named("rloo"))
  token = genomes.named("gspo_token")
  assert idle.idle_choices(token) == {"ratio": "sequence"}
  apart = genomes.edited(token, {"correction": "icepop"})
  assert not idle.idle_choices(apart)


def test_simplified_ends_with_nothing_idle():
  start = genomes.edited(
      GRPO, {"baseline": "leave_one_out", "gating": "damp_solved"}
  )
  assert idle.simplified(start) == GRPO
