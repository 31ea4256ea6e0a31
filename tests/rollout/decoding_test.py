"""Steps of decoding: padding, temperature, what is kept."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import families, transformer
from poise_jax.rollout import decoding, generate, prompt_batches, sampling

CONFIG = families.TransformerConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)


@pytest.fixture(scope="module")
def policy():
  graphdef, params = transformer.make(CONFIG, 0)
  # Weights large enough for a distribution that is far from even.
  return graphdef, jax.tree.map(lambda p: 4 * p, params)


def _generate(policy, prompts, **changes):
  settings = dict(copies=2, max_length=6, eos_ids=(), pad_id=0) | changes
  run = generate.make_generate(policy[0], sampling.sample, **settings)
  return jax.device_get(run(policy[1], prompts, jax.random.key(2)))


def _padded(rows, width, filler):
  tokens = np.full((len(rows), width), filler, np.int32)
  starts = np.array([width - len(row) for row in rows], np.int32)
  for row, start, prompt in zip(tokens, starts, rows, strict=True):
    row[start:] = prompt
  return prompt_batches.Prompts(jnp.asarray(tokens), jnp.asarray(starts))


ROWS = ([4, 9, 2], [8, 1, 30, 17, 5], [6])


def test_padding_changes_nothing(policy):
  tight = _generate(policy, _padded(ROWS, 5, 0))
  loose = _generate(policy, _padded(ROWS, 11, 13))
  np.testing.assert_array_equal(tight.tokens, loose.tokens)
  np.testing.assert_allclose(tight.logprobs, loose.logprobs, atol=1e-5)


def test_padded_rows_are_written_as_if_alone(policy):
  together = _generate(policy, _padded(ROWS, 5, 0), copies=1)
  model = nnx.jit(nnx.merge(*policy))
  for row, tokens, logprobs in zip(
      ROWS, together.tokens, together.logprobs, strict=True
  ):
    whole = jnp.asarray([[*row, *tokens]])
    expected = jax.nn.log_softmax(model(whole)[0, len(row) - 1 : -1])
    np.testing.assert_allclose(
        logprobs, expected[np.arange(6), tokens], atol=1e-5
    )


def test_logprobs_are_at_the_temperature(policy):
  prompts = _padded(ROWS, 5, 0)
  found = _generate(policy, prompts, temperature=2.5, copies=1)
  model = nnx.jit(nnx.merge(*policy))
  whole = jnp.asarray([[*ROWS[1], *found.tokens[1]]])
  logits = np.asarray(model(whole), np.float64)[0, 4:-1] / 2.5
  logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  np.testing.assert_allclose(
      found.logprobs[1], logprobs[np.arange(6), found.tokens[1]], atol=1e-5
  )


def test_any_of_several_ends_ends(policy):
  found = _generate(
      policy, _padded(ROWS, 5, 0), copies=64, max_length=24, eos_ids=(2, 9, 21)
  )
  for tokens, mask, finished in zip(
      found.tokens, found.mask, found.finished, strict=True
  ):
    ends = np.flatnonzero(np.isin(tokens[mask > 0], (2, 9, 21)))
    assert list(ends) == ([mask.sum() - 1] if finished else [])
    assert not mask[int(mask.sum()) :].any()
  last = found.tokens[np.arange(192), found.mask.sum(1).astype(int) - 1]
  assert set(last[found.finished > 0]) == {2, 9, 21}


def test_resizing_keeps_what_goes_on_in_order():
  state = decoding.Decoding(
      step=jnp.int32(3),
      logits=jnp.arange(8.0)[:, None],
      cache=(transformer.kv_cache.LayerCache(*(jnp.ones((8, 1, 2, 1)),) * 2),),
      starts=None,
      uniforms=jnp.arange(8.0)[:, None],
      rows=jnp.arange(8),
      alive=jnp.array([0, 1, 0, 0, 1, 0, 0, 1.0]),
      enough=jnp.int32(2),
  )
  kept = decoding.resize(state, 4, 5)
  assert kept.rows.tolist() == [1, 4, 7, 0]
  assert kept.logits[:, 0].tolist() == kept.uniforms[:, 0].tolist()
  assert kept.cache[0].keys.shape == (4, 1, 5, 1)
  np.testing.assert_array_equal(kept.cache[0].values[:, 0, :, 0].sum(1), 2)
  # In two shards, each keeps two of its own four.
  kept = decoding.resize(state, 4, 2, 2)
  assert kept.rows.tolist() == [1, 0, 4, 7]
  assert int(kept.step) == 3 and kept.starts is None
  # Dealt anew: those that go on in turn, then others.
  kept = decoding.resize(state, 4, 2, 2, move=True)
  assert kept.rows.tolist() == [1, 7, 4, 0]
  assert kept.alive.tolist() == [1, 1, 1, 0] and int(kept.enough) == 2


def test_a_stretch_ends_when_few_rows_go_on_or_the_cache_is_full(policy):
  prompts = _padded(ROWS, 5, 0)
  model = nnx.merge(*policy)
  whole = _generate(policy, prompts, copies=8, max_length=9, eos_ids=(2, 9, 21))
  going_on = [(whole.mask.sum(1) > step).sum() for step in range(10)]
  start = jax.jit(
      lambda: decoding.prefill(
          model,
          prompts,
          jnp.arange(24),
          jax.random.key(2),
          room=7,
          max_length=9,
      )
  )

  @jax.jit
  def advance(state):
    return decoding.advance(
        model,
        state,
        sampling.sample,
        length=6,
        prompt_length=5,
        temperature=1.0,
        eos_ids=(2, 9, 21),
        pad_id=0,
    )

  enough = going_on[3]
  assert enough < going_on[2] and going_on[7] > 0
  state, written = advance(start()._replace(enough=jnp.int32(enough)))
  assert int(state.step) == 3
  np.testing.assert_array_equal(written.tokens[:3].T, whole.tokens[:, :3])
  assert not written.mask[3:].any()
  # Four slots are left, and six tokens until the end.
  state, written = advance(state._replace(enough=jnp.int32(0)))
  assert int(state.step) == 7
  np.testing.assert_array_equal(written.tokens[:4].T, whole.tokens[:, 3:7])
  np.testing.assert_array_equal(written.mask[:4].T, whole.mask[:, 3:7])
  assert not written.mask[4:].any()
  # Two tokens are left of a stretch of six.
  state, written = advance(decoding.resize(state, 24, 14))
  assert int(state.step) == 9
  np.testing.assert_array_equal(written.tokens[:2].T, whole.tokens[:, 7:])


def test_numbers_out_of_range(policy):
  with pytest.raises(ValueError, match="`temperature` must be positive"):
    _generate(policy, _padded(ROWS, 5, 0), temperature=0.0)
  with pytest.raises(ValueError, match="`copies` and `max_length`"):
    _generate(policy, _padded(ROWS, 5, 0), copies=0)
