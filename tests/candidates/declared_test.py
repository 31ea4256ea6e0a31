"""True claims pass, false ones are findings; a neutral child is its parent."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog, properties
from poise_jax.candidates import contract, declared, fingerprint, probes


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def _subject(algorithm, suite):
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = jax.tree.map(jnp.asarray, algorithm.init(hparams))
  step = contract.compile_step(algorithm, state, suite["mixed"])
  return declared.Subject(step, dict(algorithm.hparams), state, suite)


@pytest.fixture(scope="module")
def subjects(suite):
  names = ("grpo", "dr_grpo", "gpg", "vm_av_grpo", "reinforce_pp")
  return {n: _subject(catalog.make(n), suite) for n in names}


# By the equations.
_HOLDS = {
    "grpo": {
        "zero_sum",
        "reward_shift_invariant",
        "reward_scale_invariant",
        "reference_free",
        "unit_slope",
    },
    "dr_grpo": {"zero_sum", "reward_shift_invariant", "reference_free"},
    "gpg": {
        "zero_sum",
        "reward_shift_invariant",
        "on_policy_only",
        "reference_free",
    },
    "vm_av_grpo": {"reference_free"},
    "reinforce_pp": {"reward_shift_invariant"},
}


@pytest.mark.parametrize("name", _HOLDS)
def test_properties_follow_from_the_equations(subjects, name):
  assert set(declared.holding(subjects[name])) == _HOLDS[name]


def test_true_claims_are_no_findings_and_false_ones_name_numbers(subjects):
  grpo = subjects["grpo"]
  assert declared.check(grpo, ["zero_sum", "unit_slope"]) == ()
  (finding,) = declared.check(grpo, ["zero_sum", "on_policy_only"])
  assert (finding.level, finding.rule) == ("declared", "on_policy_only")
  assert "off_policy" in finding.message or "mixed" in finding.message
  (finding,) = declared.check(subjects["dr_grpo"], ("unit_slope",))
  assert "times as long" in finding.message and finding.hint


def test_claims_on_other_streams_are_not_empty(suite):
  def by(field):
    def loss(hparams, state, batch):
      value = batch.logprobs * batch.completion_mask
      return -jnp.sum(value * field(batch)[..., None]), state, {}

    return _subject(types.Algorithm("raw", {}, lambda h: {}, loss), suite)

  claims = ("reward_shift_invariant", "reward_scale_invariant")
  subject = by(lambda b: b.reward_components[..., 0])
  assert len(declared.check(subject, claims)) == 2
  # Yes and no are no rewards.
  assert not declared.check(by(lambda b: b.correct), claims)


def test_what_has_no_gradient_proves_no_claim(suite):
  idle = types.Algorithm(
      "idle", {}, lambda h: {}, lambda h, s, b: (0.0 * b.logprobs.sum(), s, {})
  )
  assert declared.holding(_subject(idle, suite)) == ()


def test_unknown_claim_lists_the_vocabulary(subjects):
  (finding,) = declared.check(subjects["grpo"], ["magic", "magic"])
  assert (finding.level, finding.rule) == ("declared", "unknown-claim")
  assert "zero_sum" in finding.hint


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "gpg"])
def test_unit_slope_is_that_of_the_catalogue(subjects, name):
  # Another batch: the ratio to GRPO is what both have in common.
  expected = properties.slopes(catalog.make(name), group_size=8).unit_slope
  got = declared.unit_slope(subjects[name])
  if name == "grpo":
    assert (got, expected) == pytest.approx((1.0, 1.0), rel=1e-4)
  else:
    assert (got == pytest.approx(1.0, rel=0.01)) == (
        expected == pytest.approx(1.0, rel=0.01)
    )


def _child(scale):
  """GRPO with an entropy bonus and a shift of the advantages."""
  grpo = catalog.make("grpo")

  def loss(hparams, state, batch):
    inner = {k: hparams[k] for k in grpo.hparams}
    value, _, metrics = grpo.loss(inner, {}, batch)
    mask = batch.completion_mask
    bonus = state["weight"] * jnp.sum(batch.entropy * mask)
    value = value - bonus / jnp.maximum(jnp.sum(mask), 1.0)
    return value * scale, {"weight": hparams["bonus"]}, metrics

  init = lambda hparams: {"weight": hparams["bonus"]}
  return types.Algorithm("child", grpo.hparams | {"bonus": 0.1}, init, loss)


def test_child_at_neutral_is_its_parent(suite):
  parent = fingerprint.of(catalog.make("grpo"), suite)
  child = _child(1.0)
  subject = _subject(child, suite)
  check = lambda neutral: declared.check_reduction(
      subject, neutral, child.init, parent
  )
  assert check({"bonus": 0.0}) == ()
  (finding,) = check({})
  assert (finding.level, finding.rule) == ("declared", "neutral")
  assert "probes" in finding.message
  (finding,) = check({"bonus": 0.0, "clip_eps_high": 0.3})
  assert "near_clip" in finding.message


def test_scaled_child_is_not_its_parent(suite):
  parent = fingerprint.of(catalog.make("grpo"), suite)
  child = _child(1.5)
  found = declared.check_reduction(
      _subject(child, suite), {"bonus": 0.0}, child.init, parent
  )
  assert len(found) == 1


def test_gradient_that_is_not_finite_at_neutral_is_a_finding(suite, subjects):
  parent = fingerprint.of(catalog.make("grpo"), suite)

  def loss(hparams, state, batch):
    value = jnp.sum(batch.logprobs * batch.rewards[..., None])
    return value / hparams["a"], state, {}

  child = types.Algorithm("child", {"a": 1.0}, lambda hparams: {}, loss)
  (finding,) = declared.check_reduction(
      _subject(child, suite), {"a": 0.0}, child.init, parent
  )
  assert "not finite" in finding.message


def test_on_policy_batch_is_what_it_says(suite):
  batch = declared.on_policy(suite)
  assert bool(jnp.all(batch.completion_mask == 1))
  for field in ("old_logprobs", "sampler_logprobs", "ref_logprobs"):
    assert bool(jnp.all(getattr(batch, field) == batch.logprobs))
  passed = batch.correct.mean(axis=1)
  assert bool(jnp.all((passed > 0) & (passed < 1)))
  fields = {f.name for f in dataclasses.fields(batch)}
  assert {"staleness"} <= fields and not bool(jnp.any(batch.staleness))
