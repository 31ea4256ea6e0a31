"""Every rule must hold for the catalogue, and be able to fail."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    catalog,
    examples,
    measuring,
    properties,
    ratios,
    surrogates,
)
from poise_jax.candidates import artifact, limits, tracing


def algorithm(loss, init=lambda hparams: {}, **hparams):
  return types.Algorithm("own", hparams, init, loss)


def rules_broken(broken):
  return {violation.rule for violation in properties.check(broken)}


def clipped(batch, adv=None, ratio=None):
  """The clipped surrogate per token, as it should be."""
  if adv is None:
    adv = advantages.group_centered(batch.rewards)
  if ratio is None:
    ratio = ratios.token_ratio(
        batch.logprobs, batch.old_logprobs, batch.completion_mask
    )
  return surrogates.clipped(ratio, adv, clip_eps_low=0.2, clip_eps_high=0.2)


def mean(batch, values):
  return aggregation.token_mean(values, batch.completion_mask)


def stateless(function):
  """A loss from a function of the batch."""

  def loss(hparams, state, batch):
    return function(batch), state, {}

  return algorithm(loss)


def sound(hparams, state, batch):
  """Obeys all rules, with a state and a metric."""
  loss = mean(batch, clipped(batch) - hparams["entropy_coef"] * batch.entropy)
  rate = jnp.mean(batch.correct)
  live = jnp.any(batch.completion_mask > 0)
  moved = 0.9 * state["rate"] + 0.1 * rate
  new = {
      "rate": jnp.where(live, moved, state["rate"]),
      "steps": state["steps"] + live,
  }
  return loss * (1.0 + new["rate"]), new, {"rate": rate}


def sound_init(hparams):
  return {"rate": 0.5, "steps": jnp.asarray(0, jnp.int32)}


@pytest.mark.parametrize("name", catalog.names())
def test_the_catalogue_obeys_all_rules(name):
  algorithm = catalog.make(name)
  assert properties.check(algorithm) == ()
  # A loss may refuse groups of one; none of these does.
  subject = measuring.Subject(algorithm, group_size=7)
  assert np.isfinite(subject.run(examples.groups_of_one()).loss)


OPTIONAL = {
    name: off
    for name in catalog.names()
    if (
        off := [
            key
            for key, value in catalog.describe(name).defaults.items()
            if key.endswith("_coef") and value == 0
        ]
    )
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_it_does_with_its_optional_terms_switched_on(name):
  active = catalog.make(name, **dict.fromkeys(OPTIONAL[name], 0.1))
  assert properties.check(active) == ()


def test_a_loss_of_ones_own_can_pass():
  own = algorithm(sound, sound_init, entropy_coef=0.1)
  assert properties.check(own) == ()


# Broken losses, by name: what they break, and nothing else.


def half_precision(batch):
  return mean(batch, clipped(batch)).astype(jnp.float16)


def vector(batch):
  return jnp.mean(clipped(batch), axis=(1, 2))


def sample_deviation(batch):
  """Divides by G - 1, which is 0 for groups of one."""
  spread = jnp.std(batch.rewards, axis=1, ddof=1, keepdims=True)
  adv = advantages.group_centered(batch.rewards) / (spread + 1e-4)
  return mean(batch, clipped(batch, jax.lax.stop_gradient(adv)))


def product_of_ratios(batch):
  """exp(6 * 30) is infinite."""
  mask = batch.completion_mask
  old = jax.lax.stop_gradient(jnp.where(mask > 0, batch.old_logprobs, 0.0))
  difference = jnp.where(mask > 0, batch.logprobs, 0.0) - old
  ratio = jnp.exp(jnp.sum(difference, axis=2, keepdims=True) * mask)
  return mean(batch, clipped(batch, ratio=ratio))


def safe_only_outside(batch):
  """The gradient of the root at 0 passes through jnp.where."""
  live = batch.completion_mask > 0
  entropy = jnp.where(live, batch.entropy, 0.0)
  lengths = jnp.maximum(jnp.sum(live, axis=2, keepdims=True), 1)
  centered = entropy - jnp.sum(entropy, axis=2, keepdims=True) / lengths
  spread = jnp.sum(jnp.where(live, centered, 0.0) ** 2, axis=2)
  root = jnp.where(spread > 0, jnp.sqrt(spread), 0.0)
  return mean(batch, clipped(batch)) + 0.1 * jnp.mean(root)


def mean_over_padding(batch):
  return jnp.mean(jnp.where(batch.completion_mask > 0, clipped(batch), 0.0))


def gradient_where_masked(batch):
  """A bonus on all entropies, of padding too."""
  return mean(batch, clipped(batch)) - 0.1 * jnp.sum(batch.entropy)


def weight_by_slot(batch):
  slot = jnp.cumsum(jnp.ones_like(batch.completion_mask), axis=2)
  return mean(batch, slot * clipped(batch))


def weight_by_group(batch):
  index = jnp.cumsum(jnp.ones_like(batch.completion_mask), axis=0)
  return mean(batch, index * clipped(batch))


def first_is_baseline(batch):
  return mean(batch, clipped(batch, batch.rewards - batch.rewards[:, :1]))


def constant_without_tokens(batch):
  return jax.nn.softplus(mean(batch, clipped(batch)))


def mask_by_multiplication(batch):
  difference = batch.logprobs - jax.lax.stop_gradient(batch.old_logprobs)
  ratio = jnp.exp(jnp.clip(difference * batch.completion_mask, -20, 20))
  return mean(batch, clipped(batch, ratio=ratio))


def inexact_mean(batch):
  """A mean that is exact for 0 and 1 alone, however XLA rounds."""
  rewards = jax.lax.stop_gradient(batch.rewards)
  average = jnp.mean(rewards, axis=1, keepdims=True)
  centered = rewards - jnp.round(64.0 * average) / 64.0
  spread = jnp.std(rewards, axis=1, keepdims=True)
  return mean(batch, clipped(batch, centered / (spread + 1e-6)))


def gradient_of_old(batch):
  difference = batch.logprobs - batch.old_logprobs
  live = batch.completion_mask > 0
  ratio = jnp.exp(jnp.clip(jnp.where(live, difference, 0.0), -20, 20))
  return mean(batch, clipped(batch, ratio=ratio))


def gradient_of_rewards(batch):
  adv = batch.rewards - jnp.mean(batch.rewards, axis=1, keepdims=True)
  live = batch.completion_mask > 0
  logprobs = jnp.where(live, batch.logprobs, 0.0)
  return -mean(batch, adv[..., None] * logprobs)


@jax.custom_vjp
def own_derivative(values, mask):
  return aggregation.token_mean(values, mask)


def _forward(values, mask):
  return own_derivative(values, mask), mask


def _backward(mask, cotangent):
  del cotangent
  return mask / jnp.maximum(jnp.sum(mask), 1.0), jnp.zeros_like(mask)


own_derivative.defvjp(_forward, _backward)


def cotangent_ignored(batch):
  return own_derivative(clipped(batch), batch.completion_mask)


@pytest.mark.parametrize(
    ("function", "rules"),
    [
        (half_precision, "types"),
        (vector, "types"),
        (sample_deviation, "finite"),
        (product_of_ratios, "finite"),
        (safe_only_outside, "finite"),
        (mean_over_padding, "padding placement"),
        (gradient_where_masked, "padding placement all-masked junk"),
        (weight_by_slot, "placement"),
        (weight_by_group, "prompt-order"),
        (first_is_baseline, "completion-order"),
        (cotangent_ignored, "split"),
        (constant_without_tokens, "all-masked"),
        (mask_by_multiplication, "junk"),
        (inexact_mean, "equal-rewards"),
        (gradient_of_old, "constants"),
        (gradient_of_rewards, "constants"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_loss_is_found_out(function, rules):
  assert rules_broken(stateless(function)) == set(rules.split())


def with_state(init, update, metrics=lambda state, batch: {}):
  """A sound loss with a state of its own."""

  def loss(hparams, state, batch):
    new = update(state, batch)
    return mean(batch, clipped(batch)), new, metrics(state, batch)

  return algorithm(loss, init)


def keep(state, batch):
  return state


COUNT = itertools.count()
BROKEN_STATES = {
    "another key": (
        "types",
        lambda h: {"a": 1.0},
        lambda state, batch: {"b": state["a"]},
    ),
    "another shape": (
        "types",
        lambda h: {"a": 1.0},
        lambda state, batch: {"a": state["a"] + batch.history_pass_rate},
    ),
    "nested": ("types", lambda h: {"a": {"b": 1.0}}, keep),
    "a list": ("types", lambda h: [1.0], keep),
    "moved by nothing": (
        "all-masked",
        lambda h: {"a": 1.0},
        lambda state, batch: {"a": 0.5 * state["a"]},
    ),
    "never the same": ("state", lambda h: {"a": float(next(COUNT))}, keep),
    "numpy cannot store it": (
        "state",
        lambda h: {"a": jnp.asarray(1.0, jnp.bfloat16)},
        keep,
    ),
}


@pytest.mark.parametrize("name", BROKEN_STATES)
def test_a_broken_state_is_found_out(name):
  rule, init, update = BROKEN_STATES[name]
  assert rules_broken(with_state(init, update)) == {rule}


def test_a_state_that_dies_after_a_failed_batch_is_found_out():
  broken = with_state(
      lambda hparams: {"rate": 1.0},
      lambda state, batch: {"rate": jnp.mean(batch.correct)},
      lambda state, batch: {"inverse": 1.0 / state["rate"]},
  )
  found = properties.check(broken, only=["finite"])
  # The first after a batch, of any kind, in which nothing succeeded.
  where = [violation.where for violation in found]
  assert where == ["all pass", "one valid"]
  assert "metrics['inverse']" in found[0].message


def test_metrics_must_be_f32_scalars():
  counted = with_state(lambda h: {}, keep, lambda s, b: {"n": jnp.int32(3)})
  (found,) = properties.check(counted)
  assert found.rule == "types"
  assert found.message == "metrics['n'] is int32[], not float32[]"


def test_another_program_at_each_trace_is_found_out():
  traces = itertools.count()
  drawn = lambda state, batch: {"seed": jnp.float32(1e-9 * next(traces))}
  broken = with_state(lambda hparams: {}, keep, drawn)
  assert rules_broken(broken) == {"determinism"}


def test_another_result_at_each_call_is_found_out():
  calls = itertools.count()
  read = lambda: np.float32(next(calls))
  shape = jax.ShapeDtypeStruct((), np.float32)
  called = lambda state, batch: {"n": jax.pure_callback(read, shape)}
  broken = with_state(lambda hparams: {}, keep, called)
  assert "determinism" in rules_broken(broken)


def test_every_rule_is_seen_to_fail():
  marks = test_a_broken_loss_is_found_out.pytestmark
  seen = {"determinism", *(rule for rule, _, _ in BROKEN_STATES.values())}
  for _, rules in marks[0].args[1]:
    seen |= set(rules.split())
  assert seen == set(properties.RULES)
  assert all(text.endswith(".") for text in properties.RULES.values())


def test_a_violation_says_where_how_much_and_what_to_do():
  broken = stateless(mean_over_padding)
  found = properties.check(broken, only=["padding"])
  assert {violation.rule for violation in found} == {"padding"}
  text = str(found[0])
  assert text.startswith("padding (more padding): the loss changes by ")
  assert text.endswith("never by T; see `aggregation`.")
  # A third of 9 slots are new: the mean shrinks by a third.
  words = found[1].message.replace(",", "").split()
  change, size = float(words[6]), float(words[-1])
  np.testing.assert_allclose(change / size, 1 / 3, rtol=1e-2)


def test_the_tolerance_can_be_chosen():
  slot = lambda b: jnp.cumsum(jnp.ones_like(b.completion_mask), axis=2)
  broken = stateless(
      lambda b: mean(b, (1.0 + 1e-4 * slot(b)) * clipped(b)),
  )
  assert rules_broken(broken) == {"placement"}
  assert properties.check(broken, rtol=1e-2) == ()


def test_a_loss_may_be_bound_to_a_group_size():
  weights = np.arange(8.0, dtype=np.float32) / 28.0

  def bound(batch):
    best = jnp.sort(batch.rewards, axis=1) @ weights
    return mean(batch, clipped(batch, batch.rewards - best[:, None]))

  frozen = lambda b: bound(
      dataclasses.replace(b, rewards=jax.lax.stop_gradient(b.rewards))
  )
  assert properties.check(stateless(frozen), group_size=8) == ()
  with pytest.raises(TypeError, match="contracting"):
    properties.check(stateless(frozen))
  slopes = properties.slopes(stateless(frozen), group_size=8)
  np.testing.assert_allclose(slopes.low_good, 0.5, rtol=1e-5)


def test_too_small_a_group_is_refused():
  with pytest.raises(ValueError, match="must be at least 3, got 2; groups of"):
    properties.check(catalog.make("grpo"), group_size=2)


def test_a_loss_from_an_artifact_can_be_checked():
  data = tracing.trace(catalog.source("grpo"), limits.Limits(), group_size=8)
  loaded = artifact.load(data, "loaded")
  assert properties.check(loaded) == ()
  ours, its = (properties.slopes(a) for a in (catalog.make("grpo"), loaded))
  np.testing.assert_allclose(
      dataclasses.astuple(its), dataclasses.astuple(ours), rtol=1e-5
  )


def test_an_unknown_rule_is_refused():
  with pytest.raises(ValueError, match=r"got \['paddin'\]; there are: types,"):
    properties.check(catalog.make("grpo"), only=["paddin"])


def test_what_is_raised_on_another_shape_is_a_violation():
  def short(batch):
    if batch.logprobs.shape[2] > 6:
      raise ValueError("at most six tokens")
    return mean(batch, clipped(batch))

  found = properties.check(stateless(short))
  assert [violation.rule for violation in found] == ["padding", "placement"]
  assert found[0].message == "it raised ValueError: at most six tokens"


def test_groups_of_one_may_be_refused_but_not_spoiled():
  def pairs(batch):
    if batch.rewards.shape[1] < 2:
      raise ValueError("needs two completions")
    return mean(batch, clipped(batch))

  assert properties.check(stateless(pairs), only=["finite"]) == ()
  found = properties.check(stateless(sample_deviation))
  assert [violation.where for violation in found] == ["groups of one"]


def test_what_is_raised_on_every_batch_is_raised():
  def loss(hparams, state, batch):
    return hparams["absent"], state, {}

  with pytest.raises(KeyError, match="absent"):
    properties.check(algorithm(loss))


def test_nan_everywhere_is_reported_once():
  broken = stateless(lambda b: mean(b, clipped(b)) * jnp.nan)
  (found,) = properties.check(broken)
  assert (found.rule, found.where) == ("finite", "off-policy batch")
