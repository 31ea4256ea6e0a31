"""The batches are consistent and reach what their names promise."""

import dataclasses

import numpy as np
import pytest

from poise_jax.candidates import probes
from poise_jax.tasks import arithmetic


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def test_all_have_one_shape_and_finite_fields(suite):
  shapes = set()
  for batch in suite.values():
    fields = {
        f.name: np.asarray(getattr(batch, f.name))
        for f in dataclasses.fields(batch)
    }
    shapes.add(tuple((k, v.shape, v.dtype.name) for k, v in fields.items()))
    assert all(np.all(np.isfinite(v)) for v in fields.values())
  assert len(shapes) == 1


def test_fields_agree_with_each_other(suite):
  for name, batch in suite.items():
    mask = np.asarray(batch.completion_mask)
    np.testing.assert_array_equal(mask.sum(axis=2), batch.lengths, name)
    for field in ("logprobs", "old_logprobs", "ref_logprobs", "entropy"):
      values = np.asarray(getattr(batch, field))
      assert not np.any(values[mask == 0]), (name, field)
    assert np.all(np.asarray(batch.logprobs) <= 0)
    streams = np.asarray(batch.reward_components)
    np.testing.assert_array_equal(streams[..., 0], batch.correct)
    np.testing.assert_array_equal(streams[..., 1], batch.format_valid)
    assert np.all(np.asarray(batch.correct) <= np.asarray(batch.format_valid))


def test_groups_are_what_the_names_say(suite):
  passed = {k: np.asarray(b.correct).sum(axis=1) for k, b in suite.items()}
  valid = {k: np.asarray(b.format_valid).sum(axis=1) for k, b in suite.items()}
  assert passed["mixed"][0] == 1 and np.all(passed["mixed"] < 8)
  assert np.all(passed["all_fail"] == 0) and np.all(valid["all_fail"] == 8)
  assert np.all(passed["all_pass"] == 8)
  assert np.all(valid["all_invalid"] == 0)
  assert np.all(valid["one_valid"] == 1) and np.all(passed["one_valid"] == 1)
  assert np.asarray(suite["truncated"].truncated).sum() == 16
  assert np.asarray(suite["padded"].lengths).min() == 0
  assert np.asarray(suite["padded"].lengths).max() == probes.TOKENS
  assert not np.any(suite["all_masked"].completion_mask)


def test_ratios_reach_both_sides_of_the_clip(suite):
  batch = suite["off_policy"]
  ratio = np.exp(np.asarray(batch.logprobs) - np.asarray(batch.old_logprobs))
  for low, high in (
      (0, 0.79),
      (0.79, 0.81),
      (0.81, 1.19),
      (1.19, 1.21),
      (2, 9),
  ):
    assert np.any((ratio >= low) & (ratio <= high)), (low, high)
  assert np.all(np.asarray(suite["mixed"].staleness) == 0)
  assert np.all(np.asarray(batch.staleness) > 0)


def test_others_policies_are_as_far_as_the_names_say(suite):
  """Upwards less far: nothing is more likely than certain."""
  away = lambda name, field: (
      np.asarray(getattr(suite[name], field)) - suite[name].logprobs
  )
  ratio = np.exp(-away("near_clip", "old_logprobs"))
  assert ratio.min() == pytest.approx(0.5, rel=0.05)
  assert ratio.max() == pytest.approx(2.0, rel=1e-5)
  reference = away("far_reference", "ref_logprobs")
  assert reference.min() == pytest.approx(-6.0, rel=0.05)
  mismatch = away("mismatch", "sampler_logprobs")
  assert mismatch.min() == pytest.approx(-np.log(8.0), rel=0.05)
  stale = suite["stale"]
  assert np.all(np.asarray(stale.staleness) > 0)
  drift = np.abs(away("stale", "old_logprobs")).mean(axis=(0, 1))
  assert drift[0] == 0 and drift.max() > 0.05


def test_rewards_are_what_the_names_say(suite):
  spread = np.asarray(suite["small_spread"].rewards).std(axis=1)
  assert np.all(0 < spread) and np.all(spread < 0.1)
  assert np.asarray(suite["streams"].rewards).min() < 0
  assert np.all(np.asarray(suite["failed_streams"].correct) == 0)
  assert np.all(np.asarray(suite["solved_streams"].correct) == 1)
  # Brevity tells apart what correctness does not.
  for name in ("failed_streams", "solved_streams"):
    assert np.all(np.asarray(suite[name].rewards).std(axis=1) > 0)
  assert np.asarray(suite["lone_success"].correct).sum() == 1
  entropy = {
      k: float(np.asarray(suite[k].entropy).mean())
      for k in ("surer", "sure", "mixed", "unsure")
  }
  assert sorted(entropy, key=entropy.get) == list(entropy)
  assert [float(suite[k].progress) for k in ("unsure", "surer")] == (
      pytest.approx([0.0, 0.995])
  )


def test_names_and_order_stand(suite):
  """States are carried from one to the next, so the order is what it is."""
  names = (
      "mixed off_policy all_fail all_pass all_invalid one_valid truncated"
      " padded all_masked some_invalid near_clip far_reference mismatch stale"
      " small_spread streams failed_streams solved_streams lone_success sure"
      " surer unsure large_rewards run_0 run_1 run_2 run_3 run_4 run_5 run_6"
      " run_7 run_8 run_9"
  )
  assert list(suite) == names.split()


def test_other_sizes():
  batch = probes.suite(2, 3, 5, 3)["streams"]
  assert batch.logprobs.shape == (2, 3, 5)
  assert batch.reward_components.shape == (2, 3, 3)
  # The third stream is brevity.
  brief = 1.0 - np.asarray(batch.lengths) / 5
  np.testing.assert_allclose(batch.reward_components[..., 2], brief, atol=1e-6)


def test_numbers_that_a_loss_may_turn_on_are_ladders(suite):
  assert probes.TOKENS >= arithmetic.COMPLETION_LENGTH
  lengths = np.asarray(suite["mixed"].lengths)
  assert set(lengths.ravel()) == set(range(1, probes.TOKENS + 1))
  # Short and long ones in every group.
  assert np.all(np.ptp(lengths, axis=1) > 16)
  for name in ("off_policy", "padded", "near_clip", "stale", "run_3"):
    ages = set(np.asarray(suite[name].staleness).ravel())
    assert set(range(1, 17)) <= ages and max(ages) == 64, name
  large = np.sort(np.abs(np.asarray(suite["large_rewards"].rewards)).ravel())
  assert large[-1] == 8.0 and np.max(np.diff(large)) < 0.5
  rates = [np.asarray(b.history_pass_rate) for b in suite.values()]
  assert np.max(np.diff(np.sort(np.concatenate(rates)))) < 0.05


def test_each_has_its_own_moment_of_the_run(suite):
  progress = [float(b.progress) for b in suite.values()]
  steps = [int(b.step) for b in suite.values()]
  assert len(set(progress)) == len(suite)
  # The usual first step is that of two.
  assert len(set(steps)) == len(suite) - 1
  assert 0.0 <= min(progress) and max(progress) < 1.0
  # Those that have something of everything reach all of the run, and what is
  # late by progress is not what is late by steps.
  runs = [b for name, b in suite.items() if name.startswith("run_")]
  times = np.sort([0.0, *(float(b.progress) for b in runs), 1.0])
  assert np.max(np.diff(times)) < 0.16
  powers = np.sort(np.log10([float(b.step) for b in runs]))
  assert powers[0] < 1.0 and powers[-1] > 4.0 and np.max(np.diff(powers)) < 0.6
  order = np.corrcoef(
      [float(b.progress) for b in runs], [int(b.step) for b in runs]
  )
  assert abs(order[0, 1]) < 0.5


def test_another_suite_has_other_sizes():
  batch = probes.other_suite()["mixed"]
  prompts, group_size, tokens = batch.logprobs.shape
  usual = (probes.PROMPTS, probes.GROUP_SIZE, probes.TOKENS)
  assert not {prompts, group_size, tokens} & set(usual)
  lengths = np.asarray(batch.lengths)
  assert lengths.min() == 1 and lengths.max() == tokens > 2000
  assert np.sum(lengths < 100) >= 3
  fixed = probes.other_suite({"G": 8, "K": 2})["run_0"]
  assert fixed.reward_components.shape == (prompts, 8, 2)
