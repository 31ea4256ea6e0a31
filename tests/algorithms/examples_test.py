"""The example batches are what they claim to be."""

import jax
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import examples

POLICY_FIELDS = (
    "logprobs",
    "old_logprobs",
    "sampler_logprobs",
    "ref_logprobs",
)


def everything(group_size):
  return examples.edges(group_size) | {
      "off-policy": examples.off_policy(group_size),
      "on-policy": examples.on_policy(group_size),
      "equal": examples.equal_rewards(1000.1, group_size),
      "groups of one": examples.groups_of_one(),
      "without tokens": examples.without_tokens(group_size),
  }


@pytest.mark.parametrize("group_size", [2, 3, 7, 8])
def test_all_batches_are_well_formed(group_size):
  for name, fields in everything(group_size).items():
    batch = types.RolloutBatch(**jax.tree.map(jax.numpy.asarray, fields))
    size = 1 if name == "groups of one" else group_size
    assert batch.completion_mask.shape == (4, size, 6)
    assert batch.reward_components.shape == (4, size, 2)
    mask = fields["completion_mask"]
    for key in examples.TOKEN_FIELDS:
      np.testing.assert_array_equal(fields[key][mask == 0], 0.0)
    for key in POLICY_FIELDS:
      assert np.all(fields[key][mask > 0] < 0)
    np.testing.assert_array_equal(fields["lengths"], mask.sum(axis=2))
    dtypes = {key: value.dtype.name for key, value in fields.items()}
    assert dtypes.pop("step") == "int32"
    assert set(dtypes.values()) == {"float32"}
    assert np.all(fields["correct"] <= fields["format_valid"])


def test_the_ordinary_batch_has_all_kinds_of_groups():
  fields = examples.off_policy()
  np.testing.assert_array_equal(fields["correct"].sum(axis=1), [3, 0, 7, 1])
  np.testing.assert_array_equal(
      fields["format_valid"].sum(axis=1), [6, 6, 7, 4]
  )
  assert set(np.unique(fields["lengths"])) == {1, 2, 3, 4, 5, 6}
  live = fields["completion_mask"] > 0
  for key in POLICY_FIELDS[1:]:
    assert np.all((fields[key] != fields["logprobs"])[live])


def test_the_on_policy_batch():
  fields = examples.on_policy()
  np.testing.assert_array_equal(fields["correct"].sum(axis=1), 3)
  np.testing.assert_array_equal(fields["completion_mask"], 1)
  for key in POLICY_FIELDS[1:]:
    np.testing.assert_array_equal(fields[key], fields["logprobs"])
  # A policy twice as likely is still a policy.
  assert np.all(fields["logprobs"] + np.log(2) < 0)


def test_the_edges():
  edges = examples.edges()
  assert np.any(edges["empty completions"]["lengths"] == 0)
  np.testing.assert_array_equal(edges["one token each"]["lengths"], 1)
  far = edges["log-ratios of 30"]
  ratios = far["logprobs"] - far["old_logprobs"]
  np.testing.assert_array_equal(np.abs(ratios), 30)
  # Whole completions on either side, and both signs in one.
  totals = set(np.unique(ratios.sum(axis=2)))
  assert totals == {-180, 0, 180}
  sampler = edges["sampler off by 30"]
  np.testing.assert_array_equal(sampler["logprobs"], sampler["old_logprobs"])
  difference = sampler["old_logprobs"] - sampler["sampler_logprobs"]
  np.testing.assert_array_equal(np.abs(difference), 30)


@pytest.mark.parametrize("move", [examples.padded, examples.placed])
def test_moved_rows_hold_the_same_tokens_in_the_same_order(move):
  fields = examples.off_policy()
  wide, slots = move(fields)
  assert wide["logprobs"].shape == (4, 7, examples.WIDTH)
  assert np.all(np.diff(slots, axis=2) > 0)
  for key in (*examples.TOKEN_FIELDS, "completion_mask"):
    back = np.take_along_axis(wide[key], slots, axis=2)
    np.testing.assert_array_equal(back, fields[key])
    assert np.count_nonzero(wide[key]) == np.count_nonzero(fields[key])
  np.testing.assert_array_equal(wide["rewards"], fields["rewards"])


def test_placed_rows_have_padding_before_and_between():
  wide, _ = examples.placed(examples.off_policy())
  steps = np.diff(wide["completion_mask"], axis=2)
  assert np.any(wide["completion_mask"][..., 0] == 0)
  # A hole starts, and tokens follow.
  assert np.any((steps < 0).argmax(axis=2) < examples.WIDTH - 2)
  assert np.any((steps > 0).sum(axis=2) > 1)


def test_reordered():
  fields = examples.off_policy()
  rows = np.stack([np.roll(np.arange(7), shift) for shift in range(4)])
  turned = examples.reordered(fields, np.array([2, 0, 3, 1]), rows)
  # The second group is the former first, shifted by one.
  for key in ("logprobs", "rewards", "reward_components"):
    expected = np.roll(fields[key][0], 1, axis=0)
    np.testing.assert_array_equal(turned[key][1], expected)
  assert turned["history_pass_rate"][1] == fields["history_pass_rate"][0]
  assert turned["step"] == fields["step"]


def test_junk_stands_in_masked_slots_alone():
  fields = examples.off_policy()
  masked = fields["completion_mask"] == 0
  dirty = examples.with_junk(fields, np.nan)
  for key in examples.TOKEN_FIELDS:
    np.testing.assert_array_equal(np.isnan(dirty[key]), masked)
    np.testing.assert_array_equal(dirty[key][~masked], fields[key][~masked])
  np.testing.assert_array_equal(dirty["completion_mask"], ~masked)


def test_the_policy_gives_log_probabilities_and_entropy():
  fields = examples.off_policy()
  features, tokens, mask = examples.policy_rows(fields)
  weights = examples.initial_weights()
  logprobs, entropy = examples.policy(weights, (features, tokens, mask))
  logits = np.einsum("pgtf,fv->pgtv", *map(np.float64, (features, weights)))
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=3, keepdims=True)
  chosen = (probabilities * tokens).sum(axis=3)
  expected = -(probabilities * np.log(probabilities)).sum(axis=3)
  np.testing.assert_allclose(logprobs, np.log(chosen) * mask, rtol=1e-5)
  np.testing.assert_allclose(entropy, expected * mask, rtol=1e-5)


def test_the_policy_writes_a_batch_with_the_same_drift():
  fields = examples.off_policy()
  written = examples.written_by_policy(fields)
  assert not np.array_equal(written["logprobs"], fields["logprobs"])
  for key in POLICY_FIELDS[1:]:
    np.testing.assert_allclose(
        written[key] - written["logprobs"],
        fields[key] - fields["logprobs"],
        atol=1e-6,
    )


def test_parts_pull_back_to_the_sum_over_tokens():
  rows = examples.policy_rows(examples.off_policy())
  weights = examples.initial_weights()
  cotangents = (np.float32(rows[2] * 0.5), np.float32(rows[2] * -2.0))

  def total(weights):
    logprobs, entropy = examples.policy(weights, rows)
    return (0.5 * logprobs - 2.0 * entropy).sum()

  expected = jax.grad(total)(weights)
  for size in (1, 3, 4):
    got = examples.accumulated(weights, rows, cotangents, size)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
