"""Rollout and update of a policy with random weights, timed."""

from collections.abc import Callable, Mapping, Sequence
import math
import statistics
import time
from typing import Any

import jax
import numpy as np

from poise_jax.benchmarks import timing, workloads
from poise_jax.rollout import generate
from poise_jax.training import throughput

# Bytes a second between a device and its memory, as the makers publish them.
_PEAK_BANDWIDTH = {
    "NVIDIA A100-SXM4-40GB": 1.555e12,
    "NVIDIA A100-SXM4-80GB": 2.039e12,
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H200": 4.8e12,
    "TPU v5 lite": 0.819e12,
    "TPU v5": 2.765e12,
    "TPU v6 lite": 1.64e12,
}


def run_rollout(
    some: Mapping[str, workloads.Workload], rounds: int
) -> dict[str, Any]:
  """Times sampling alone: in each round one workload after the other.

  Returns:
    Figures of the first, and for each other one under its name.
  """
  found, samples = {}, {}
  for name, workload in some.items():
    mesh = workloads.make_mesh(workload)
    begin = time.perf_counter()
    samples[name] = _make_sample(workload, mesh)
    tokens = float(np.sum(samples[name]().mask))
    first = time.perf_counter() - begin
    found[name] = {"first_seconds": first, "tokens": tokens}
  times = timing.measure(samples, rounds)
  for name, workload in some.items():
    median = statistics.median(times[name])
    found[name] |= {
        "rollout_seconds": median,
        "rollout_seconds_all": times[name],
        "tokens_per_second": found[name]["tokens"] / median,
    } | _share_of_bandwidth(workload, median, jax.devices())
  name, *others = found
  return (
      found[name]
      | {other: found[other] for other in others}
      | {"peak_memory_gib": timing.peak_memory_gib()}
  )


def _make_sample(
    workload: workloads.Workload, mesh: jax.sharding.Mesh
) -> Callable[[], generate.Completions]:
  graphdef, params, prompts = workloads.start(workload, mesh)
  run = workloads.make_rollout(workload, graphdef)

  def sample() -> generate.Completions:
    with workloads.in_mesh(mesh):
      return jax.block_until_ready(run(params, prompts, jax.random.key(0)))

  return sample


def run_train(workload: workloads.Workload, rounds: int) -> dict[str, Any]:
  """Times whole steps: rollout and update, each on the last one's policy."""
  begin = time.perf_counter()
  mesh = workloads.make_mesh(workload)
  rollouts, updates, first = [], [], 0.0
  with workloads.in_mesh(mesh):
    graphdef, params, prompts = workloads.start(workload, mesh)
    rollout = workloads.make_rollout(workload, graphdef)
    update, optimizer = workloads.make_update(workload, graphdef)
    opt_state = jax.jit(optimizer.init)(params)
    for index in range(rounds + 2):
      started = time.perf_counter()
      key = jax.random.fold_in(jax.random.key(0), index)
      completions = jax.block_until_ready(rollout(params, prompts, key))
      sampled = time.perf_counter()
      done = jax.block_until_ready(
          update(params, opt_state, prompts, completions)
      )
      params, opt_state = done.params, done.opt_state
      ended = time.perf_counter()
      if index == 0:
        first = ended - begin
      elif index > 1:
        rollouts.append(sampled - started)
        updates.append(ended - sampled)
  steps = [a + b for a, b in zip(rollouts, updates, strict=True)]
  median = statistics.median(steps)
  return (
      {
          "first_seconds": first,
          "rollout_seconds": statistics.median(rollouts),
          "update_seconds": statistics.median(updates),
          "step_seconds": median,
          "step_seconds_all": steps,
          "tokens_per_second": workload.rows * workload.new_tokens / median,
          "peak_memory_gib": timing.peak_memory_gib(),
      }
      | _share_of_peak(workload, statistics.median(updates))
      | _share_of_bandwidth(
          workload, statistics.median(rollouts), jax.devices()
      )
  )


def _layer_weights(workload: workloads.Workload) -> int:
  """Weights of the matrices of one layer."""
  model = workload.model
  width, inner = model.hidden_size, model.intermediate_size
  q = model.num_attention_heads * model.head_dim
  kv = model.num_key_value_heads * model.head_dim
  return width * (2 * q + 2 * kv) + 3 * width * inner


def _head_weights(workload: workloads.Workload) -> int:
  """Weights that make logits."""
  return workload.model.hidden_size * workload.model.vocab_size


def _share_of_peak(
    workload: workloads.Workload, seconds: float
) -> dict[str, float]:
  """Share of peak FLOPs in the update, where the peak is known."""
  new = workload.rows * workload.new_tokens
  tokens = workload.prompts * workload.prompt_tokens + new
  layers = workload.model.num_hidden_layers * _layer_weights(workload)
  # Forward is 1, backward 2; what is computed twice to save memory is no use.
  flops = 2.0 * 3 * (layers * tokens + _head_weights(workload) * new)
  found = throughput.mfu(flops, seconds, jax.devices())
  return {"update_flops": flops} | ({} if found is None else {"mfu": found})


def decoded_bytes(workload: workloads.Workload, devices: int) -> float:
  """Bytes that decoding must read: weights, and the cache that is filled.

  Every device reads all weights for each token, and of every row the keys and
  values of all tokens before it.
  """
  model, size = workload.model, 4
  if workload.options.compute_dtype == "bfloat16":
    size = 2
  layers = model.num_hidden_layers * _layer_weights(workload)
  weights = float(layers + _head_weights(workload)) * devices
  token = 2 * model.num_hidden_layers * model.num_key_value_heads
  new = workload.new_tokens
  context = workload.prompt_tokens + (new - 1) / 2
  cache = float(workload.rows) * token * model.head_dim * context
  return size * new * (weights + cache)


def _share_of_bandwidth(
    workload: workloads.Workload,
    seconds: float,
    devices: Sequence[throughput.Device],
) -> dict[str, float]:
  """Share of peak memory bandwidth in sampling, where the peak is known."""
  peak = math.fsum(
      _PEAK_BANDWIDTH.get(device.device_kind, math.nan) for device in devices
  )
  if workload.ends or math.isnan(peak):
    return {}
  moved = decoded_bytes(workload, len(devices))
  return {"bandwidth": moved / seconds / peak}


def table(figures: Mapping[str, Any]) -> str:
  """One line for each figure."""
  lines = []
  for name, value in figures.items():
    if isinstance(value, float):
      lines.append(f"{name} {value:.4g}")
    elif isinstance(value, Mapping):
      lines += [f"{name}: {line}" for line in table(value).splitlines()]
  return "\n".join(lines)
