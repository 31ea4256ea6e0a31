"""What counts as the same loss, and what its original is measured with."""

import dataclasses

import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import fingerprint, probes
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


def _with_loss(text):
  """GRPO with another end: its value is `value` there."""
  source = catalog.source("grpo")
  head, _, last = source.rpartition("  return ")
  value, _, rest = last.partition(",")
  return f"{head}  return {text.replace('value', value)},{rest}"


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
  # The form is the word of a child that read the source: not enough.
  marks = fingerprint.from_bytes(grpo.fingerprint)
  changed = dataclasses.replace(marks, slopes=2.0 * marks.slopes)
  forged = dataclasses.replace(forms, fingerprint=fingerprint.to_bytes(changed))
  assert twins.find(forged, [other]) is None
  # With a memory, the same gradients on some batches prove nothing.
  stateful = dataclasses.replace(
      gradients,
      metadata=dataclasses.replace(grpo.metadata, state={"a": ([], "float32")}),
  )
  assert twins.find(stateful, [other]) is None
  assert twins.find(
      dataclasses.replace(stateful, canonical=grpo.canonical), [other]
  )
  assert (
      twins.find(dataclasses.replace(gradients, fingerprint=None), [other])
      is None
  )


def test_a_size_is_no_number(make, verify, grpo):
  """The usual probes have groups of 8; batches of other sizes tell."""
  by_number = f"value / {probes.GROUP_SIZE}.0"
  one, two = (
      verify(_with_loss(text), None, known=None, group_size=8)
      for text in ("value / batch.rewards.shape[1]", by_number)
  )
  assert one.ok and two.ok, (one.findings, two.findings)
  marks = [fingerprint.from_bytes(v.fingerprint) for v in (one, two)]
  assert fingerprint.twins(*marks)
  assert twins.find(two, [_stored(make, 0, one)]) is None


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
