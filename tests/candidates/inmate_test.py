"""The child's answer to one request, whatever the source does."""

import pytest

from poise_jax.candidates import artifact, inmate, limits

_REQUEST = {"group_size": 8, "fallback_shape": None}


def test_answers_with_an_artifact():
  source = (
      b"HPARAMS = {}\ndef init(h):\n  return {}\n"
      b"def loss(h, s, b):\n  return b.logprobs.sum(), s, {}\n"
  )
  header, data = inmate.serve(_REQUEST, source, limits.Limits())
  assert header["ok"] is True and sum(header["sizes"]) == len(data)
  size, text, _ = header["sizes"]
  assert artifact.read(data[:size]).metadata.hparams == {}
  assert b"reduce_sum" in data[size : size + text]
  assert b"return" in data[size + text :]
  assert set(header["canonical"]) == {
      *("digest", "structure", "operations", "constants", "bits")
  }
  request = {"artifact_bytes": size, "must_learn": True}
  answer, rest = inmate.examine(request, data[:size])
  assert rest == b"" and answer["metrics"] is None
  assert [f["rule"] for f in answer["findings"]] == ["masked-gradient"]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (b"\xff", "trace"),
        (b"x = (", "execute"),
        (b"x = [][0]", "execute"),
        (b"x = [0] * 10**18", "memory"),
        (b"def f():\n  f()\nf()", "recursion"),
        (b"HPARAMS = {}\ninit = loss = list", "state"),
    ],
)
def test_answers_with_a_finding(source, rule):
  header, data = inmate.serve(_REQUEST, source, limits.Limits())
  assert data == b"" and header["ok"] is False
  assert header["finding"]["rule"] == rule, header
