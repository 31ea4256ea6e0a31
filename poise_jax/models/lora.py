"""Low-rank adapters: few weights that train while the policy's are frozen.

A trainer optimises adapters in place of params, and merges inside its jitted
functions, where the frozen params are an argument like any other:

    adapters = lora.init(config, options, key)
    score = scoring.make_score_tokens(graphdef)

    @jax.jit
    def step(adapters, opt_state, params, rows):
      tuned = lambda a: score(lora.merge(params, a, options), rows)
      ...  # differentiate with respect to adapters, update them

Rollouts and exports take `lora.merge(params, adapters, options)`, which are
plain params. `logical_axes.parameter_shardings` and `like_parameters` know the
adapters by their names.

See "LoRA" by Hu et al. (https://arxiv.org/abs/2106.09685). Files are those of
the peft library.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
import numpy as np
import safetensors
import safetensors.numpy

from poise_jax import sharding
from poise_jax.models import families, transformer, weights

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

PROJECTIONS = (
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)

# Name of a projection -> {"lora_a": [in, rank], "lora_b": [rank, out]}.
Adapters = dict[str, dict[str, Array]]

_PREFIX = "base_model.model.model."
_NAMES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}


@dataclasses.dataclass(frozen=True)
class LoraOptions:
  """Size and place of adapters.

  Attributes:
    rank: inner width.
    alpha: adapters count alpha / rank.
    targets: projections of every block that have one, of `PROJECTIONS`.
    seed: of the random half of fresh adapters.
  """

  rank: int = 16
  alpha: float = 32.0
  targets: tuple[str, ...] = PROJECTIONS
  seed: int = 0

  def __post_init__(self):
    if self.rank < 1:
      raise ValueError(f"`rank` must be at least 1, got {self.rank}")
    if not self.alpha > 0:
      raise ValueError(f"`alpha` must be positive, got {self.alpha}")
    if self.seed < 0:
      raise ValueError(f"`seed` must be at least 0, got {self.seed}")
    unknown = [name for name in self.targets if name not in PROJECTIONS]
    if unknown or not self.targets:
      raise ValueError(
          f"`targets` must be some of {', '.join(PROJECTIONS)}, got"
          f" {self.targets}"
      )

  @property
  def scale(self) -> float:
    """What the product of the two matrices is multiplied by."""
    return self.alpha / self.rank


def _kernels(
    config: families.TransformerConfig, options: LoraOptions
) -> dict[str, tuple[int, int]]:
  """Name -> shape [in, out] of the projections that have an adapter."""
  _, abstract = transformer.structure(config)
  return {
      ".".join(map(str, path[:-1])): leaf.shape
      for path, leaf in nnx.to_flat_state(abstract)
      if path[-1] == "kernel" and path[-2] in options.targets
  }


def init(
    config: families.TransformerConfig,
    options: LoraOptions,
    key: Key[Array, ""],
) -> Adapters:
  """Adapters, f32, that change nothing yet.

  A ~ U(-1 / √in, 1 / √in), B = 0.
  """
  kernels = _kernels(config, options)
  adapters = {}
  keys = jax.random.split(key, len(kernels))
  for one, (name, (width_in, width_out)) in zip(
      keys, kernels.items(), strict=True
  ):
    bound = width_in**-0.5
    shape = (width_in, options.rank)
    adapters[name] = {
        "lora_a": jax.random.uniform(one, shape, minval=-bound, maxval=bound),
        "lora_b": jnp.zeros((options.rank, width_out)),
    }
  return adapters


def shapes(config: families.TransformerConfig, options: LoraOptions) -> Any:
  """Shapes of `Adapters`, without making any."""
  return jax.eval_shape(lambda: init(config, options, jax.random.key(0)))


def merge(
    params: nnx.State, adapters: Adapters, options: LoraOptions
) -> nnx.State:
  """Plain params: W + alpha / rank · A B for every projection with an adapter.

  The sum is taken in f32 and rounded to the type of W: with params in half
  precision small changes are lost, so keep them in f32 to train.

  Raises:
    ValueError: if an adapter is of a projection that `params` do not have.
  """
  left = dict(adapters)

  def add(path: tuple[Any, ...], leaf: nnx.Variable) -> nnx.Variable:
    found = left.pop(".".join(map(str, path[:-1])), None)
    if found is None or path[-1] != "kernel":
      return leaf
    kernel = leaf.get_value()
    product = found["lora_a"] @ found["lora_b"]
    changed = kernel.astype(jnp.float32) + options.scale * product
    return leaf.replace(changed.astype(kernel.dtype))

  flat = nnx.to_flat_state(params)
  kernels = [(path, leaf) for path, leaf in flat if path[-1] == "kernel"]
  merged = {path: add(path, leaf) for path, leaf in kernels}
  if left:
    raise ValueError(f"`params` have no {', '.join(sorted(left))}")
  return nnx.from_flat_state(
      [(path, merged.get(path, leaf)) for path, leaf in flat]
  )


def save(
    directory: str | os.PathLike[str],
    adapters: Adapters,
    options: LoraOptions,
    *,
    base: str = "",
) -> None:
  """Writes adapters as the peft library reads them.

  With several processes all of them call it; one writes.

  Args:
    directory: created if absent; its two files are replaced, each atomically.
    adapters: whole or sharded.
    options: of these adapters.
    base: name or path of the model they were trained on, for the reader.
  """
  tensors = {}
  for name, adapter in adapters.items():
    for part, suffix in _NAMES.items():
      array = np.asarray(sharding.fetch(adapter[part]))
      tensors[f"{_PREFIX}{name}.{suffix}"] = np.ascontiguousarray(array.T)
  if not sharding.is_writer():
    return
  fields = {
      "peft_type": "LORA",
      "task_type": "CAUSAL_LM",
      "base_model_name_or_path": base,
      "r": options.rank,
      "lora_alpha": options.alpha,
      "target_modules": list(options.targets),
      "lora_dropout": 0.0,
      "bias": "none",
      "fan_in_fan_out": False,
      "inference_mode": True,
      "init_lora_weights": True,
      "use_rslora": False,
      "use_dora": False,
  }
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  data = safetensors.numpy.save(tensors, metadata={"format": "pt"})
  text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
  written = pathlib.Path(tempfile.mkdtemp(suffix=".partial", dir=directory))
  try:
    (written / WEIGHTS_FILE).write_bytes(data)
    (written / CONFIG_FILE).write_text(text, "utf-8")
    for name in (WEIGHTS_FILE, CONFIG_FILE):
      os.replace(written / name, directory / name)
  finally:
    shutil.rmtree(written, ignore_errors=True)


def _read_options(fields: Mapping[str, Any]) -> LoraOptions:
  """Options of an adapter_config.json.

  Raises:
    ValueError: listing what is missing or unsupported.
  """
  rules = {
      "peft_type": lambda v: v == "LORA",
      "r": lambda v: type(v) is int,
      "lora_alpha": lambda v: type(v) in (int, float),
      "target_modules": lambda v: (
          isinstance(v, list) and all(isinstance(m, str) for m in v)
      ),
      "bias": lambda v: v in (None, "none"),
      **{
          name: lambda v: not v
          for name in (
              *("use_rslora", "use_dora", "fan_in_fan_out", "modules_to_save"),
              *("rank_pattern", "alpha_pattern", "layers_to_transform"),
          )
      },
  }
  problems = [
      f"`{name}` = {fields.get(name)!r}"
      for name, accepts in rules.items()
      if not accepts(fields.get(name))
  ]
  if problems:
    raise ValueError(
        f"cannot use this {CONFIG_FILE}: {', '.join(problems)}; plain LoRA of"
        " one rank, with a list of target modules, is supported"
    )
  named = set(fields["target_modules"])
  order = tuple(name for name in PROJECTIONS if name in named)
  return LoraOptions(
      fields["r"],
      float(fields["lora_alpha"]),
      order + tuple(sorted(named - set(order))),
  )


def load(
    directory: str | os.PathLike[str], config: families.TransformerConfig
) -> tuple[LoraOptions, Adapters]:
  """Reads adapters, as f32.

  Args:
    directory: holds adapter_config.json and adapter_model.safetensors.
    config: shape of the model that they belong to.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file cannot be read, or tensors are missing, unknown or
      misshapen (all of them are listed).
  """
  directory = pathlib.Path(directory)
  for name in (CONFIG_FILE, WEIGHTS_FILE):
    if not (directory / name).is_file():
      raise FileNotFoundError(f"no {name} in {os.fspath(directory)!r}")
  options = _read_options(weights.read_json(directory / CONFIG_FILE))
  path = directory / WEIGHTS_FILE
  try:
    tensors = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f"cannot read {os.fspath(path)!r}: {error}") from error
  wanted = {}
  for name, (width_in, width_out) in _kernels(config, options).items():
    shapes = {
        "lora_a": (options.rank, width_in),
        "lora_b": (width_out, options.rank),
    }
    for part, shape in shapes.items():
      wanted[f"{_PREFIX}{name}.{_NAMES[part]}"] = (name, part, shape)
  problems = [f"missing {name}" for name in sorted(wanted.keys() - tensors)]
  problems += [f"unknown {name}" for name in sorted(tensors.keys() - wanted)]
  problems += [
      f"{name} has shape {tensors[name].shape}, not {shape}"
      for name, (_, _, shape) in sorted(wanted.items())
      if name in tensors and tensors[name].shape != shape
  ]
  if problems:
    raise ValueError(
        f"{os.fspath(path)!r} does not fit the model: {'; '.join(problems)}"
    )
  adapters = {}
  for name, (module, part, _) in wanted.items():
    array = jnp.asarray(tensors[name].T.astype(np.float32))
    adapters.setdefault(module, {})[part] = array
  return options, adapters
