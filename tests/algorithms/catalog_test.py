import functools
import types as python_types

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    catalog,
    kl,
    masks,
    ratios,
)

P, G, T = 4, 8, 6
CONSTANT_FIELDS = ("old_logprobs", "sampler_logprobs", "ref_logprobs")
TOKEN_FIELDS = ("logprobs", "entropy", *CONSTANT_FIELDS)
# Constants at which every term of a loss is active.
ACTIVE = {
    "grpo": {"kl_coef": 0.3},
    "bn_grpo": {"kl_coef": 0.3, "entropy_coef": 0.1},
}
# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
every_name = pytest.mark.parametrize("name", catalog.names())


def make_arrays():
  """A batch with a mixed, a failed, a solved and a partly invalid group."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, T + 1, (P, G))
  mask = (np.arange(T) < lengths[..., None]).astype(np.float32)
  correct = np.zeros((P, G))
  correct[0, [1, 4, 5]] = correct[2] = correct[3, 2] = 1
  valid = np.ones((P, G))
  valid[0, 6] = valid[1, 3] = 0
  valid[3, 4:] = 0
  old = -rng.exponential(1.0, (P, G, T))
  arrays = {
      "logprobs": old + rng.normal(0, 0.3, (P, G, T)),
      "entropy": rng.uniform(0, 2, (P, G, T)),
      "old_logprobs": old,
      "sampler_logprobs": old + rng.normal(0, 0.01, (P, G, T)),
      "ref_logprobs": old + rng.normal(0, 0.5, (P, G, T)),
  }
  arrays = {key: value * mask for key, value in arrays.items()}
  arrays |= {
      "completion_mask": mask,
      "rewards": correct,
      "correct": correct,
      "format_valid": valid,
      "truncated": (lengths == T) * 1.0,
      "lengths": mask.sum(axis=2),
      "staleness": np.zeros((P, G)),
      "reward_components": np.stack([correct, valid], axis=2),
      "history_pass_rate": np.full(P, 0.5),
      "progress": np.array(0.25),
  }
  arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
  return arrays | {"step": np.array(3, np.int32)}


def differentiated(loss_fn):
  """Maps (tokens, hparams, arrays) to ((value, metrics), gradients)."""

  def loss(tokens, hparams, arrays):
    batch = types.RolloutBatch(**(arrays | tokens))
    value, state, metrics = loss_fn(hparams, {}, batch)
    assert state == {}
    return value, metrics

  return jax.value_and_grad(loss, has_aux=True)


@fast_jit
def run_all(tokens, hparams, arrays):
  """Every entry at once: one compilation for each shape."""
  return {
      name: differentiated(catalog.make(name).loss)(tokens, values, arrays)
      for name, values in hparams.items()
  }


def run(name, arrays, **hparams):
  """The loss, its metrics and its gradients as numpy arrays."""
  constants = {
      n: catalog.make(n, **ACTIVE.get(n, {})).hparams for n in catalog.names()
  }
  constants[name] = constants[name] | hparams
  results = run_all(tokens_of(arrays), constants, arrays)
  (value, metrics), grads = jax.tree.map(np.asarray, results[name])
  return value, metrics, grads


def tokens_of(arrays):
  return {key: arrays[key] for key in TOKEN_FIELDS}


def exec_source(name):
  atoms = (advantages, ratios, kl, masks, aggregation)
  namespace = {module.__name__.split(".")[-1]: module for module in atoms}
  namespace["jnp"] = jnp
  namespace["jax"] = python_types.SimpleNamespace(nn=jax.nn, lax=jax.lax)
  exec(catalog.source(name), namespace)  # noqa: S102
  return namespace


def assert_finite(result):
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


def oracle_advantages(name, hp, b):
  """Evaluates in float64, from the equations alone."""
  r, v = b["rewards"], b["format_valid"]
  if "format_penalty" in hp:
    r = r - hp["format_penalty"] * (1 - v)
  centred = r - r.mean(axis=1, keepdims=True)
  sigma = r.std(axis=1, keepdims=True)
  if name in ("dr_grpo", "zero_gradient"):
    return centred
  if name == "rloo":
    return r - (r.sum(axis=1, keepdims=True) - r) / (G - 1)
  if name == "bn_grpo":
    scaled = centred / (np.sqrt(np.mean(centred**2)) + hp["epsilon"])
    return np.clip(scaled, -hp["advantage_clip"], hp["advantage_clip"])
  if name == "av_grpo":
    variance = np.mean(r**2, 1) - np.mean(r, 1) ** 2
    return centred / np.maximum(np.sqrt(variance), hp["sigma_min"])[:, None]
  if name == "vm_av_grpo":
    return oracle_vm_av(hp, b)
  sign = -1 if name == "sign_flipped" else 1
  return sign * centred / (sigma + hp["epsilon"])


def oracle_vm_av(hp, b):
  r, lengths = b["rewards"], b["lengths"]
  valid = b["format_valid"] > 0  # some are, in each group of this batch
  total = valid.sum(axis=1, keepdims=True)
  successes = np.where(valid, r, 0).sum(axis=1, keepdims=True)
  mean = (successes + hp["alpha"]) / (total + hp["alpha"] + hp["beta"])
  adv = (r - mean) / np.maximum(np.sqrt(mean - mean**2), hp["sigma_floor"])
  usual = np.where(valid, lengths, 0).sum(axis=1, keepdims=True) / total
  relative = np.clip(lengths / usual, hp["length_low"], hp["length_high"])
  adv = np.where(adv < 0, adv / relative, adv)
  adv = np.clip(adv, -hp["advantage_clip"], hp["advantage_clip"])
  return np.where(valid, adv, hp["invalid_advantage"])


def oracle_loss(name, hp, b, adv):
  mask = b["completion_mask"] > 0
  a = np.broadcast_to(adv[..., None], mask.shape)[mask]
  lp = b["logprobs"][mask]
  r = np.exp(lp - b["old_logprobs"][mask])
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  losses = -np.minimum(r * a, np.clip(r, low, high) * a)
  x = lp - b["ref_logprobs"][mask]
  losses = losses + hp.get("kl_coef", 0.0) * (np.exp(-x) - 1 + x)
  losses = losses - hp.get("entropy_coef", 0.0) * b["entropy"][mask]
  if name == "dr_grpo":
    return losses.sum() / (P * G * hp["length_constant"])
  return losses.mean()


def central_differences(f, x, step=1e-5):
  grads = np.zeros_like(x)
  for index in np.ndindex(x.shape):
    up, down = x.copy(), x.copy()
    up[index] += step
    down[index] -= step
    grads[index] = (f(up) - f(down)) / (2 * step)
  return grads


@every_name
def test_matches_a_float64_evaluation(name):
  arrays = make_arrays()
  value, _, grads = run(name, arrays)
  hp = catalog.make(name, **ACTIVE.get(name, {})).hparams
  b = {key: np.asarray(v, np.float64) for key, v in arrays.items()}
  adv = oracle_advantages(name, hp, b)

  ratio = np.exp(b["logprobs"] - b["old_logprobs"])
  assert (ratio < 0.75).any() and (ratio > 1.3).any()  # outside every clip
  close(value, oracle_loss(name, hp, b, adv), rtol=2e-5)
  for field in CONSTANT_FIELDS:
    np.testing.assert_array_equal(grads[field], 0.0)
  if name == "zero_gradient":
    np.testing.assert_array_equal(grads["logprobs"], 0.0)
    return
  assert np.any(grads["logprobs"] != 0)
  for field in ("logprobs", "entropy"):
    expected = central_differences(
        lambda x, f=field: oracle_loss(name, hp, b | {f: x}, adv), b[field]
    )
    atol = 2e-7 * np.abs(expected).max()
    close(grads[field], expected, rtol=2e-5, atol=atol)


@every_name
def test_padding_changes_nothing(name):
  arrays = make_arrays()
  padded = {
      k: np.pad(v, ((0, 0), (0, 0), (0, 3))) if v.shape == (P, G, T) else v
      for k, v in arrays.items()
  }
  result, (*wide_scalars, wide_grads) = run(name, arrays), run(name, padded)
  jax.tree.map(close, wide_scalars, list(result[:2]))
  wide = wide_grads["logprobs"]
  close(wide[..., :T], result[2]["logprobs"], atol=1e-8)
  np.testing.assert_array_equal(wide[..., T:], 0.0)


@every_name
@pytest.mark.parametrize("axis", [0, 1])
def test_order_does_not_matter(name, axis):
  # Axis 0 permutes the groups, axis 1 the completions inside each group.
  arrays = make_arrays()
  order = np.random.default_rng(1).permutation((P, G)[axis])
  permuted = {
      k: np.take(v, order, axis) if v.ndim > axis else v
      for k, v in arrays.items()
  }
  value, _, grads = run(name, arrays)
  other_value, _, other_grads = run(name, permuted)
  close(other_value, value)
  expected = np.take(grads["logprobs"], order, axis)
  close(other_grads["logprobs"], expected, rtol=2e-5)


@every_name
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_masked_slots_never_leak(name, junk):
  arrays = make_arrays()
  live = arrays["completion_mask"] > 0
  dirty = arrays | {
      key: np.where(live, arrays[key], np.float32(junk)) for key in TOKEN_FIELDS
  }
  jax.tree.map(
      np.testing.assert_array_equal, run(name, dirty), run(name, arrays)
  )


@every_name
def test_without_tokens_the_loss_and_its_gradients_are_zero(name):
  arrays = make_arrays()
  arrays["completion_mask"] = np.zeros((P, G, T), np.float32)
  arrays["lengths"] = np.zeros((P, G), np.float32)
  value, metrics, grads = run(name, arrays)
  assert value == 0.0
  assert_finite((value, metrics, grads))
  jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0.0), grads)


@every_name
@pytest.mark.parametrize(
    "rewards, valid",
    [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (1000.1, 1.0)],
    ids=["all_fail", "all_pass", "all_invalid", "all_equal"],
)
def test_uniform_groups(name, rewards, valid):
  arrays = make_arrays()
  arrays["rewards"] = np.full((P, G), rewards, np.float32)
  arrays["correct"] = np.full((P, G), min(rewards, 1.0), np.float32)
  arrays["format_valid"] = np.full((P, G), valid, np.float32)
  value, metrics, grads = run(
      name, arrays, **dict.fromkeys(ACTIVE.get(name, {}), 0.0)
  )
  assert_finite((value, metrics, grads))
  if name != "vm_av_grpo" or not valid:
    assert value == 0.0
    np.testing.assert_array_equal(grads["logprobs"], 0.0)
  else:
    assert np.any(grads["logprobs"] != 0)


@every_name
def test_groups_of_one_are_finite(name):
  arrays = {k: v[:, :1] if v.ndim > 1 else v for k, v in make_arrays().items()}
  assert_finite(run(name, arrays))


@every_name
def test_source_defines_the_same_program(name):
  # Equal jaxprs of value and gradient: equal numbers on every input.
  namespace = exec_source(name)
  hparams = catalog.make(name).hparams
  assert namespace["HPARAMS"] == hparams
  assert namespace["init"](hparams) == {}
  arrays = make_arrays()
  programs = [
      jax.make_jaxpr(differentiated(loss))(tokens_of(arrays), hparams, arrays)
      for loss in (namespace["loss"], catalog.make(name).loss)
  ]
  assert str(programs[0]) == str(programs[1])
  assert not programs[0].consts and not programs[1].consts


@every_name
def test_source_reads_like_a_candidate(name):
  text = catalog.source(name)
  assert text.startswith('"""')
  assert text.endswith("  return loss, state, metrics\n")
  assert "import" not in text and "types." not in text
  assert "def loss(hparams, state, batch):\n  mask =" in text
  assert max(map(len, text.splitlines())) <= 80
  assert len(text.split("def loss")[1].splitlines()) <= 41


@every_name
def test_exports_at_symbolic_shapes(name):
  p, t = export.symbolic_shape("P, T")
  sizes = {P: p, T: t}
  arrays = make_arrays()
  hparams = {k: np.float32(v) for k, v in catalog.make(name).hparams.items()}
  specs, scalars = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          [sizes.get(n, n) for n in x.shape], x.dtype
      ),
      (arrays, hparams),
  )
  program = jax.jit(differentiated(catalog.make(name).loss))
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    exported = export.export(program)(tokens_of(specs), scalars, specs)
  text = exported.mlir_module().replace("custom_call @shape_assertion", "")
  assert "custom_call" not in text
  if name == "vm_av_grpo":  # running one is enough to trust the text
    (value, _), _ = fast_jit(exported.call)(tokens_of(arrays), hparams, arrays)
    close(value, run(name, arrays)[0])


@every_name
def test_description(name):
  entry = catalog.describe(name)
  assert entry.name == name and entry.source
  assert entry.family in ("baseline", "poise", "canary")
  assert "A = " in entry.equation or "loss = " in entry.equation
  assert entry.title.endswith(".") and "\n" not in entry.title
  assert entry.defaults == catalog.make(name).hparams


def test_hand_computed_baselines():
  # Four equal groups, one token each: rewards 1 then zeros, the last two
  # invalid, ratio 1.5 at the success and 1 elsewhere. Seven completions fail.
  ones = np.ones((P, 1), np.float32)
  first_token = np.zeros((P, G, T), np.float32)
  first_token[..., 0] = 1
  rewards = ones * (np.arange(G) == 0)
  log_ratio = np.log(1.5) * rewards[..., None]
  arrays = make_arrays() | {
      "completion_mask": first_token,
      "old_logprobs": -first_token,
      "ref_logprobs": -first_token,
      "logprobs": ((log_ratio - 1) * first_token).astype(np.float32),
      "rewards": rewards.astype(np.float32),
      "format_valid": ones * (np.arange(G) < 6).astype(np.float32),
  }
  # GRPO: mean 1/8, deviation sqrt(7)/8. A is sqrt(7), then -1/sqrt(7).
  # With the penalty: mean -1/8, mean square 3/8, deviation sqrt(23)/8, and
  # A is 9, five times 1, twice -7, over sqrt(23).
  root7, root23 = 7**0.5, 23**0.5
  k3 = 1 / 1.5 - 1 + np.log(1.5)
  expected = {
      "grpo": (-0.2 * root7 + 0.3 * k3) / 8,
      "dr_grpo": -0.2 * 0.875 / (8 * 31),
      "rloo": -0.2 / 8,
      "dapo": -0.28 * root7 / 8,
      "grpo_format_penalty": -0.2 * 9 / root23 / 8,
  }
  for name, value in expected.items():
    close(run(name, arrays)[0], value, atol=0.0)


def test_make_replaces_constants_without_touching_the_defaults():
  changed = catalog.make("grpo", clip_eps_high=1)
  assert changed.name == catalog.names()[0] == "grpo"
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
