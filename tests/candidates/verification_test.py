"""The whole gate, through the real jail."""

import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from poise_jax.algorithms import catalog, properties
from poise_jax.candidates import artifact, contract, probes, verification

_HEAD = "HPARAMS = {}\ndef init(hparams):\n  return {}\n"
_LOSS = _HEAD + "def loss(hparams, state, batch):\n  "


def test_same_source_gives_same_verdict_in_every_process(jail):
  source = catalog.source("grpo")
  first = verification.verify(source, jail)
  assert first.ok and first.findings == ()
  assert first.hparams == catalog.describe("grpo").defaults
  assert first.artifact_sha256 == artifact.sha256(first.artifact)
  assert verification.verify(source, jail) == first
  # No path of this machine, no line of any file.
  loss = artifact.read(first.artifact).loss
  for module in (loss.mlir_module(), loss.vjp().mlir_module()):
    assert ".py" not in module and "/home" not in module


def test_artifact_computes_what_the_catalogue_computes(jail):
  verdict = verification.verify(catalog.source("bn_grpo"), jail)
  loaded = artifact.load(verdict.artifact, "loaded")
  direct = catalog.make("bn_grpo")
  batch = probes.suite()["off_policy"]
  results = [
      contract.compile_step(a, {}, batch)(a.hparams, {}, batch)
      for a in (loaded, direct)
  ]
  losses, gradients = zip(
      *((r.loss, r.gradients) for r in results), strict=True
  )
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)
  assert abs(gradients[0][0]).max() > 1e-4
  assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("", "contract"),
        ("import os", "construct"),
        ("\ud800\0", "encoding"),
        (_LOSS + "return batch.rewards.sum() / 0, state, {}", "finite-loss"),
        (
            _LOSS + "return jnp.ones((9999, 9999)).sum(), state, {}",
            "operations",
        ),
    ],
    ids=range(5),
)
def test_failing_source_gets_a_reason_and_a_hint(jail, source, rule):
  verdict = verification.verify(source, jail)
  assert not verdict.ok and verdict.artifact is None and not verdict.hparams
  assert verdict.findings[0].rule == rule, verdict.findings
  assert all(f.hint for f in verdict.findings)


def test_no_process_is_left_over(jail):
  jail.wait_until_warm()
  before = len(psutil.Process().children(recursive=True))
  assert not verification.verify(_LOSS + "return 0", jail).ok
  assert len(psutil.Process().children(recursive=True)) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names())
def test_catalogue_entries_meet_the_trainer_as_discoveries_do(jail, name):
  verdict = verification.verify(catalog.source(name), jail)
  assert verdict.ok, verdict.findings
  # Nothing was fixed to the sizes of a batch.
  shapes = artifact.read(verdict.artifact).metadata.shapes
  assert (shapes["P"], shapes["T"]) == ("P", "T")
  loaded = artifact.load(verdict.artifact, name)
  direct = catalog.make(name)
  assert loaded.hparams == direct.hparams
  hparams = {k: jnp.float32(v) for k, v in direct.hparams.items()}
  batch = probes.suite()["off_policy"]
  first, second = (
      contract.compile_step(a, a.init(hparams), batch)(
          hparams, a.init(hparams), batch
      )
      for a in (loaded, direct)
  )
  np.testing.assert_allclose(first.loss, second.loss, rtol=2e-5, atol=1e-6)
  for found, expected in zip(first.gradients, second.gradients, strict=True):
    atol = 2e-6 * float(abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=atol)
  assert set(first.state) == set(second.state)
  assert properties.check(loaded) == ()
