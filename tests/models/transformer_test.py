"""The decoder: cache against whole rows, causality, padding, scan."""

import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import attention, kv_cache, transformer

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
    rope_theta=100.0,
)

STARTS = (0, 3, 5)
HIDDEN = nnx.jit(transformer.Transformer.hidden)


@pytest.fixture(scope="module")
def model():
  return nnx.merge(*transformer.make(CONFIG, 0))


@pytest.fixture(scope="module")
def tokens():
  return jax.random.randint(jax.random.key(0), (3, 12), 0, 11)


def test_decoding_with_a_cache_equals_reading_whole_rows(model, tokens):
  whole = nnx.jit(model)(tokens)
  _, cache = HIDDEN(model, tokens[:, :5])
  cache = tuple(kv_cache.extend(layer, 7) for layer in cache)
  decode = nnx.jit(transformer.Transformer.decode)
  for position in range(5, 12):
    logits, cache = decode(
        model, tokens[:, position], jnp.int32(position), cache
    )
    np.testing.assert_allclose(logits, whole[:, position], atol=1e-5)


def test_a_shared_prefix_equals_reading_whole_rows(model, tokens):
  rows = jnp.concatenate([jnp.tile(tokens[:1, :5], (3, 1)), tokens[:, 5:]], 1)
  _, cache = HIDDEN(model, tokens[:1, :5])
  prefix = tuple(kv_cache.tile(layer, 3) for layer in cache)
  states, _ = HIDDEN(model, rows[:, 5:], prefix)
  np.testing.assert_allclose(
      model.logits(states), model(rows)[:, 5:], atol=1e-5
  )


def test_no_token_sees_a_later_one(model, tokens):
  changed = tokens.at[:, 7].set((tokens[:, 7] + 1) % 11)
  before, after = model(tokens), model(changed)
  np.testing.assert_array_equal(before[:, :7], after[:, :7])
  assert not np.allclose(before[:, 7:], after[:, 7:])


def test_logits_are_f32_of_the_right_shape(model, tokens):
  logits = model(tokens)
  assert logits.shape == (3, 12, 11)
  assert logits.dtype == jnp.float32


def test_structure_is_that_of_a_made_model():
  graphdef, params = transformer.make(CONFIG, 0)
  abstract_graphdef, abstract = transformer.structure(CONFIG)
  assert graphdef == abstract_graphdef
  shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  assert shapes(params) == shapes(abstract)


def test_swiglu_by_hand():
  mlp = transformer.MLP(1, 1, rngs=nnx.Rngs(0))
  for layer, weight in zip(
      (mlp.gate_proj, mlp.up_proj, mlp.down_proj), (2.0, 3.0, 5.0), strict=True
  ):
    layer.kernel[...] = jnp.array([[weight]])
  # silu(2) * 3 * 5 for x = 1
  expected = 2 / (1 + np.exp(-2)) * 3 * 5
  np.testing.assert_allclose(mlp(jnp.array([[1.0]])), [[expected]], rtol=1e-6)


@pytest.fixture(scope="module")
def padded(tokens):
  """Rows whose first tokens are padding, as many as `STARTS`."""
  filled = jnp.arange(12) >= jnp.array(STARTS)[:, None]
  return jnp.where(filled, tokens, 0)


@pytest.fixture(scope="module")
def alone(model, padded):
  """Logits of each row without its padding, by position."""
  shifted = [
      jnp.roll(row, -start) for row, start in zip(padded, STARTS, strict=True)
  ]
  return np.asarray(nnx.jit(model)(jnp.stack(shifted)))


def test_padding_at_the_left_changes_nothing(model, padded, alone):
  states, _ = HIDDEN(model, padded, starts=jnp.array(STARTS))
  logits = model.logits(states)
  for row, start in enumerate(STARTS):
    np.testing.assert_allclose(
        logits[row, start:], alone[row, : 12 - start], atol=1e-5
    )


def test_what_is_in_the_padding_does_not_matter(model, padded):
  starts = jnp.array(STARTS)
  other = jnp.where(jnp.arange(12) < starts[:, None], 7, padded)
  one, _ = HIDDEN(model, padded, starts=starts)
  two, _ = HIDDEN(model, other, starts=starts)
  for row, start in enumerate(STARTS):
    np.testing.assert_array_equal(one[row, start:], two[row, start:])
  assert np.isfinite(one).all()


def test_no_padding_is_the_same_as_none_given(model, tokens):
  plain, _ = HIDDEN(model, tokens)
  rows, _ = HIDDEN(model, tokens, starts=jnp.zeros(3, jnp.int32))
  np.testing.assert_allclose(rows, plain, atol=1e-6)


def test_padding_counts_from_the_start_of_the_prefix(model, padded):
  starts = jnp.array(STARTS)
  whole, _ = HIDDEN(model, padded, starts=starts)
  # Five are longest: the second half of that row starts without padding.
  _, prefix = HIDDEN(model, padded[:, :5], starts=starts)
  states, cache = HIDDEN(model, padded[:, 5:], prefix, starts=starts)
  np.testing.assert_allclose(states, whole[:, 5:], atol=1e-5)
  assert cache[0].keys.shape == (3, 2, 12, 4)


@pytest.mark.parametrize("gap", [0, 2])
def test_decoding_padded_rows_equals_reading_them_alone(
    model, padded, alone, gap
):
  starts = jnp.array(STARTS)
  _, cache = HIDDEN(model, padded[:, :6], starts=starts)
  # Slots may be left out: rows see what their mask says.
  cache = tuple(kv_cache.extend(layer, 6 + gap) for layer in cache)
  decode = nnx.jit(transformer.Transformer.decode)
  slots = jnp.arange(12 + gap)
  for position in range(6, 12):
    slot = position + gap
    mask = (slots >= starts[:, None]) & (slots <= slot)
    mask &= (slots < 6) | (slots >= 6 + gap)
    logits, cache = decode(
        model,
        padded[:, position],
        jnp.int32(slot),
        cache,
        position - starts,
        mask,
    )
    for row, start in enumerate(STARTS):
      expected = alone[row, position - start]
      np.testing.assert_allclose(logits[row], expected, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda block: block, jax.checkpoint])
@pytest.mark.parametrize("starts", [None, STARTS])
def test_scanned_layers_equal_unrolled_ones(padded, wrap, starts):
  graphdef, params = transformer.make(CONFIG, 0)
  starts = None if starts is None else jnp.array(starts)
  first, rest = padded[:, :6], padded[:, 6:]

  @functools.partial(jax.jit, static_argnames="scan")
  def run(params, scan):
    def loss(params):
      model = nnx.merge(graphdef, params)
      options = {"wrap_block": wrap, "starts": starts, "scan": scan}
      _, prefix = model.hidden(first, **options)
      states, cache = model.hidden(rest, prefix, **options)
      return jnp.sum(jax.nn.log_softmax(model.logits(states))[..., 3]), (
          states,
          cache,
      )

    return jax.value_and_grad(loss, has_aux=True)(params)

  unrolled, scanned = run(params, False), run(params, True)
  assert jax.tree.structure(unrolled) == jax.tree.structure(scanned)
  for one, other in zip(
      *map(jax.tree.leaves, (unrolled, scanned)), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(unrolled[0][1][0], scanned[0][1][0], atol=1e-6)


def test_a_scanned_program_does_not_grow_with_depth():
  def operations(layers, scan):
    config = dataclasses.replace(CONFIG, num_hidden_layers=layers)
    graphdef, params = transformer.structure(config)
    run = lambda p, t: nnx.merge(graphdef, p).hidden(t, scan=scan)[0]
    text = jax.jit(run).lower(params, jnp.zeros((2, 4), int)).as_text()
    return text.count("dot_general")

  assert operations(8, True) == operations(2, True)
  assert operations(8, False) > 3 * operations(2, False)


def test_an_untied_head_is_its_own(tokens):
  config = dataclasses.replace(CONFIG, tie_word_embeddings=False)
  model = nnx.merge(*transformer.make(config, 0))
  states, _ = HIDDEN(model, tokens)
  head = np.asarray(model.lm_head.kernel[...], np.float64)
  np.testing.assert_allclose(
      model.logits(states), np.asarray(states) @ head, atol=1e-5
  )


def test_another_attention_function_is_used(model, tokens):
  seen = []

  def attend(queries, keys, values, mask, causal=None):
    seen.append((mask.shape, causal))
    return attention.attend(queries, keys, values, mask)

  def run(model):
    _, cache = model.hidden(tokens[:, :4], attend=attend)
    model.hidden(tokens[:, 4:], cache, attend=attend)
    model.hidden(tokens, starts=jnp.array(STARTS), attend=attend)
    model.decode(tokens[:, 0], jnp.int32(3), cache, attend=attend)

  nnx.eval_shape(run, model)
  assert seen[::2] == [
      ((4, 4), 0),
      ((8, 12), 4),
      ((3, 12, 12), None),
      ((1, 4), None),
  ]


def test_a_structure_brings_its_attention_function_along(model, tokens):
  def attend_none(queries, keys, values, mask, causal=None):
    return jnp.zeros_like(queries)

  graphdef, _ = transformer.structure(CONFIG, attend=attend_none)
  other = nnx.merge(graphdef, nnx.state(model))
  changed = tokens.at[:, 0].set((tokens[:, 0] + 1) % 11)
  last = lambda model, tokens: model.hidden(tokens)[0][:, -1]
  # Nobody looks back: what came first makes no difference any more.
  np.testing.assert_array_equal(last(other, tokens), last(other, changed))
  assert np.abs(last(model, tokens) - last(model, changed)).max() > 1e-3
