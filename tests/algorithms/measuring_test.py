"""What is measured, and how two results are compared."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    catalog,
    measuring,
    ratios,
    surrogates,
)


def stateless(function):
  """An algorithm from a function of the batch."""

  def loss(hparams, state, batch):
    return function(batch), state, {}

  return types.Algorithm("own", {}, lambda hparams: {}, loss)


def mean(batch, values):
  return aggregation.token_mean(values, batch.completion_mask)


def clipped(batch, adv):
  ratio = ratios.token_ratio(
      batch.logprobs, batch.old_logprobs, batch.completion_mask
  )
  return surrogates.clipped(ratio, adv, clip_eps_low=0.2, clip_eps_high=0.2)


def total(batch):
  """Weighs each token by its old log-probability: slopes known by hand."""
  live = batch.completion_mask > 0
  return jnp.sum(jnp.where(live, batch.logprobs * batch.old_logprobs, 0.0))


def counting():
  """A state that counts, and shows in the loss."""

  def loss(hparams, state, batch):
    count = state["count"] + hparams["by"]
    return count * total(batch), {"count": count}, {"before": state["count"]}

  return types.Algorithm("own", {"by": 2}, lambda hparams: {"count": 1}, loss)


def test_moved_state():
  before = {"same": np.float32(1), "other": np.float32(0.5)}
  after = before | {"other": np.float32(0.75)}
  assert list(measuring.moved_state(before, before)) == []
  (message,) = measuring.moved_state(before, after)
  assert message == "state['other'] was 0.5, and is 0.75"


def test_a_run_gives_value_gradients_state_and_metrics():
  algorithm = counting()._replace(init=lambda hparams: {"count": 1.0})
  subject = measuring.Subject(algorithm, group_size=7)
  fields = subject.fields
  result = subject.run(fields, subject.start)
  expected = np.sum(fields["logprobs"] * fields["old_logprobs"])
  np.testing.assert_allclose(result.loss, 3.0 * expected, rtol=1e-5)
  np.testing.assert_allclose(
      result.grads["logprobs"], 3.0 * fields["old_logprobs"], rtol=1e-5
  )
  np.testing.assert_allclose(
      result.grads["old_logprobs"], 3.0 * fields["logprobs"], rtol=1e-5
  )
  np.testing.assert_array_equal(result.grads["entropy"], 0.0)
  assert (result.state["count"], result.metrics["before"]) == (3.0, 1.0)
  # The state in use has seen one batch.
  assert subject.state["count"] == 3.0
  assert subject.expected.metrics["before"] == 3.0
  assert [name for name, _ in result.parts()] == [
      "the loss",
      "the gradient of logprobs",
      "the gradient of entropy",
      "state['count']",
      "metrics['before']",
  ]


def result(loss=1.0, slope=1.0, metric=0.0):
  slopes = np.full((1, 1, 2), slope, np.float32)
  return measuring.Result(
      np.asarray(loss, np.float32),
      {"logprobs": slopes, "entropy": 0 * slopes},
      {},
      {"m": np.asarray(metric, np.float32)},
  )


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"loss": 1.0001}, []),
        ({"loss": 1.01}, ["the loss"]),
        ({"slope": 1.0001}, []),
        ({"slope": 1.01}, ["the gradient of logprobs"]),
        ({"metric": 9e-7}, []),
        ({"metric": 2e-6}, ["metrics['m']"]),
        ({"loss": np.nan}, ["the loss"]),
    ],
)
def test_changes_are_more_than_rounding(changed, names):
  subject = measuring.Subject(counting(), group_size=3, rtol=1e-3)
  found = list(subject.changes(result(), result(**changed)))
  assert [text.split(" changes by ")[0] for text in found] == names


def test_a_loss_near_0_is_judged_by_its_slopes():
  subject = measuring.Subject(counting(), group_size=3, rtol=1e-3)
  # Two slopes of 1 and a tolerance of a thousandth: up to 0.002.
  assert not list(subject.changes(result(loss=0.0), result(loss=0.0019)))
  (text,) = subject.changes(result(loss=0.0), result(loss=0.0021))
  assert text == "the loss changes by 0.0021, its size is 0"


def test_changed_bits():
  assert not list(measuring.changed_bits(result(), result()))
  nan = result(loss=np.nan)
  assert not list(measuring.changed_bits(nan, nan))
  (text,) = measuring.changed_bits(result(), result(loss=1.0000001))
  assert text.startswith("the loss changes by 1.19e-07,")


def test_masked_slopes():
  fields = {"completion_mask": np.float32([[[1, 0]]])}
  (text,) = measuring.masked_slopes(result(slope=-0.5), fields)
  assert text == "masked tokens get a gradient of logprobs, up to 0.5"
  text, _ = measuring.masked_slopes(result(slope=np.nan), fields)
  assert text.endswith("up to nan")
  live = {"completion_mask": np.float32([[[1, 1]]])}
  assert not list(measuring.masked_slopes(result(), live))


def test_the_traced_program_tells_two_losses_apart():
  one, same, other = (
      measuring.Subject(stateless(f), group_size=3).traced()
      for f in (total, total, lambda batch: 2.0 * total(batch))
  )
  assert one == same != other


def test_kind():
  assert measuring.kind(jnp.zeros((4, 7))) == "float32[4,7]"
  assert measuring.kind(np.int32(3)) == "int32[]"
  assert measuring.kind({}) == "dict"


close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
# Three of seven succeed: deviation sqrt(3 * 4) / 7.
DEVIATION = 12**0.5 / 7


def cells(slopes):
  return (slopes.low_good, slopes.low_bad, slopes.high_good, slopes.high_bad)


def test_slopes_of_the_ppo_clip():
  slopes = measuring.slopes(catalog.make("grpo"))
  close(cells(slopes), (0.5, 0, 0, 1.5))
  close(slopes.unit_slope, 1.0)
  assert slopes.raises_good is True


def test_slopes_of_reinforce():
  adv = lambda b: advantages.group_centered(b.rewards)[..., None]
  slopes = measuring.slopes(stateless(lambda b: -mean(b, adv(b) * b.logprobs)))
  close(cells(slopes), (1, 1, 1, 1))
  # |A| is the deviation times |z|.
  close(slopes.unit_slope, DEVIATION)


def test_slopes_see_sequence_ratios():
  def product(batch):
    difference = batch.logprobs - batch.old_logprobs
    ratio = jnp.exp(jnp.sum(difference, axis=2))
    adv = advantages.group_normalized(batch.rewards)
    return -jnp.mean(ratio * adv)

  slopes = measuring.slopes(stateless(product))
  # Six tokens: 0.5^6 and 1.5^6.
  close(cells(slopes), (1 / 64, 1 / 64, 11.390625, 11.390625))
  # Each of the six has the slope of the completion.
  close(slopes.unit_slope, 6.0)


def test_slopes_of_the_canaries():
  flipped = measuring.slopes(catalog.make("sign_flipped"))
  close(cells(flipped), (0, 0.5, 1.5, 0))
  assert flipped.raises_good is False
  nothing = measuring.slopes(catalog.make("zero_gradient"))
  assert nothing == measuring.Slopes(None, None, None, None, None, None)


def test_slopes_of_a_loss_that_only_raises():
  only = lambda b: jnp.maximum(advantages.group_centered(b.rewards), 0.0)
  slopes = measuring.slopes(stateless(lambda b: mean(b, clipped(b, only(b)))))
  assert (slopes.low_bad, slopes.high_bad) == (None, None)
  close((slopes.low_good, slopes.high_good), (0.5, 0.0))
  # The failed completions have the other half of Σ|A|.
  close(slopes.unit_slope, DEVIATION / 2)
  assert slopes.raises_good is True


@pytest.mark.parametrize("group_size", [3, 7, 8, 16])
def test_slopes_at_other_group_sizes(group_size):
  slopes = measuring.slopes(catalog.make("grpo"), group_size=group_size)
  close(cells(slopes), (0.5, 0, 0, 1.5))
  close(slopes.unit_slope, 1.0)


def test_too_small_a_group_is_refused():
  with pytest.raises(ValueError, match="must be at least 3, got 2; groups of"):
    measuring.Subject(counting(), group_size=2)
