"""The registry: every entry described, made, written as source, exported.

What the losses compute is tested in `members`, and what every loss must do in
`properties_test`.
"""

import functools
import re
import types as python_types

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import scope

P, T = 4, 6  # of the batch in conftest; its groups have 8 completions
every_name = pytest.mark.parametrize("name", catalog.names())
# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def differentiated(loss_fn):
  """Maps (tokens, hparams, state, arrays) to ((value, rest), gradients)."""

  def loss(tokens, hparams, state, arrays):
    batch = types.RolloutBatch(**(arrays | tokens))
    value, new_state, metrics = loss_fn(hparams, state, batch)
    return value, (new_state, metrics)

  return jax.value_and_grad(loss, has_aux=True)


def inputs(name, arrays):
  """What the differentiated loss is called with."""
  algorithm = catalog.make(name)
  hparams = {k: np.float32(v) for k, v in algorithm.hparams.items()}
  tokens = {key: arrays[key] for key in ("logprobs", "entropy")}
  return tokens, hparams, algorithm.init(algorithm.hparams), arrays


def exec_source(name):
  """Executes the source with the atoms and jax in scope, nothing else."""
  namespace = {"jnp": jnp, "__builtins__": {"dict": dict}}
  namespace["jax"] = python_types.SimpleNamespace(nn=jax.nn, lax=jax.lax)
  for module, functions in scope.atoms().items():
    namespace[module] = python_types.SimpleNamespace(**functions)
  exec(catalog.source(name), namespace)  # noqa: S102
  return namespace


@every_name
def test_source_defines_the_same_program(name, arrays):
  # Equal jaxprs of value and gradient: equal numbers on every input.
  namespace = exec_source(name)
  algorithm = catalog.make(name)
  assert namespace["HPARAMS"] == algorithm.hparams
  assert namespace["init"](algorithm.hparams) == algorithm.init(
      algorithm.hparams
  )
  programs = [
      jax.make_jaxpr(differentiated(loss))(*inputs(name, arrays))
      for loss in (namespace["loss"], algorithm.loss)
  ]
  assert str(programs[0]) == str(programs[1])
  assert not any(np.size(c) > 1 for p in programs for c in p.consts)


@every_name
def test_source_reads_like_a_candidate(name):
  text = catalog.source(name)
  assert text.startswith('"""')
  assert text.endswith("  return loss, state, metrics\n")
  assert "import " not in text.split('"""')[2] and "types." not in text
  assert "def loss(hparams, state, batch):\n  mask =" in text
  assert max(map(len, text.splitlines())) <= 80
  assert len(text.split("def loss")[1].splitlines()) <= 41


@every_name
def test_exports_at_symbolic_shapes(name, arrays):
  p, t = export.symbolic_shape("P, T")
  arguments = inputs(name, arrays)
  specs = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          [{P: p, T: t}.get(n, n) for n in jnp.shape(x)], x.dtype
      ),
      arguments,
  )
  program = jax.jit(differentiated(catalog.make(name).loss))
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    exported = export.export(program)(*specs)
  text = exported.mlir_module().replace("custom_call @shape_assertion", "")
  assert "custom_call" not in text
  if name == "vm_av_grpo":  # running one is enough to trust the text
    (value, _), _ = fast_jit(exported.call)(*arguments)
    (expected, _), _ = fast_jit(program)(*arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@every_name
def test_description(name):
  entry = catalog.describe(name)
  assert entry.name == name and entry.title.endswith(".")
  assert "loss = " in entry.equation
  assert entry.title.endswith(".") and "\n" not in entry.title
  assert entry.defaults == catalog.make(name).hparams
  assert entry.source.endswith(".")
  if entry.family == "canary":
    return
  assert "https://" in entry.source or "our" in entry.source
  assert entry.peers, "say who else has it, or that nobody has"
  if entry.family.startswith("POISE"):
    assert entry.reconstructed


@pytest.mark.parametrize(
    "name",
    [x for x in catalog.names() if catalog.describe(x).family != "canary"],
)
def test_each_constant_is_said_to_be_published_or_reconstructed(name):
  entry = catalog.describe(name)
  published = set(re.findall(r"\w+", entry.published))
  reconstructed = set(re.findall(r"\w+", entry.reconstructed))
  assert set(entry.defaults) <= published | reconstructed
  assert not set(entry.defaults) & published & reconstructed


def test_published_and_reconstructed_are_told_apart():
  entry = catalog.describe("cispo")
  assert "ratio_cap" in entry.reconstructed and not entry.published
  entry = catalog.describe("dapo")
  assert entry.published == "clip_eps_low and clip_eps_high."
  assert entry.reconstructed.startswith("epsilon")


def test_names_are_unique_and_start_with_the_usual_root():
  names = catalog.names()
  assert names[0] == "grpo" and len(set(names)) == len(names)
  assert names[-2:] == ("zero_gradient", "sign_flipped")


@pytest.mark.parametrize("name", ["grpo_r1", "grpo_poise"])
def test_a_preset_shares_the_loss_and_replaces_constants(name):
  preset = catalog._PRESETS[name]
  entry, parent = catalog.describe(name), catalog.describe(preset.origin)
  assert entry.loss is parent.loss and entry.title == preset.title
  assert entry.equation == parent.equation and entry.peers == parent.peers
  assert entry.source == preset.source != parent.source
  assert entry.published == preset.published != parent.published
  assert entry.reconstructed == preset.reconstructed
  defaults = parent.defaults | preset.constants
  assert entry.defaults == defaults != parent.defaults
  assert catalog.make(name).name == name
  assert repr(preset.constants["kl_coef"]) in catalog.source(name)


def test_make_replaces_constants_without_touching_the_defaults():
  changed = catalog.make("grpo", clip_eps_high=1)
  assert changed.name == "grpo"
  assert repr(changed.hparams["clip_eps_high"]) == "1.0"
  changed.hparams["clip_eps_low"] = 9.0
  assert catalog.make("grpo").hparams["clip_eps_low"] == 0.2


def test_unknown_names_are_refused_with_the_closest():
  for function in (catalog.make, catalog.describe, catalog.source):
    with pytest.raises(ValueError, match="mean 'dr_grpo'.*vm_av_grpo"):
      function("drgrpo")
  with pytest.raises(ValueError, match="mean 'clip_eps_low'.*kl_coef"):
    catalog.make("grpo", clip_eps_lo=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, True])
def test_constants_must_be_finite_numbers(value):
  with pytest.raises(ValueError, match="`clip_eps_low` of grpo.*finite.*0.2"):
    catalog.make("grpo", clip_eps_low=value)
