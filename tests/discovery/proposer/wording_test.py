from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import wording

GRPO = genomes.named("grpo")


def test_names_are_made_of_what_is_new():
  dapo = genomes.named("dapo")
  assert wording.candidate_name(dapo, GRPO, index=4) == "clip_higher-004"
  back = wording.candidate_name(GRPO, genomes.named("dr_grpo"), index=12)
  assert back == "group_std-token_mean-012"
  unscaled = genomes.edited(GRPO, {"scale": "none"})
  assert wording.candidate_name(unscaled, GRPO, index=1) == "no_scale-001"
  tuned = genomes.edited(GRPO, constants={"clip_eps": 0.3})
  assert wording.candidate_name(tuned, GRPO, index=2) == "tuned_clip_eps-002"
  many = genomes.named("vm_av_grpo")
  assert (
      wording.candidate_name(many, GRPO, index=3)
      == "temper_negatives-valid_subset-and_3_more-003"
  )


def test_difference_names_choices_and_constants():
  child = genomes.edited(GRPO, {"ratio": "sequence"}, {"clip_eps": 0.3})
  assert wording.difference(child, GRPO) == [
      "ratio from token to sequence (now compares old and new policy by the"
      " mean ratio of the sequence)",
      "the clip range (clip_eps) raised from 0.2 to 0.3",
  ]
  assert wording.difference(GRPO, GRPO) == []


def test_predicted_effects_add_up_and_cancel():
  # batch_mean predicts entropy down, the entropy bonus predicts it up.
  child = genomes.edited(GRPO, {"baseline": "batch_mean", "entropy": "bonus"})
  assert wording.predicted_effects(child, GRPO, "mutate_two") == {
      "overall": 1,
      "kl": 1,
      "advantages/mean_abs": 1,
  }


def test_taking_something_out_does_not_predict_a_gain():
  effects = wording.predicted_effects(GRPO, genomes.named("dapo"), "remove")
  assert effects == {"kl": -1}
  assert wording.prediction(effects, "dapo") == (
      "against dapo, KL to the reference lower, Overall no lower."
  )


def test_tuning_down_predicts_the_opposite_of_up():
  child = genomes.edited(GRPO, constants={"clip_eps": 0.1})
  assert wording.predicted_effects(child, GRPO, "tune") == {
      "overall": 1,
      "kl": -1,
  }
  text = wording.rationale(child, [("grpo", GRPO)], "tune")
  assert text.startswith("Lowers the clip range of grpo from 0.2 to 0.1")


def test_rationale_names_bottleneck_hypothesis_and_paper():
  text = wording.rationale(genomes.named("dapo"), [("grpo", GRPO)], "mutate")
  assert "Bottleneck: a rare good token" in text
  assert "Hypothesis: more room above" in text
  assert text.endswith("(DAPO).")


def test_a_cross_is_refuted_by_the_better_parent():
  text = wording.falsifier(
      genomes.named("vm_av_grpo"), GRPO, ["grpo", "x"], "cross"
  )
  assert "the better of grpo and x" in text
