"""The names that a candidate's source may use.

The syntax gate refuses every other name; the child executes the source in a
namespace that holds nothing else. Left out on purpose: whatever reads files,
runs Python later (callbacks, `vectorize`), draws random numbers, loops for a
number of steps that is not known, lowers to a library call, or depends on where
in memory something lies (sets of functions, the text of an object).
"""

import dataclasses
import importlib
import inspect
import types as python_types
from typing import Any

import jax
import jax.numpy as jnp

from poise_jax import types

ATOM_MODULES = (
    "advantages",
    "regimes",
    "length_shaping",
    "ratios",
    "surrogates",
    "sequence_losses",
    "trust_regions",
    "kl",
    "masks",
    "corrections",
    "aggregation",
    "controllers",
)

BUILTINS = frozenset(
    "abs all any bool dict enumerate float int len list max min range reversed"
    " round sorted str sum tuple zip".split()
)

JNP = frozenset(
    "abs absolute add all allclose amax amin any append arange arccos arcsin"
    " arctan arctan2 argmax argmin argsort array asarray astype atleast_1d"
    " atleast_2d average bool_ broadcast_arrays broadcast_to cbrt ceil clip"
    " column_stack concatenate copysign corrcoef cos cosh count_nonzero cov"
    " cumprod cumsum deg2rad diag diagonal diff digitize divide dot dstack e"
    " einsum equal exp exp2 expand_dims expm1 fabs finfo flip float32"
    " float_power floor floor_divide fmax fmin full full_like gradient greater"
    " greater_equal heaviside histogram hstack hypot identity iinfo inf inner"
    " int32 interp invert isclose isfinite isinf isnan ldexp less less_equal"
    " linspace log log10 log1p log2 logaddexp logaddexp2 logical_and"
    " logical_not logical_or logical_xor logspace matmul max maximum mean"
    " median meshgrid min minimum mod moveaxis multiply nan nan_to_num nanmax"
    " nanmean nanmin nanstd nansum nanvar ndarray negative newaxis nextafter"
    " not_equal ones ones_like outer pad percentile pi piecewise polyval"
    " positive power prod ptp quantile ravel reciprocal remainder repeat"
    " reshape rint roll round searchsorted select shape sign signbit sin sinc"
    " sinh size sort sqrt square squeeze stack std subtract sum swapaxes take"
    " take_along_axis tan tanh tensordot tile trace transpose trapezoid tri"
    " tril triu true_divide trunc var vdot vstack where zeros zeros_like".split()
)

NN = frozenset(
    "celu elu gelu hard_sigmoid hard_tanh leaky_relu log_sigmoid log_softmax"
    " logmeanexp logsumexp mish one_hot relu relu6 selu sigmoid silu soft_sign"
    " softmax softplus sparse_plus squareplus standardize swish".split()
)

LAX = frozenset(
    "abs add bitwise_and bitwise_not bitwise_or clamp cond cumlogsumexp cummax"
    " cummin cumprod cumsum digamma div dynamic_index_in_dim"
    " dynamic_slice_in_dim dynamic_update_slice_in_dim erf erf_inv erfc exp"
    " expm1 fori_loop index_in_dim integer_pow is_finite lgamma log log1p"
    " logistic map max min mul neg pow reciprocal rsqrt scan select sign"
    " slice_in_dim sort sqrt square stop_gradient sub switch tanh top_k".split()
)

# What may follow a dot on an array, a dict, a list, or `x.at[...]`.
METHODS = frozenset(
    "T add all any append argmax argmin argsort astype at clip copy cumprod"
    " cumsum divide dot dtype extend flatten get items keys max mean min mul"
    " multiply ndim pop power prod ravel repeat reshape round set setdefault"
    " shape size sort squeeze std sum swapaxes take transpose update values var".split()
)

BATCH_FIELDS = frozenset(f.name for f in dataclasses.fields(types.RolloutBatch))

# What f-strings call; no source can name it.
TEXT = "__text__"

ROOTS = frozenset({"jnp", "jax", *ATOM_MODULES})
NAMESPACES = ROOTS | {"jax.nn", "jax.lax"}


def atoms() -> dict[str, dict[str, Any]]:
  """Lists the public functions of every atom module."""
  found = {}
  for name in ATOM_MODULES:
    module = importlib.import_module(f"poise_jax.algorithms.{name}")
    found[name] = {
        key: value
        for key, value in sorted(vars(module).items())
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not key.startswith("_")
    }
  return found


def dotted_names() -> frozenset[str]:
  """Lists every allowed name with a dot that starts at a root."""
  named = {f"jnp.{n}" for n in JNP} | {"jax.Array", "jax.nn", "jax.lax"}
  named |= {f"jax.nn.{n}" for n in NN} | {f"jax.lax.{n}" for n in LAX}
  for module, functions in atoms().items():
    named |= {f"{module}.{name}" for name in functions}
  return frozenset(named)


def namespace() -> dict[str, Any]:
  """Makes fresh globals for one source, with restricted builtins.

  The modules are copies: assigning to one changes nothing outside.
  """
  builtins = (
      __builtins__ if isinstance(__builtins__, dict) else vars(__builtins__)
  )
  subset = {name: builtins[name] for name in BUILTINS} | {"str": text}
  package = python_types.SimpleNamespace(
      Array=jax.Array, nn=_subset(jax.nn, NN), lax=_subset(jax.lax, LAX)
  )
  modules = {
      name: python_types.SimpleNamespace(**functions)
      for name, functions in atoms().items()
  }
  return {
      "__builtins__": subset,
      "__name__": "candidate",
      TEXT: text,
      "jnp": _subset(jnp, JNP),
      "jax": package,
      **modules,
  }


def text(value: Any = "") -> str:
  """Stands for `str`, in calls and in f-strings; of plain values only.

  Raises:
    TypeError: for others, whose text may hold an address.
  """
  if type(value) not in (str, int, float, bool, type(None)):
    raise TypeError(
        f"the text of a {type(value).__name__} is not available; only that of"
        " names and numbers is"
    )
  return str(value)


def _subset(module: Any, names: frozenset[str]) -> python_types.SimpleNamespace:
  """Copies the named attributes of a module."""
  return python_types.SimpleNamespace(
      **{name: getattr(module, name) for name in sorted(names)}
  )
