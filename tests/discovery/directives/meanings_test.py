from poise_jax.discovery.directives import meanings
from poise_jax.discovery.objectives import objective as objectives


def test_every_metric_has_a_meaning():
  for name in objectives.NAMES:
    assert meanings.about(name)
  for family in objectives.FAMILIES:
    assert "set" in meanings.about(f"{family}/AMC")


def test_names_that_mislead_are_noted():
  assert "no other text" in meanings.note("heldout_perplexity")
  assert "not of training" in meanings.note("flops")
  assert "bits" in meanings.note("description_length")
  assert meanings.note("overall") == meanings.note("accuracy/AMC") == ""
