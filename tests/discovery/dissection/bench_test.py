"""What is the same program, and what was paid for."""

import dataclasses
import math

import numpy as np
import pytest

from poise_jax.candidates import artifact, fingerprint
from poise_jax.discovery.dissection import bench


def _fingerprint(value, suite="s"):
  slopes = np.full((1, 2, 1, 1, 1), value, np.float32)
  return fingerprint.Fingerprint(suite, ("p",), slopes)


EXAMINED = {
    "a": bench.Examined("", "1", _fingerprint(1.0)),
    "a again": bench.Examined("", "1", None),
    "twin": bench.Examined("", "2", _fingerprint(1.0001)),
    "other": bench.Examined("", "3", _fingerprint(2.0)),
    "state": bench.Examined("", "4", None),
    "elsewhere": bench.Examined("", "5", _fingerprint(1.0, "t")),
    "bad": bench.Examined("it is bad"),
    "worse": bench.Examined("it is bad"),
}
SCORES = {"a": 1.0, "other": 4.0, "state": 2.0, "elsewhere": 3.0}


@pytest.fixture
def made():
  asked = []

  def measure(source, seed):
    asked.append((source, seed))
    if source == "state":
      return bench.Outcome(0.0, "NaN")
    return bench.Outcome(SCORES[source] + seed)

  return bench.Bench(EXAMINED.__getitem__, measure), asked


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("a", "a again", True),
        ("a", "twin", True),
        ("a", "other", False),
        ("a", "state", False),
        ("a", "elsewhere", False),
        ("bad", "worse", False),
        ("bad", "bad", True),
    ],
)
def test_which_train_alike(made, one, other, same):
  assert made[0].same(one, other) is same
  assert made[0].same(other, one) is same


def test_a_program_is_trained_once_under_any_text(made):
  stand, asked = made
  for source in ("a", "a again", "twin", "a"):
    assert stand.measured(source, 3) == bench.Outcome(4.0)
  assert asked == [("a", 3)]
  assert stand.trainings == 1


def test_differences(made):
  stand, asked = made
  assert stand.difference("a", "twin", 0) == 0.0
  assert asked == []
  assert stand.difference("other", "twin", 0) == 3.0
  assert stand.difference("state", "a", 0) == -math.inf
  assert stand.difference("a", "state", 0) == 1.0
  with pytest.raises(ValueError, match="`source` must pass .* it is bad"):
    stand.measured("bad", 0)


def test_no_more_than_allowed(made):
  stand, _ = made
  stand.max_trainings = 1
  stand.measured("a", 0)
  stand.measured("a again", 0)
  assert not stand.spent
  with pytest.raises(bench.SpentError, match="all 1 trainings are spent"):
    stand.measured("a", 1)
  assert stand.spent


def test_what_the_gate_said_of_a_candidate(make):
  finding = {"level": "contract", "rule": "rule", "message": "it is bad"}
  refused = make.candidate(1, "bad", accepted=False, findings=(finding,))
  assert bench.of_candidate(refused) == bench.Examined("it is bad")
  sizes = {"P": "P", "G": "G", "T": "T", "K": "K"}
  metadata = artifact.Metadata({}, None, sizes, {}, [], "1", "1", [])
  passed = make.candidate(
      2,
      "good",
      artifact=artifact.pack(metadata, b"", b""),
      artifact_sha256="ab",
      fingerprint=fingerprint.to_bytes(_fingerprint(1.0)),
  )
  found = bench.of_candidate(passed)
  assert (found.refused, found.digest, found.operations) == ("", "ab", None)
  assert fingerprint.twins(found.fingerprint, _fingerprint(1.0))
  described = {"canonical_sha256": "cd", "intrinsic": {"operations": 7}}
  found = bench.of_candidate(dataclasses.replace(passed, **described))
  assert (found.digest, found.operations) == ("cd", 7)
  # A memory may tell two apart later than on the last probe.
  remembers = dataclasses.replace(metadata, state={"x": ([], "float32")})
  packed = artifact.pack(remembers, b"", b"")
  found = bench.of_candidate(dataclasses.replace(passed, artifact=packed))
  assert found.fingerprint is None
