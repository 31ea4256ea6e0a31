"""Which axis of which parameter is what: one table of names."""

from typing import Any

import jax
import numpy as np

from poise_jax import sharding
from poise_jax.models import transformer

Axes = tuple[str | None, ...]

# Name of a parameter -> its axes; `*` stands for one part of a name. Norms are
# small and read by every device, so they are replicated.
_TABLE: dict[str, Axes] = {
    "embed_tokens.embedding": ("vocab", "embed"),
    "layers.*.input_layernorm.weight": (None,),
    "layers.*.self_attn.q_proj.kernel": ("embed", "heads"),
    "layers.*.self_attn.q_proj.bias": ("heads",),
    "layers.*.self_attn.k_proj.kernel": ("embed", "kv_heads"),
    "layers.*.self_attn.k_proj.bias": ("kv_heads",),
    "layers.*.self_attn.v_proj.kernel": ("embed", "kv_heads"),
    "layers.*.self_attn.v_proj.bias": ("kv_heads",),
    "layers.*.self_attn.q_norm.weight": (None,),
    "layers.*.self_attn.k_norm.weight": (None,),
    "layers.*.self_attn.o_proj.kernel": ("heads", "embed"),
    "layers.*.post_attention_layernorm.weight": (None,),
    "layers.*.mlp.gate_proj.kernel": ("embed", "mlp"),
    "layers.*.mlp.up_proj.kernel": ("embed", "mlp"),
    "layers.*.mlp.down_proj.kernel": ("mlp", "embed"),
    "norm.weight": (None,),
    "lm_head.kernel": ("embed", "vocab"),
}
# The two matrices of an adapter share the outer axes of their kernel.
for _kernel in [name for name in _TABLE if name.endswith("_proj.kernel")]:
  _module, (_in, _out) = _kernel.removesuffix(".kernel"), _TABLE[_kernel]
  _TABLE[f"{_module}.lora_a"] = (_in, None)
  _TABLE[f"{_module}.lora_b"] = (None, _out)


def _name(path: tuple[Any, ...]) -> str:
  """Dotted name of a leaf; flax adds `value` to the path of its variables."""
  name = jax.tree_util.keystr(path, simple=True, separator=".")
  return name.removesuffix(".value")


def _axes(name: str) -> Axes | None:
  parts = name.split(".")
  for pattern, axes in _TABLE.items():
    wanted = pattern.split(".")
    if len(wanted) == len(parts) and all(
        want in ("*", part) for want, part in zip(wanted, parts, strict=True)
    ):
      return axes
  return None


def parameter_axes(params: Any) -> dict[str, Axes]:
  """Logical axes of every parameter, by its dotted name.

  Args:
    params: of a `transformer.Transformer`, adapters, or their shapes.

  Raises:
    ValueError: listing every parameter that the table does not name, or whose
      number of axes is another.
  """
  named, problems = {}, []
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name, shape = _name(path), np.shape(leaf)
    axes = _axes(name)
    if axes is None:
      problems.append(f"{name} {shape} is unknown")
    elif len(axes) != len(shape):
      problems.append(f"{name} {shape} should have axes {axes}")
    else:
      named[name] = axes
  if problems:
    raise ValueError(
        f"`params` cannot be split over devices: {'; '.join(problems)}; every"
        " parameter needs a line in the table of poise_jax.models.logical_axes"
    )
  return named


def parameter_shardings(mesh: jax.sharding.Mesh, params: Any) -> Any:
  """Shardings of parameters over `mesh`, in their structure.

  Args:
    mesh: from `sharding.make_mesh`.
    params: of a `transformer.Transformer`, adapters, or their shapes.

  Raises:
    ValueError: as `parameter_axes`.
  """
  axes = parameter_axes(params)
  return jax.tree_util.tree_map_with_path(
      lambda path, _: sharding.named(mesh, *axes[_name(path)]), params
  )


def decoding_shardings(mesh: jax.sharding.Mesh, params: Any) -> Any:
  """Shardings of parameters that are read for every token: split by `tensor`.

  What `fsdp` splits for training is whole here; otherwise each token would wait
  until the devices have collected all weights.

  Args:
    mesh: from `sharding.make_mesh`.
    params: of a `transformer.Transformer`, or their shapes.

  Raises:
    ValueError: as `parameter_axes`.
  """
  axes = parameter_axes(params)
  whole = lambda names: tuple(None if n == "embed" else n for n in names)
  return jax.tree_util.tree_map_with_path(
      lambda path, _: sharding.named(mesh, *whole(axes[_name(path)])), params
  )


def like_parameters(
    mesh: jax.sharding.Mesh, opt_state: Any, params: Any
) -> Any:
  """Shardings of an optimizer state, in its structure.

  Whatever an optimizer keeps for a parameter, in the shape of the parameter
  and under its name (moments, accumulated gradients, averages), is split as the
  parameter is. Everything else is replicated: counts, injected
  hyperparameters, and arrays of other shapes such as Adafactor's rows.

  Args:
    mesh: from `sharding.make_mesh`.
    opt_state: of any optax transformation, or its shapes
      (`jax.eval_shape(optimizer.init, params)`).
    params: that it optimises, or their shapes.

  Raises:
    ValueError: as `parameter_axes`.
  """
  axes = parameter_axes(params)
  known = {
      path: (np.shape(leaf), sharding.named(mesh, *axes[_name(path)]))
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }

  def find(path: tuple[Any, ...], leaf: Any) -> jax.sharding.NamedSharding:
    for start in range(len(path)):
      shape, found = known.get(path[start:], (None, None))
      if shape == np.shape(leaf):
        return found
    return sharding.replicated(mesh)

  return jax.tree_util.tree_map_with_path(find, opt_state)


def check_divisible(
    config: transformer.TransformerConfig, mesh: sharding.MeshConfig
) -> None:
  """Refuses a model that the mesh cannot split evenly.

  Key and value heads are never copied: `tensor` cannot exceed their number.

  Args:
    config: shape of the model.
    mesh: devices along each axis.

  Raises:
    ValueError: listing every size that does not divide, and the mesh flag to
      change.
  """
  rules = (
      ("num_attention_heads", "tensor", mesh.tensor),
      ("num_key_value_heads", "tensor", mesh.tensor),
      ("intermediate_size", "tensor", mesh.tensor),
      ("vocab_size", "tensor", mesh.tensor),
      ("hidden_size", "fsdp", mesh.fsdp),
  )
  problems = [
      f"{name}={getattr(config, name)} is not a multiple of"
      f" --config.mesh.{axis}={parts}"
      for name, axis, parts in rules
      if getattr(config, name) % parts
  ]
  if problems:
    raise ValueError(
        f"the mesh cannot split the model: {'; '.join(problems)}; lower these"
        " flags to common divisors, and raise --config.mesh.data to use the"
        " devices that are left"
    )
