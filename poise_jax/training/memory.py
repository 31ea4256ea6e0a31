"""Memory that a run needs, by arithmetic on shapes: before anything compiles.

What is counted must be there: weights, optimizer, gradients, the cache of a
rollout, the states that the backward pass starts from, one chunk of logits. A
compiler adds what it likes, so that a run may fail that this lets pass; see
`dry_run` for what a compiler says.
"""

from collections.abc import Mapping
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import sharding
from poise_jax.models import families, logical_axes, lora, transformer
from poise_jax.training import config as config_lib

# Bytes of a device, as its maker counts them, by jax's name of the device.
_BYTES = {
    "NVIDIA A100-SXM4-40GB": 40e9,
    "NVIDIA A100-SXM4-80GB": 80e9,
    "NVIDIA A100 80GB PCIe": 80e9,
    "NVIDIA H100 80GB HBM3": 80e9,
    "NVIDIA H200": 141e9,
    "TPU v4": 32e9,
    "TPU v5 lite": 16e9,
    "TPU v5e": 16e9,
    "TPU v5": 95e9,
    "TPU v5p": 95e9,
    "TPU v6 lite": 32e9,
    "TPU v6e": 32e9,
}


def of_kind(kind: str) -> float:
  """Bytes of a device.

  Args:
    kind: `jax.Device.device_kind`.

  Raises:
    ValueError: if it is not known.
  """
  if kind not in _BYTES:
    raise ValueError(f"`kind` must be one of {', '.join(_BYTES)}, got {kind!r}")
  return _BYTES[kind]


def here(device: jax.Device) -> float | None:
  """Bytes that this process may use of a device; None where it does not say."""
  found = (device.memory_stats() or {}).get("bytes_limit")
  return float(found) if found else _BYTES.get(device.device_kind)


class Estimate(NamedTuple):
  """Bytes on one device.

  Attributes:
    state: what lives all the time.
    rollout: what lives beside it while completions are sampled.
    update: what lives beside the state during an update.
  """

  state: Mapping[str, float]
  rollout: Mapping[str, float]
  update: Mapping[str, float]

  @property
  def peak(self) -> float:
    """Bytes of the larger of the two phases."""
    most = max(sum(self.rollout.values()), sum(self.update.values()))
    return sum(self.state.values()) + most


def _parts(mesh: sharding.MeshConfig, axis: str | None) -> int:
  """Into how many parts an axis with this name is cut."""
  (names,) = sharding.spec(axis) or (None,)
  names = (names,) if isinstance(names, str) else names or ()
  return math.prod(getattr(mesh, name) for name in names)


def _numbers(
    params: object, mesh: sharding.MeshConfig, whole: tuple[str, ...] = ()
) -> int:
  """Entries of params on one device; axes of `whole` are not cut."""
  axes = logical_axes.parameter_axes(params)
  sizes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
  return sum(
      math.prod(
          -(-size // (1 if name in whole else _parts(mesh, name)))
          for size, name in zip(shape, names, strict=True)
      )
      for shape, names in zip(sizes, axes.values(), strict=True)
  )


def estimate(
    model: families.TransformerConfig,
    config: config_lib.TrainConfig,
    prompt_length: int,
) -> Estimate:
  """Bytes on one device, at least, when no completion ends early.

  Args:
    model: shape of the policy.
    config: sizes, cuts and mesh.
    prompt_length: width of the widest prompts.
  """
  mesh, options = config.mesh, config.scoring
  params = transformer.structure(model)[1]
  size = jnp.dtype(options.compute_dtype).itemsize
  numbers = _numbers(params, mesh)
  state = {"params": 4.0 * numbers, "optimizer": 8.0 * numbers}
  if config.reference:
    state["reference"] = 4.0 * numbers
  if config.lora is not None:
    # The base policy is what adapters adapt, and may be the reference too.
    adapters = _numbers(lora.shapes(model, config.lora), mesh)
    state = {
        "base policy": 4.0 * numbers,
        "adapters": 4.0 * adapters,
        "optimizer": 8.0 * adapters,
    }
  length, layers = config.completion_length, model.num_hidden_layers
  of_token = 2 * size * layers * model.num_key_value_heads * model.head_dim
  at_once = config.schedule.prompts_at_once or config.prompts
  at_once = min(at_once, config.prompts)
  vocabulary = model.vocab_size / _parts(mesh, "vocab")
  cut = _parts(mesh, "prompt")
  rows = at_once * config.group_size / cut
  slots = prompt_length + length
  rollout = {
      "cache": rows * slots * of_token / _parts(mesh, "kv_heads"),
      "logits": 4.0 * rows * vocabulary,
  }
  if options.compute_dtype != "float32" or mesh.fsdp > 1:
    whole = _numbers(params, mesh, whole=("embed",))
    rollout["params to sample with"] = float(size * whole)
  elif config.lora is not None:
    rollout["params to sample with"] = 4.0 * numbers
  prompts = config.prompts / config.minibatches / config.micro_batches / cut
  rows = prompts * config.group_size
  width = size * model.hidden_size
  blocks = layers if options.remat != "full" else 1
  update = {
      "gradients": 4.0 * numbers,
      "hidden states": blocks * width * (rows * length + prompts * slots),
      "logits": 4.0 * rows * min(options.chunk or length, length) * vocabulary,
  }
  if config.lora is not None:
    # Merged, and their gradient on its way to the adapters.
    update["merged params"] = float(size * numbers)
    update["gradients"] = float(size * numbers)
  return Estimate(state, rollout, update)


def check(found: Estimate, limit: float, kind: str) -> None:
  """Refuses what cannot fit.

  Args:
    found: from `estimate`.
    limit: bytes of a device.
    kind: of the device, for the message.

  Raises:
    ValueError: naming the largest part and the flag to change.
  """
  if found.peak <= limit:
    return
  state = sum(found.state.values())
  phase = max(found[1:], key=lambda parts: sum(parts.values()))
  if state > limit / 2:
    name, bytes_ = "weights and optimizer", state
    flag = _MORE_DEVICES
  else:
    name, bytes_ = max(phase.items(), key=lambda item: item[1])
    flag = _FLAGS[phase is found.update, name]
  raise ValueError(
      f"at least {found.peak / 1e9:.1f} GB are needed on each device, {kind} has"
      f" {limit / 1e9:.1f}; {name} take {bytes_ / 1e9:.1f} GB: {flag}"
  )


_MORE_DEVICES = "raise --config.mesh.fsdp, with as many more devices"
_FEWER_AT_ONCE = "lower --config.schedule.prompts_at_once"
_MORE_PARTS = "raise --config.train.micro_batches"
# Whether it is in the update, and what is largest -> what to do about it.
_FLAGS = {
    (False, "cache"): _FEWER_AT_ONCE,
    (False, "logits"): _FEWER_AT_ONCE,
    (False, "params to sample with"): "raise --config.mesh.tensor",
    (True, "gradients"): _MORE_DEVICES,
    (True, "merged params"): _MORE_DEVICES,
    (True, "hidden states"): _MORE_PARTS,
    (True, "logits"): "set --config.scoring.chunk=128 or another small number",
}
