"""The program for a large batch, with nothing left unknown in it."""

import pytest

from poise_jax.candidates import artifact, findings, limits, scale, tracing

_HEAD = "HPARAMS = {}\ndef init(hparams):\n  return {}\n"
_LOSS = _HEAD + "def loss(hparams, state, batch):\n  "


def _programs(body, **changes):
  source = _LOSS + f"return {body}, state, {{}}"
  data = tracing.trace(source, limits.Limits(), group_size=8)
  parts = artifact.read(data)
  algorithm = artifact.algorithm(parts, "mine")
  return [
      scale.program(algorithm, parts.metadata, sizes | changes)
      for sizes in (dict(scale.LARGE), dict(scale.SHORT))
  ]


def test_all_shapes_are_known():
  large, short = _programs("(batch.logprobs * batch.completion_mask).sum()")
  assert "tensor<64x16x1024xf32>" in large and "?" not in large
  assert "tensor<64x16x96xf32>" in short


def test_fixed_sizes_stay():
  shapes = {"P": "P", "G": 8, "T": "T", "K": 2}
  assert scale.fixed(scale.LARGE, shapes) == {
      **{"P": 64, "T": 1024},
      **{"G": 8, "K": 2},
  }


def test_sizes_that_do_not_fit_are_refused():
  with pytest.raises(findings.RefusedError, match="P = 64, G = 1, T = 1024"):
    _programs("batch.logprobs.sum()", G=1)
