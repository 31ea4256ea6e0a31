"""The decoder of all families: embedding, blocks, norm, head."""

from collections.abc import Callable
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from poise_jax import sharding
from poise_jax.models import (
    attention,
    attention_kernels,
    dense,
    families,
    kv_cache,
    rms_norm,
)

TransformerConfig = families.TransformerConfig
Cache = tuple[kv_cache.LayerCache, ...]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
Positions = Int[Array, "S"] | Int[Array, "B S"]


class MLP(nnx.Module):
  """SwiGLU: down(silu(gate(x)) · up(x))."""

  def __init__(self, width: int, inner: int, *, rngs: nnx.Rngs):
    init = nnx.initializers.normal(0.02)

    def project(width_in: int, width_out: int) -> dense.Dense:
      return dense.Dense(
          width_in, width_out, use_bias=False, kernel_init=init, rngs=rngs
      )

    self.gate_proj = project(width, inner)
    self.up_proj = project(width, inner)
    self.down_proj = project(inner, width)

  def __call__(self, x: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
    """Applies the gated layer to the last axis."""
    return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nnx.Module):
  """Pre-norm attention and MLP, each with a residual connection."""

  def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
    width, epsilon = config.hidden_size, config.rms_norm_eps
    self.input_layernorm = rms_norm.RMSNorm(width, epsilon)
    self.self_attn = attention.Attention(config, rngs=rngs)
    self.post_attention_layernorm = rms_norm.RMSNorm(width, epsilon)
    self.mlp = MLP(width, config.intermediate_size, rngs=rngs)

  def __call__(
      self,
      x: Float[Array, "B S N"],
      positions: Positions,
      add_to_cache: attention.AddToCache,
      attend: Callable[[Array, Array, Array], Array],
  ) -> tuple[Float[Array, "B S N"], kv_cache.LayerCache]:
    """Returns new hidden states and the layer's cache."""
    mixed, cache = self.self_attn(
        self.input_layernorm(x), positions, add_to_cache, attend
    )
    x = x + mixed
    return x + self.mlp(self.post_attention_layernorm(x)), cache


class Transformer(nnx.Module):
  """Maps tokens to the logits of the next ones.

  Attributes:
    config: its shape.
    platform: that it runs on; the default one if None.
    attend: attention function; that of the platform if None.
  """

  def __init__(
      self,
      config: TransformerConfig,
      *,
      rngs: nnx.Rngs,
      platform: str | None = None,
      attend: attention.Attend | None = None,
  ):
    self.config, self.platform, self.attend = config, platform, attend
    self.embed_tokens = nnx.Embed(
        config.vocab_size,
        config.hidden_size,
        embedding_init=nnx.initializers.normal(0.02),
        rngs=rngs,
    )
    self.layers = nnx.List(
        [Block(config, rngs=rngs) for _ in range(config.num_hidden_layers)]
    )
    self.norm = rms_norm.RMSNorm(config.hidden_size, config.rms_norm_eps)
    if not config.tie_word_embeddings:
      self.lm_head = dense.Dense(
          config.hidden_size,
          config.vocab_size,
          use_bias=False,
          kernel_init=nnx.initializers.normal(0.02),
          rngs=rngs,
      )

  def hidden(
      self,
      tokens: Int[Array, "B S"],
      prefix: Cache | None = None,
      wrap_block: Wrap = lambda block: block,
      *,
      starts: Int[Array, "B"] | None = None,
      scan: bool = False,
      attend: attention.Attend | None = None,
  ) -> tuple[Float[Array, "B S N"], Cache]:
    """Final hidden states of whole rows, and the cache they leave.

    Args:
      tokens: the rows.
      prefix: cache of tokens that come before, if any.
      wrap_block: applied to each block; `jax.checkpoint` for example.
      starts: padding slots at the left of each row, counted from the first slot
        of the prefix. The first token after them has position 0 and no token
        sees them; what is returned for them has no meaning. None is none.
      scan: whether one compiled block runs over stacked weights, instead of
        one a layer: the program is compiled in a time that does not grow with
        depth, and weights are copied once.
      attend: attention function; the model's own if None.

    Returns:
      Hidden states of `tokens`, and the cache of prefix and tokens.
    """
    length = tokens.shape[1]
    start = prefix[0].keys.shape[2] if prefix else 0
    mask = jnp.tril(jnp.ones((length, start + length), bool), k=start)
    positions, causal = start + jnp.arange(length), start
    if starts is not None:
      # Padding sees itself, lest a row of the mask is empty.
      keys = jnp.arange(start + length)
      filled = keys >= starts[:, None]
      mask &= filled[:, None] | (keys == positions[:, None])
      positions = jnp.maximum(positions - starts[:, None], 0)
      causal = None
    attend = attend or self.attend or _default_attend(self.platform)
    attend = functools.partial(attend, mask=mask, causal=causal)
    adder = (
        kv_cache.append
        if prefix
        else lambda _, *added: kv_cache.LayerCache(*added)
    )
    run = self._scan if scan else self._run
    return run(tokens, positions, prefix, adder, attend, wrap_block)

  def decode(
      self,
      tokens: Int[Array, "B"],
      slot: Int[Array, ""],
      cache: Cache,
      positions: Int[Array, "B"] | None = None,
      mask: Bool[Array, "B U"] | None = None,
      *,
      attend: attention.Attend | None = None,
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Logits after one more token in each row, all in the same cache `slot`.

    Args:
      tokens: one a row.
      slot: where keys and values are written, the same in all rows.
      cache: of what came before; slots from `slot` on are free.
      positions: rotary position of each row's token; `slot` if None.
      mask: slots that each row sees, its own at least; those up to `slot` if
        None.
      attend: attention function; the model's own if None.

    Returns:
      Logits, and the cache with the token in it.
    """
    capacity = cache[0].keys.shape[2]
    if mask is None:
      visible = (jnp.arange(capacity) <= slot)[None, :]
    else:
      visible = mask[:, None, :]
    turns = slot[None] if positions is None else positions[:, None]
    attend = attend or self.attend or _default_attend(self.platform)
    attend = functools.partial(attend, mask=visible)
    adder = lambda layer, *added: kv_cache.update(layer, slot, *added)
    x, cache = self._run(tokens[:, None], turns, cache, adder, attend)
    return self.logits(x[:, 0]), cache

  def _embed(self, tokens: Int[Array, "B S"]) -> Float[Array, "B S N"]:
    # Gathering the table once, and keeping rows where they are, saves the
    # compiler from splitting hidden states by width.
    embedding = sharding.constrain(self.embed_tokens.embedding[...], "vocab")
    return sharding.constrain(jnp.take(embedding, tokens, axis=0), "completion")

  def _run(
      self,
      tokens: Int[Array, "B S"],
      positions: Positions,
      caches: Cache | None,
      adder: Callable[..., kv_cache.LayerCache],
      attend: Callable[..., Array],
      wrap_block: Wrap = lambda block: block,
  ) -> tuple[Float[Array, "B S N"], Cache]:
    x = self._embed(tokens)
    found = []
    befores = caches or [None] * len(self.layers)
    for layer, before in zip(self.layers, befores, strict=True):
      block = functools.partial(
          layer,
          positions=positions,
          add_to_cache=functools.partial(adder, before),
          attend=attend,
      )
      x, cache = wrap_block(block)(x)
      found.append(cache)
    return self.norm(x), tuple(found)

  def _scan(
      self,
      tokens: Int[Array, "B S"],
      positions: Positions,
      caches: Cache | None,
      adder: Callable[..., kv_cache.LayerCache],
      attend: Callable[..., Array],
      wrap_block: Wrap = lambda block: block,
  ) -> tuple[Float[Array, "B S N"], Cache]:
    stack = lambda *leaves: jnp.stack(leaves)
    graphdefs, params = zip(*map(nnx.split, self.layers), strict=True)
    params = jax.tree.map(stack, *params)
    befores = jax.tree.map(stack, *caches) if caches else None

    def step(
        x: Array, layer: tuple[nnx.State, kv_cache.LayerCache | None]
    ) -> tuple[Array, kv_cache.LayerCache]:
      state, before = layer
      return nnx.merge(graphdefs[0], state)(
          x, positions, functools.partial(adder, before), attend
      )

    x, found = jax.lax.scan(
        wrap_block(step), self._embed(tokens), (params, befores)
    )
    layers = range(len(self.layers))
    return self.norm(x), tuple(
        jax.tree.map(lambda stacked, i=i: stacked[i], found) for i in layers
    )

  def logits(self, x: Float[Array, "*B N"]) -> Float[Array, "*B V"]:
    """f32 logits of hidden states, by the head or the transposed embedding."""
    if self.config.tie_word_embeddings:
      kernel = self.embed_tokens.embedding[...].T
    else:
      kernel = self.lm_head.kernel[...]
    return jnp.dot(x, kernel, preferred_element_type=jnp.float32)

  def __call__(self, tokens: Int[Array, "B S"]) -> Float[Array, "B S V"]:
    """Logits at every position of whole rows."""
    return self.logits(self.hidden(tokens)[0])


def _default_attend(platform: str | None) -> attention.Attend:
  return attention_kernels.for_platform(platform or jax.default_backend())


def make(
    config: TransformerConfig, seed: int
) -> tuple[nnx.GraphDef, nnx.State]:
  """Builds a randomly initialised model, split into structure and params."""
  return nnx.split(Transformer(config, rngs=nnx.Rngs(seed)))


def structure(
    config: TransformerConfig,
    platform: str | None = None,
    attend: attention.Attend | None = None,
) -> tuple[nnx.GraphDef, nnx.State]:
  """Structure and abstract params (shapes only), without computing any.

  Args:
    config: shape of the model.
    platform: "cpu", "gpu" or "tpu" to compile for, where it is not the default
      one; it decides how the model attends.
    attend: attention function instead, such as one around a kernel of the
      user's own; all that takes the structure then attends with it.
  """
  make_model = lambda: Transformer(
      config, rngs=nnx.Rngs(0), platform=platform, attend=attend
  )
  return nnx.split(nnx.eval_shape(make_model))
