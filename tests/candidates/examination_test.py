"""The examiner's judgement on artifacts, good, bad and broken."""

import dataclasses

import pytest

from poise_jax.candidates import (
    artifact,
    examination,
    fingerprint,
    limits,
    probes,
    tracing,
)

_HEAD = "HPARAMS = {}\ndef init(hparams):\n  return {}\n"
_LOSS = _HEAD + "def loss(hparams, state, batch):\n  "


def _trace(body, **arguments):
  return tracing.trace(_LOSS + body, limits.Limits(), group_size=8, **arguments)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (
            "return (batch.logprobs * batch.completion_mask).sum(), state, {}",
            "bandit",
        ),
        ("return batch.logprobs.sum() / 0.0, state, {}", "finite-loss"),
        ("return jnp.ones((2000, 2000)).sum(), state, {}", "operations"),
    ],
    ids=["idle", "infinite", "large"],
)
def test_judges_what_was_traced(body, rule):
  result = examination.examine(_trace(body))
  assert [f.rule for f in result.findings][:1] == [rule]
  assert result.fingerprint is None and result.metrics is None


_LEARNS = """HPARAMS = {"extra": 0.5}
NEUTRAL = {"extra": 0.0}
DECLARES = ("zero_sum", "unit_slope")
def init(hparams):
  return {}
def loss(hparams, state, batch):
  advantage = advantages.group_centered(batch.rewards)
  weights = advantage[..., None] * batch.completion_mask
  value = -jnp.sum(weights * batch.logprobs)
  bonus = jnp.sum(batch.entropy * batch.completion_mask)
  return value - hparams["extra"] * bonus, state, {}
"""


def test_a_loss_that_learns_is_described():
  trace = lambda source: tracing.trace(source, limits.Limits(), group_size=8)
  plain = _LEARNS.replace('"extra": 0.5', '"extra": 0.0')
  first = examination.examine(trace(plain))
  # Neither is a fault: it may be trained, but not by that name.
  assert [(f.level, f.rule) for f in first.findings] == [
      ("declared", "unit_slope"),
      ("advisory", "neutral"),
  ]
  taken = fingerprint.from_bytes(first.fingerprint)
  child = examination.examine(
      trace(_LEARNS), parent=first.fingerprint, grpo=taken
  )
  # At NEUTRAL it is its parent.
  assert [f.rule for f in child.findings] == ["unit_slope"]
  # The bonus adds to the gradient.
  assert 1.0 < child.metrics.gradient_scale < 2.0
  assert child.metrics.flops > 0 and child.metrics.operations is None
  other = trace(
      _LEARNS.replace('NEUTRAL = {"extra": 0.0}', 'NEUTRAL = {"extra": 0.4}')
  )
  found = examination.examine(other, parent=first.fingerprint).findings
  assert [f.rule for f in found] == ["unit_slope", "neutral"]
  assert "at NEUTRAL the gradient differs" in found[1].message
  elsewhere = fingerprint.to_bytes(dataclasses.replace(taken, suite="other"))
  found = examination.examine(other, parent=elsewhere).findings
  assert (found[1].level, found[1].rule) == ("advisory", "neutral")


def test_a_parent_that_cannot_be_compared_is_no_fault_of_the_loss():
  trace = lambda source: tracing.trace(source, limits.Limits(), group_size=8)
  data = trace(_LEARNS.replace(' "unit_slope"', ""))
  for parent in (None, b"junk"):
    (finding,) = examination.examine(data, parent=parent).findings
    assert (finding.level, finding.rule) == ("advisory", "neutral")
    assert "no fingerprint of a parent" in finding.message
  empty = _LEARNS.replace('{"extra": 0.0}', "{}").replace(' "unit_slope"', "")
  (finding,) = examination.examine(trace(empty), parent=b"junk").findings
  assert (finding.level, finding.rule) == ("advisory", "neutral")
  assert "is empty" in finding.message


_WEIGHED = """HPARAMS = {}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  mask = batch.completion_mask
  advantage = advantages.group_centered(batch.rewards)[..., None]
  value = -jnp.sum(advantage * mask * batch.logprobs)
"""


@pytest.mark.parametrize(
    ("body", "findings"),
    [
        ("return value / mask.size, state, {}", [("contract", "padding")]),
        (
            "weights = jax.nn.softmax(\n"
            "      jax.lax.stop_gradient(batch.entropy) * mask, axis=2\n"
            "  )\n"
            "  value = -jnp.sum(advantage * weights * mask * batch.logprobs)\n"
            "  return value / jnp.maximum(mask.sum(), 1.0), state, {}",
            [("contract", "padding")],
        ),
        # As often in numerator and denominator: no fault.
        (
            "return value / jnp.maximum(mask.mean(), 1e-6) / mask.size, state, {}",
            [],
        ),
        (
            "pairs = mask[..., None] * mask[..., None, :]\n"
            "  return value * jnp.mean(pairs), state, {}",
            [("contract", "operations")],
        ),
    ],
    ids=["size", "softmax", "ratio", "pairs"],
)
def test_what_shows_at_other_sizes_is_found(body, findings):
  source = f"{_WEIGHED}  {body}\n"
  data = tracing.trace(source, limits.Limits(), group_size=8)
  found = examination.examine(data).findings
  assert [(f.level, f.rule) for f in found] == findings, found


def test_operations_are_counted_again():
  data = tracing.trace(
      _WEIGHED + "  return value, state, {}\n", limits.Limits(), group_size=8
  )
  (finding,) = examination.examine(
      data, bounds=limits.Limits(operations=2)
  ).findings
  assert finding.rule == "operations" and "20 operations" in finding.message


def test_who_need_not_learn_is_described_too():
  data = _trace("return 0.0 * batch.logprobs.sum(), state, {}")
  result = examination.examine(data, must_learn=False)
  assert [f.rule for f in result.findings] == ["no-gradient"]
  assert not fingerprint.from_bytes(result.fingerprint).slopes.any()


@pytest.mark.parametrize("data", [b"", b"poise-jax artifact\n" + b"\xff" * 99])
def test_anything_but_an_artifact_is_refused(data):
  (finding,) = examination.examine(data).findings
  assert (finding.level, finding.rule) == ("contract", "artifact")


def test_batches_have_the_sizes_that_the_artifact_fixes():
  metadata = artifact.header(_trace("return batch.logprobs.sum(), state, {}"))
  free = examination.probe_batches(metadata)["mixed"]
  assert free.rewards.shape == (4, 8)
  shapes = {"P": 3, "G": 5, "T": "T", "K": 4}
  fixed = dataclasses.replace(metadata, shapes=shapes)
  batch = examination.probe_batches(fixed)["mixed"]
  assert batch.logprobs.shape == (3, 5, probes.TOKENS)
  assert batch.reward_components.shape == (3, 5, 4)
