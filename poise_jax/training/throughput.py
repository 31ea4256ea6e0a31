"""How fast training goes: seconds of its phases, and the share of peak FLOPs."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import math
import time
from typing import Protocol, runtime_checkable

from jax.extend import core as jex_core
from jaxtyping import Float
import numpy as np

from poise_jax.models import families
from poise_jax.training import config as config_lib
from poise_jax.training import metrics as metrics_lib


class Stopwatch:
  """Adds up the seconds of the phases of a step.

  jax returns before it has computed: wait for results (`block_until_ready`, or
  reading a number) inside the phase, or a later one is charged.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    self._phases: dict[str, float] = {}
    self._start = clock()

  @contextlib.contextmanager
  def time(self, phase: str) -> Iterator[None]:
    """Charges the seconds inside `with` to a phase, also if it raises."""
    start = self._clock()
    try:
      yield
    finally:
      spent = self._clock() - start
      self._phases[phase] = self._phases.get(phase, 0.0) + spent

  def phases(self) -> dict[str, metrics_lib.Fraction]:
    """Gives `time/<phase>`, seconds a step, of one step so far."""
    return {
        f"time/{phase}": metrics_lib.Fraction(spent, 1.0)
        for phase, spent in self._phases.items()
    }

  def lap(self) -> dict[str, float]:
    """Gives `time/<phase>` and `time/step` in seconds, and starts again.

    `time/step` is all the time since the last lap, so it also holds what no
    phase was charged with.
    """
    now = self._clock()
    lap = {f"time/{phase}": spent for phase, spent in self._phases.items()}
    lap["time/step"] = now - self._start
    self._phases, self._start = {}, now
    return lap


# Dense bf16 FLOP/s as the makers publish them, by jax's name of the device. A
# slice of a GPU (MIG) has another name, and no known peak.
_PEAK_FLOPS = {
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


@runtime_checkable
class Device(Protocol):
  """What is asked of a `jax.Device`."""

  device_kind: str


def peak_flops(kind: str) -> float | None:
  """Dense bf16 FLOP/s of a `jax.Device.device_kind`; None if unknown."""
  return _PEAK_FLOPS.get(kind)


def mfu(
    flops: float, seconds: float, devices: Sequence[Device]
) -> float | None:
  """Computes the share of peak bf16 FLOP/s used, of all devices together.

  Args:
    flops: done on all devices in `seconds`.
    seconds: measured.
    devices: that did them.

  Returns:
    A fraction; None if the peak of any of the devices is unknown, as of a CPU.

  Raises:
    ValueError: if `seconds` is not positive or there are no devices.
  """
  if not seconds > 0 or not devices:
    raise ValueError(
        "`seconds` must be positive and `devices` not empty, got"
        f" {seconds} and {list(devices)}"
    )
  peaks = [_PEAK_FLOPS.get(device.device_kind) for device in devices]
  known = [peak for peak in peaks if peak is not None]
  return flops / seconds / sum(known) if len(known) == len(peaks) else None


def rates(
    *,
    tokens: float,
    seconds: float,
    flops: float | None = None,
    devices: Sequence[Device] = (),
) -> dict[str, float]:
  """Gives `perf/tokens_per_second`, and `perf/mfu` where it is known.

  Args:
    tokens: handled in `seconds`, on all devices.
    seconds: measured.
    flops: done on all devices in `seconds`, if known.
    devices: that did them.

  Raises:
    ValueError: if `seconds` is not positive.
  """
  if not seconds > 0:
    raise ValueError(f"`seconds` must be positive, got {seconds}")
  found = {"perf/tokens_per_second": tokens / seconds}
  if flops is None or not devices:
    return found
  share = mfu(flops, seconds, devices)
  return found if share is None else found | {"perf/mfu": share}


def forward_flops(
    model: families.TransformerConfig,
    prompt_length: float,
    lengths: Float[np.ndarray, "N"],
    group_size: int,
) -> float:
  """FLOPs that the matrix products of a policy need on a batch.

    2 · (weights of blocks · tokens + weights of head · completion tokens)
      + 4 · layers · heads · head_dim · Σ_t (tokens that token t sees)

  A prompt is read once for its group. Padding, what remat repeats and what a
  causal mask hides do not count: this is what has to be computed, not what is.

  Args:
    model: shape of the policy.
    prompt_length: mean tokens of a prompt.
    lengths: tokens of each completion.
    group_size: completions of each prompt.
  """
  inner = model.num_attention_heads * model.head_dim
  keys = model.num_key_value_heads * model.head_dim
  width = model.hidden_size
  block = width * (2 * inner + 2 * keys + 3 * model.intermediate_size)
  written = float(np.sum(lengths))
  prompts = lengths.size / group_size
  tokens = prompts * prompt_length + written
  seen = prompts * prompt_length**2 / 2
  seen += float(np.sum(lengths * prompt_length + lengths**2 / 2))
  layers = model.num_hidden_layers
  products = layers * block * tokens + width * model.vocab_size * written
  return 2.0 * products + 4.0 * layers * inner * seen


def passes(config: config_lib.TrainConfig) -> int:
  """How often a step computes what one forward pass does.

  Once to sample, once for each of `reference` and `scores_old`, and three times
  for each pass over a rollout that is learned from.
  """
  return 1 + config.reference + config.scores_old + 3 * config.epochs


# Run an unknown number of times, or on an unknown number of devices.
_UNCOUNTABLE = ("while", "shard_map", "pallas_call")


def matmul_flops(jaxpr: jex_core.ClosedJaxpr) -> float | None:
  """Counts the FLOPs of matrix products in `jax.jit(f).trace(...).jaxpr`.

  Scans count once for each trip, a `cond` as its dearest branch, and products
  that remat repeats as often as they run. The count is of the whole program,
  over all devices of a `jax.jit` mesh.

  Returns:
    FLOPs a call; None if products stand where they cannot be counted (a
    `while` loop, a `shard_map`, a Pallas kernel).
  """
  total = _products(jaxpr.jaxpr)
  return None if math.isnan(total) else total


def _products(jaxpr: jex_core.Jaxpr) -> float:
  """Counts as `matmul_flops` does, NaN where it cannot be told."""
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      sizes = equation.invars[0].aval.shape
      depth = math.prod(sizes[axis] for axis in contracted)
      total += 2.0 * depth * math.prod(equation.outvars[0].aval.shape)
      continue
    inner = [_products(j) for j in jex_core.jaxprs_in_params(params)]
    if any(inner) and name in _UNCOUNTABLE:
      total = math.nan
    elif name == "cond":
      # NaN is the dearest of all.
      total += math.nan if math.isnan(sum(inner)) else max(inner)
    else:
      total += sum(inner) * (params["length"] if name == "scan" else 1)
  return total
