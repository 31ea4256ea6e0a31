"""The paper's claim on AIME25, with the interval that it lacks."""

import pytest

from poise_jax.evaluation import published


def test_the_papers_claim_on_aime25():
  # GRPO 26.7 %, VM-AV-GRPO 43.3 % of 30 problems.
  found = published.claim("AIME25", 30, 8, 13)
  assert found.newcombe == pytest.approx((5 / 30, -0.0722, 0.3814), abs=1e-4)
  low, high = found.agresti_caffo[1:]
  assert (low, high) == pytest.approx((-0.0757, 0.3882), abs=1e-4)
  # At best, VM-AV-GRPO solved all that GRPO did and five more: 2 / 2^5.
  assert found.least_p == pytest.approx(2 / 32)
  # At worst they solved 21 different problems, 13 and 8.
  assert found.most_p == pytest.approx(0.3833, abs=1e-4)


def test_the_claim_in_words():
  told = published.sentence(published.claim("AIME25", 30, 8, 13))
  assert told == (
      "AIME25: 8/30 against 13/30 is +16.7 points, 95 % [-7.2, 38.1] for"
      " independent problems (0 lies within it); paired p-value 0.0625 to"
      " 0.383, not significant at 5 % however the two overlap."
  )


def test_the_other_verdicts():
  clear = published.sentence(published.claim("x", 100, 10, 60))
  assert "outside of it" in clear and "5 % however" in clear
  some = published.sentence(published.claim("x", 100, 40, 50))
  assert "only if the two overlap enough" in some


def test_counts_that_cannot_be():
  with pytest.raises(ValueError, match="31 of 30 problems"):
    published.claim("x", 30, 8, 31)


def test_two_that_must_overlap():
  found = published.claim("x", 10, 9, 9)
  # Eight or nine in common: one flip either way, or none.
  assert (found.least_p, found.most_p) == (1, 1)
