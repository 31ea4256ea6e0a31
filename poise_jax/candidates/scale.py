"""The program of a loss at the sizes of a training run; it is not compiled.

An exported loss has unknown sizes, and how long it takes follows from them.
Here they get values, so that a program can be read as it will be run: with its
gradient, functions inlined, all shapes known.
"""

from collections.abc import Mapping

import jax
from jax.extend import mlir as refinement
from jax.interpreters import mlir
import jax.numpy as jnp
from jaxlib.mlir import ir

from poise_jax import types
from poise_jax.candidates import artifact, contract, findings

# Of a large run, and of one with short completions.
LARGE: Mapping[str, int] = {"P": 64, "G": 16, "T": 1024, "K": 4}
SHORT: Mapping[str, int] = {**LARGE, "T": 96}


def fixed(
    sizes: Mapping[str, int], shapes: Mapping[str, int | str]
) -> dict[str, int]:
  """The sizes, but those that an artifact fixes."""
  own = {k: v for k, v in shapes.items() if isinstance(v, int)}
  return dict(sizes) | own


def program(
    algorithm: types.Algorithm,
    metadata: artifact.Metadata,
    sizes: Mapping[str, int],
) -> str:
  """Writes value and gradients of a loss for batches of these sizes.

  Args:
    algorithm: made from an artifact.
    metadata: its header.
    sizes: P, G, T and K; see `fixed`.

  Returns:
    The text of a module whose shapes are all known.

  Raises:
    findings.RefusedError: if there is none for these sizes.
  """
  spec = jax.ShapeDtypeStruct
  fields = {
      name: spec(tuple(sizes[a] for a in axes), dtype)
      for name, (axes, dtype) in artifact.BATCH_FIELDS.items()
  }
  state = {k: spec(tuple(s), d) for k, (s, d) in metadata.state.items()}
  hparams = {k: spec((), jnp.float32) for k in metadata.hparams}
  words = ", ".join(f"{name} = {sizes[name]}" for name in "PGT")
  with findings.refusing(
      "shapes",
      f"there is no program for batches of {words}",
      "let jnp infer sizes: reduce over axes, and use *_like functions",
  ):
    lowered = contract.lower_step(algorithm, hparams, state, fields)
    # The lowest level on which jax puts sizes in: what `compile` begins with.
    refined = refinement.refine_polymorphic_shapes(
        mlir_module=mlir.module_to_bytecode(lowered.compiler_ir()),
        enable_shape_assertions=True,
        validate_static_shapes=True,
        enable_shardy=jax.config.jax_use_shardy_partitioner,
    )
    with mlir.make_ir_context():
      return str(ir.Module.parse(refined))
