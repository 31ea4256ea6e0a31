"""Artifacts that this jax cannot read any more, made again from the source."""

import json
import struct

import pytest

from poise_jax.candidates import artifact, findings, renewal

_SOURCE = """
HPARAMS = {"scale": 2.0}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  value = batch.logprobs * batch.completion_mask * batch.rewards[..., None]
  return -hparams["scale"] * jnp.mean(value.reshape(4, 96)), state, {}
"""
_START = len(b"poise-jax artifact\n")


@pytest.fixture(scope="module")
def data(jail):
  traced = jail.trace(_SOURCE.encode(), fallback_shape=(4, 12))
  return traced.data


def _expired(data, **changes):
  """As if another jax had written it: the module cannot be read."""
  sizes = struct.unpack(">III", data[_START : _START + 12])
  body = data[_START + 12 :]
  header = json.loads(body[: sizes[0]]) | {"jax_version": "0.4.1"} | changes
  loss = b"\x01other" + body[sizes[0] + 6 : sizes[0] + sizes[1]]
  text = json.dumps(header).encode()
  packed = struct.pack(">III", len(text), *sizes[1:])
  return data[:_START] + packed + text + loss + body[sizes[0] + sizes[1] :]


def test_what_can_be_read_stays_as_it_is(data, jail):
  assert renewal.renew(data, _SOURCE, jail) == (data, False)


def test_an_expired_program_is_exported_again_at_its_old_sizes(data, jail):
  old = _expired(data)
  with pytest.raises(findings.RefusedError):
    artifact.read(old)
  renewed = renewal.renew(old, _SOURCE, jail)
  assert renewed.exported_again
  # Same source, same jax: to the byte what it once was.
  assert renewed.data == data
  assert artifact.load(renewed.data, "mine").hparams == {"scale": 2.0}


def test_a_source_with_the_same_header_is_told_by_its_fingerprint(data, jail):
  taken = jail.examine(data, must_learn=False).fingerprint
  old = _expired(data)
  assert renewal.renew(old, _SOURCE, jail, taken=taken).data == data
  # Nothing to compare with is no reason to refuse.
  assert renewal.renew(old, _SOURCE, jail, taken=b"junk").exported_again
  other = _SOURCE.replace("return -hparams", "return -0.5 * hparams")
  with pytest.raises(findings.RefusedError, match="another program.*gradient"):
    renewal.renew(old, other, jail, taken=taken)


@pytest.mark.slow
def test_another_contract_version_is_exported_again_as_well(data, jail):
  source = _SOURCE.replace(".reshape(4, 96)", "")
  old = _expired(data, contract_version=0)
  assert renewal.renew(old, source, jail).exported_again


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(
            _SOURCE.replace("2.0", "3.0"),
            "another program.*hparams",
            marks=pytest.mark.slow,
        ),
        ("import os", "does not pass any more.*import"),
    ],
    ids=["other", "refused"],
)
def test_a_source_that_does_not_fit_is_refused(data, jail, source, words):
  with pytest.raises(findings.RefusedError, match=words):
    renewal.renew(_expired(data), source, jail)
