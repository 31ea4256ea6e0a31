"""What counts as the same loss, and what its original is measured with."""

import dataclasses

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import twins


@pytest.fixture(scope="module")
def grpo(verify):
  return verify(catalog.source("grpo"), None, known=None, group_size=8)


def _stored(make, index, verdict, **changes):
  values = {
      "artifact": verdict.artifact,
      "artifact_sha256": verdict.artifact_sha256,
      "canonical_sha256": verdict.canonical.digest,
      "fingerprint": verdict.fingerprint,
  }
  return make.candidate(index, f"c{index}", **(values | changes))


def test_found_by_program_by_form_and_by_gradients(make, grpo):
  other = _stored(make, 0, grpo)
  assert twins.find(grpo, [other]) == (
      other,
      "compiles to the same program as",
  )
  forms = dataclasses.replace(grpo, artifact_sha256="other")
  assert "written otherwise" in twins.find(forms, [other])[1]
  gradients = dataclasses.replace(
      forms,
      canonical=dataclasses.replace(grpo.canonical, digest="0" * 64),
  )
  assert "same gradients" in twins.find(gradients, [other])[1]
  # With a memory, the same gradients on some batches prove nothing.
  stateful = dataclasses.replace(
      gradients,
      metadata=dataclasses.replace(grpo.metadata, state={"a": ([], "float32")}),
  )
  assert twins.find(stateful, [other]) is None
  assert (
      twins.find(dataclasses.replace(gradients, fingerprint=None), [other])
      is None
  )


def test_a_refused_candidate_is_nobodys_original(make, grpo):
  assert twins.find(grpo, [_stored(make, 0, grpo, accepted=False)]) is None


def test_another_loss_is_no_twin(make, grpo, verify):
  dapo = verify(catalog.source("dapo"), None, known=None, group_size=8)
  assert twins.find(dapo, [_stored(make, 0, grpo)]) is None


def test_each_twin_brings_the_next_seed(make):
  first, second = (make.candidate(i, f"c{i}") for i in (0, 1))
  copies = [
      make.candidate(i, f"c{i}", accepted=False, twin_of=original.id)
      for i, original in ((2, first), (3, second), (4, first), (5, first))
  ]
  everyone = [first, second, *copies]
  assert list(twins.replicas(copies[2:], everyone)) == [
      (first, 101),
      (first, 102),
  ]
  assert list(twins.replicas([second, *copies[:2]], everyone)) == [
      (first, 100),
      (second, 100),
  ]
