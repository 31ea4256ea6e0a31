"""Metrics are those of the whole, however it is split; and never NaN."""

import dataclasses
import os
import subprocess
import sys
import types as builtin

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.rollout import scoring
from poise_jax.training import metrics

P, G, T, K = 6, 4, 5, 3

measure = jax.jit(metrics.rollout_metrics)
measure_policy = jax.jit(metrics.policy_metrics)
measure_gap = jax.jit(metrics.mismatch_metrics)


def make_batch(seed=0, prompts=P, **changes):
  """A random batch; group 0 is all wrong, group 1 all right."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, T + 1, (prompts, G))
  mask = (np.arange(T) < lengths[..., None]).astype(np.float64)
  correct = rng.integers(0, 2, (prompts, G)).astype(np.float64)
  correct[0], correct[1] = 0, 1
  old = -rng.exponential(1.0, (prompts, G, T)) * mask
  near = lambda scale: (old + rng.normal(0, scale, old.shape)) * mask
  arrays = {
      "logprobs": near(0.3),
      "entropy": rng.uniform(0, 2, old.shape) * mask,
      "old_logprobs": old,
      "sampler_logprobs": near(0.1),
      "ref_logprobs": near(0.5),
      "completion_mask": mask,
      "rewards": correct,
      "correct": correct,
      "format_valid": np.maximum(correct, rng.integers(0, 2, correct.shape)),
      "truncated": (lengths == T) * 1.0,
      "lengths": lengths * 1.0,
      "staleness": np.zeros(correct.shape),
      "reward_components": rng.normal(1, 0.5, (*correct.shape, K)),
      "history_pass_rate": np.full(prompts, 0.5),
      "progress": np.float64(0),
  }
  arrays = {k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()}
  batch = types.RolloutBatch(**arrays, step=jnp.int32(0))
  return dataclasses.replace(batch, **changes)


def cut(batch, start, stop):
  return jax.tree.map(lambda x: x[start:stop] if x.ndim else x, batch)


def all_metrics(batch):
  gap = measure_gap(batch, batch.old_logprobs)
  return measure(batch) | measure_policy(batch) | gap


@pytest.fixture(scope="module")
def batch():
  return make_batch()


@pytest.fixture(scope="module")
def whole(batch):
  return metrics.values(all_metrics(batch))


def by_hand(batch):
  """The same in numpy, double precision, straight from the definitions."""
  fields = dataclasses.asdict(batch).items()
  b = builtin.SimpleNamespace(**{k: np.asarray(v, "f8") for k, v in fields})
  live = b.completion_mask > 0
  ended = b.lengths[b.truncated == 0]
  gap = (b.old_logprobs - b.sampler_logprobs)[live]
  to_ref = (b.ref_logprobs - b.logprobs)[live]
  passes, spread = b.correct.mean(1), b.rewards.std(1)
  expected = {
      "reward": b.rewards.mean(),
      "reward_std": spread.mean(),
      "frac_reward_zero_std": (spread == 0).mean(),
      "frac_groups_all_pass": (passes == 1).mean(),
      "frac_groups_all_fail": (passes == 0).mean(),
      "frac_invalid": (b.format_valid == 0).mean(),
      "valid_rate": b.format_valid.mean(),
      "effective_tokens": b.lengths[spread > 0].sum(),
      "num_tokens": b.lengths.sum(),
      "completions/mean_length": b.lengths.mean(),
      "completions/min_length": b.lengths.min(),
      "completions/max_length": b.lengths.max(),
      "completions/mean_terminated_length": ended.mean(),
      "completions/min_terminated_length": ended.min(),
      "completions/max_terminated_length": ended.max(),
      "completions/clipped_ratio": b.truncated.mean(),
      "sampling/sampling_logp_difference/mean": np.abs(gap).mean(),
      "sampling/sampling_logp_difference/max": np.abs(gap).max(),
      "sampling/importance_sampling_ratio/mean": np.exp(gap).mean(),
      "sampling/importance_sampling_ratio/min": np.exp(gap).min(),
      "sampling/importance_sampling_ratio/max": np.exp(gap).max(),
      "mismatch/k3": (np.exp(gap) - 1 - gap).mean(),
      "mismatch/abs_mean": np.abs(gap).mean(),
      "mismatch/abs_max": np.abs(gap).max(),
      "entropy": b.entropy[live].mean(),
      "kl": (np.exp(to_ref) - 1 - to_ref).mean(),
      "ratio/mean_abs_log": np.abs(b.logprobs - b.old_logprobs)[live].mean(),
  }
  names = ("correct", "format_valid", "component_2")
  for k, name in enumerate(names[: b.reward_components.shape[-1]]):
    stream = b.reward_components[..., k]
    expected[f"rewards/{name}/mean"] = stream.mean()
    expected[f"rewards/{name}/std"] = stream.std(ddof=1)
  return expected


def assert_equal(found, expected, rtol=1e-6):
  assert set(found) == set(expected)
  for name, number in expected.items():
    np.testing.assert_allclose(
        found[name], number, rtol=rtol, atol=1e-7, err_msg=name
    )


def test_every_metric_is_what_its_name_says(batch, whole):
  assert_equal(whole, by_hand(batch), rtol=1e-5)
  # No two of them hide behind a shared constant.
  assert 0 < whole["frac_invalid"] < 1 and 0 < whole["mismatch/k3"] < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_any_split_along_prompts_combines_to_the_whole(seed):
  batch = make_batch(seed)
  rng = np.random.default_rng(seed)
  cuts = np.sort(rng.choice(np.arange(1, P), rng.integers(1, P), False))
  edges = [0, *cuts.tolist(), P]
  parts = [
      all_metrics(cut(batch, a, b)) for a, b in zip(edges, edges[1:])  # noqa: B905
  ]
  rng.shuffle(parts)
  assert len(parts) > 1
  expected = metrics.values(all_metrics(batch))
  assert_equal(metrics.values(metrics.combine(parts)), expected)


def test_the_mean_of_means_would_have_been_wrong(batch, whole):
  # The test above can fail: parts differ, in size and in value.
  parts = [cut(batch, 0, 1), cut(batch, 1, P)]
  means = [metrics.values(measure(part))["reward"] for part in parts]
  assert abs(np.mean(means) - whole["reward"]) > 0.1


def test_parts_are_added_on_the_device_too(batch, whole):
  @jax.jit
  def in_two(batch):
    halves = [cut(batch, 0, P // 2), cut(batch, P // 2, P)]
    first, second = map(metrics.rollout_metrics, halves)
    return {name: metrics.add(first[name], second[name]) for name in first}

  found = metrics.values(in_two(batch))
  assert_equal(found, {name: whole[name] for name in found})


_SHARDED = """
import jax, sys
from jax.sharding import Mesh, NamedSharding, PartitionSpec
sys.path.insert(0, {folder!r})
import metrics_test as t
assert jax.device_count() == 8
batch = t.make_batch(3, prompts=16)
alone = t.metrics.values(t.all_metrics(batch))
mesh = Mesh(jax.devices(), ("data",))
place = lambda x: jax.device_put(
    x, NamedSharding(mesh, PartitionSpec("data" if x.ndim else None))
    if x.ndim else NamedSharding(mesh, PartitionSpec()))
sharded = jax.tree.map(place, batch)
assert len(sharded.rewards.addressable_shards) == 8
found = t.metrics.values(t.all_metrics(sharded))
t.assert_equal(found, alone)
"""


def test_shards_on_eight_devices_give_the_same():
  environment = os.environ | {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": (
          f"{os.environ['XLA_FLAGS']}"
          " --xla_force_host_platform_device_count=8"
      ),
  }
  program = _SHARDED.format(folder=os.path.dirname(__file__))
  child = subprocess.run(
      [sys.executable, "-c", program],
      env=environment,
      capture_output=True,
      text=True,
      check=False,
  )
  assert child.returncode == 0, child.stderr


def test_no_host_sync_is_needed_to_measure(batch):
  # Tracing fails wherever a value is read.
  jax.eval_shape(metrics.rollout_metrics, batch)
  jax.eval_shape(metrics.policy_metrics, batch)


def _finite(found):
  assert all(np.isfinite(number) for number in found.values()), found


def test_all_truncated_has_no_terminated_length():
  found = metrics.values(all_metrics(make_batch(truncated=jnp.ones((P, G)))))
  _finite(found)
  assert found["completions/clipped_ratio"] == 1.0
  assert not [name for name in found if "terminated" in name]


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf, -np.inf])
def test_all_masked_is_absent_and_not_nan(garbage):
  junk = jnp.full((P, G, T), garbage, jnp.float32)
  fields = ("logprobs", "entropy", "old_logprobs", "sampler_logprobs")
  batch = make_batch(
      completion_mask=jnp.zeros((P, G, T)),
      lengths=jnp.zeros((P, G)),
      ref_logprobs=junk,
      **dict.fromkeys(fields, junk),
  )
  found = metrics.values(all_metrics(batch))
  _finite(found)
  assert not [n for n in found if n.startswith(("mismatch", "sampling"))]
  assert not {"kl", "entropy", "ratio/mean_abs_log"} & set(found)
  assert found["num_tokens"] == found["completions/max_length"] == 0.0


def test_an_empty_completion_counts_as_a_length_of_zero(batch):
  mask = batch.completion_mask.at[2, 1].set(0.0)
  lengths = batch.lengths.at[2, 1].set(0.0)
  changed = dataclasses.replace(batch, completion_mask=mask, lengths=lengths)
  found = metrics.values(all_metrics(changed))
  _finite(found)
  assert found["completions/min_length"] == 0.0
  assert_equal(found, by_hand(changed), rtol=1e-5)


def test_policies_far_apart_give_large_numbers_and_not_infinity(batch):
  far = dataclasses.replace(
      batch,
      old_logprobs=jnp.full((P, G, T), -1e4),
      ref_logprobs=jnp.zeros((P, G, T)),
      logprobs=jnp.full((P, G, T), -1e4),
  )
  found = metrics.values(all_metrics(far))
  _finite(found)
  assert found["kl"] > 1e8
  assert found["mismatch/abs_max"] == 20.0


def test_nan_in_a_live_token_is_not_hidden(batch):
  logprobs = batch.logprobs.at[0, 0, 0].set(jnp.nan)
  changed = dataclasses.replace(batch, logprobs=logprobs)
  assert np.isnan(metrics.values(measure_policy(changed))["kl"])


def test_without_reference_there_is_no_kl(batch):
  found = metrics.policy_metrics(batch, has_reference=False)
  assert [float(x) for x in found["kl"]] == [0.0, 0.0]
  assert set(metrics.values(found)) == {"entropy", "ratio/mean_abs_log"}


def test_constant_rewards_have_no_spread_in_any_split():
  constant = jnp.full((P, G), 0.1)
  batch = make_batch(
      rewards=constant, reward_components=jnp.full((P, G, K), 0.1)
  )
  parts = [measure(cut(batch, i, i + 1)) for i in range(P)]
  found = metrics.values(metrics.combine(parts))
  assert found["frac_reward_zero_std"] == 1.0
  assert found["effective_tokens"] == 0.0
  assert found["rewards/correct/std"] == pytest.approx(0.0, abs=1e-7)


def test_one_completion_has_no_deviation():
  alone = metrics.Moments(1.0, 0.5, 0.0)
  assert metrics.value(alone) is None
  two = metrics.add(alone, metrics.Moments(1.0, 1.5, 0.0))
  assert metrics.value(two) == pytest.approx(np.std([0.5, 1.5], ddof=1))


def test_nothing_added_changes_nothing():
  nothing = metrics.Moments(0.0, 0.0, 0.0)
  something = metrics.Moments(3.0, 2.0, 5.0)
  assert metrics.add(nothing, something) == something
  assert metrics.add(something, nothing) == something
  assert metrics.add(nothing, nothing) == nothing
  assert metrics.value(metrics.Fraction(0.0, 0.0)) is None


def test_updates_that_lack_a_metric_do_not_dilute_it():
  updates = [{"a": metrics.Fraction(3.0, 4.0)}, {"b": metrics.Total(2.0)}]
  updates.append({"a": metrics.Fraction(1.0, 1.0)})
  assert metrics.values(metrics.combine(updates)) == {"a": 0.8, "b": 2.0}
  assert metrics.combine([]) == {}


def test_sums_of_many_updates_keep_every_token():
  # In f32, 2**24 + 1 is 2**24.
  parts = [{"n": metrics.Total(jnp.float32(2**24))}]
  parts += [{"n": metrics.Total(jnp.float32(1))}] * 3
  assert metrics.values(metrics.combine(parts)) == {"n": 2.0**24 + 3}


def test_parts_are_what_values_were_divided_of(batch, whole):
  halves = [metrics.parts(measure(cut(batch, *x))) for x in ((0, 2), (2, P))]
  assert halves[0].keys() == metrics.parts(measure(batch)).keys()
  total, count = np.sum([half["reward"] for half in halves], axis=0)
  assert (total / count, count) == (pytest.approx(whole["reward"]), P * G)
  moments = metrics.Moments(*map(jnp.float32, (2, 3, 4)))
  found = {"a": moments, "b": metrics.Fraction(1.0, 0.0)}
  broken = {"c": metrics.Fraction(np.nan, 2.0), "d": metrics.Total(1.0)}
  assert metrics.parts(found | broken | {"e": metrics.Lowest(1.0)}) == {
      "a": [2.0, 3.0, 4.0],
      "b": [1.0, 0.0],
  }


def test_kinds_do_not_mix():
  with pytest.raises(TypeError, match="same kind.*Fraction and Total"):
    metrics.add(metrics.Fraction(1.0, 1.0), metrics.Total(1.0))


def test_what_was_sampled_is_measured_like_a_batch(batch):
  """By the same names and numbers, but for spread, and in numpy."""
  parts = jnp.stack([batch.correct, batch.format_valid], -1)
  both = dataclasses.replace(batch, reward_components=parts)
  fields = (batch.correct, batch.format_valid, batch.truncated, batch.lengths)
  grades = scoring.Grades(*map(np.asarray, fields))
  found = metrics.sampled_metrics(grades)
  spread = {"reward_std", "frac_reward_zero_std", "effective_tokens"}
  assert set(found) == set(measure(both)) - spread
  expected = by_hand(both)
  assert_equal(
      metrics.values(found),
      {name: expected[name] for name in found},
      rtol=1e-12,
  )
  assert all(type(x) is float for metric in found.values() for x in metric)
  ended = scoring.Grades(*fields[:2], np.ones((P, G)), fields[3])
  left = metrics.values(metrics.sampled_metrics(ended))
  assert not [name for name in left if "terminated" in name]


def test_names_of_components_are_given_by_the_caller(batch):
  named = lambda batch: metrics.rollout_metrics(batch, ("a", "b", "c"))
  found = jax.eval_shape(named, batch)
  assert {"rewards/a/mean", "rewards/c/std"} <= set(found)
  with pytest.raises(ValueError, match="`components` must name no more"):
    metrics.rollout_metrics(batch, ("a", "b", "c", "d"))
