"""Answers that a child may have forged are checked on the bytes."""

import pytest

from poise_jax.candidates import answers, limits

_BOUNDS = limits.Limits(artifact_bytes=100)


def _read(sizes, body, **header):
  header = {"ok": True, "sizes": sizes, **header}
  return answers.read_trace(header, body, (), _BOUNDS)


def test_parts_are_cut_by_their_sizes():
  traced = _read([3, 2], b"abcde")
  assert (traced.data, traced.jaxpr, traced.canonical) == (b"abc", "de", None)


@pytest.mark.parametrize(
    "sizes", [None, [], [5, -2, 2], [4], [True] * 5, ["5"], [0, 5]]
)
def test_sizes_that_are_not_those_of_the_body_are_refused(sizes):
  outcome = _read(sizes, b"abcde")
  assert isinstance(outcome, answers.Refusal) and outcome.conclusive


def test_an_artifact_beyond_its_limit_is_refused_whatever_the_child_let_pass():
  (finding,) = _read([101], b"x" * 101).findings
  assert finding.rule == "artifact-size" and "100 bytes" in finding.message


def test_a_text_beyond_its_limit_is_refused():
  body = b"x" * (limits.TEXT_BYTES + 2)
  (finding,) = _read([1, len(body) - 1], body).findings
  assert finding.rule == "jail"


def test_a_refusal_cannot_praise():
  finding = {"level": "advisory", "rule": "a", "message": "b", "hint": "c"}
  outcome = answers.read_trace({"finding": finding}, b"", (), _BOUNDS)
  assert [f.level for f in outcome.findings] == ["contract"]
  forged = answers.read_examination({"findings": [finding] * 101}, b"")
  assert isinstance(forged, answers.Refusal)
