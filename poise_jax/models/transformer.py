"""A Qwen2 decoder: embedding, blocks, norm, tied head.

See "Qwen2 Technical Report" (https://arxiv.org/abs/2407.10671).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from poise_jax import sharding
from poise_jax.models import attention, dense, kv_cache

Cache = tuple[kv_cache.LayerCache, ...]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Shape of a Qwen2 model; field names are those of its config.json."""

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  max_position_embeddings: int
  rope_theta: float = 10000.0
  rms_norm_eps: float = 1e-6

  @property
  def head_dim(self) -> int:
    """Width of one attention head."""
    return self.hidden_size // self.num_attention_heads

  def __post_init__(self):
    if self.hidden_size % self.num_attention_heads:
      raise ValueError(
          "`hidden_size` must be a multiple of `num_attention_heads`, got"
          f" {self.hidden_size} and {self.num_attention_heads}"
      )
    if self.num_attention_heads % self.num_key_value_heads:
      raise ValueError(
          "`num_attention_heads` must be a multiple of `num_key_value_heads`,"
          f" got {self.num_attention_heads} and {self.num_key_value_heads}"
      )


def config_from_hf(fields: Mapping[str, Any]) -> TransformerConfig:
  """Reads the contents of a Hugging Face config.json.

  Raises:
    ValueError: if it describes another architecture than Qwen2 with a tied
      head and plain rotary positions, or lacks a field.
  """
  if fields.get("model_type") != "qwen2":
    raise ValueError(
        "`model_type` must be 'qwen2', got"
        f" {fields.get('model_type')!r}; other architectures cannot be loaded"
    )
  if not fields.get("tie_word_embeddings"):
    raise ValueError(
        "`tie_word_embeddings` must be true: an untied head cannot be loaded"
    )
  rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
  if rope.get("rope_type", "default") != "default":
    raise ValueError(
        f"rotary scaling must be 'default', got {rope['rope_type']!r}"
    )
  fields = {**rope, **fields}
  names = {f.name for f in dataclasses.fields(TransformerConfig)}
  required = names - {"rope_theta", "rms_norm_eps"}
  if missing := sorted(required - set(fields)):
    raise ValueError(f"config.json lacks {', '.join(missing)}")
  return TransformerConfig(**{k: v for k, v in fields.items() if k in names})


class RMSNorm(nnx.Module):
  """x / rms(x) · weight, computed in f32."""

  def __init__(self, width: int, epsilon: float):
    self.weight = nnx.Param(jnp.ones(width))
    self.epsilon = epsilon

  def __call__(self, x: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
    """Normalises the last axis."""
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    scaled = wide * jax.lax.rsqrt(mean_square + self.epsilon)
    return (scaled * self.weight[...]).astype(x.dtype)


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
    self.input_layernorm = RMSNorm(width, epsilon)
    self.self_attn = attention.Attention(
        width,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        rope_theta=config.rope_theta,
        rngs=rngs,
    )
    self.post_attention_layernorm = RMSNorm(width, epsilon)
    self.mlp = MLP(width, config.intermediate_size, rngs=rngs)

  def __call__(
      self,
      x: Float[Array, "B S N"],
      positions: Int[Array, "S"],
      mask: Bool[Array, "S U"],
      add_to_cache: attention.AddToCache,
  ) -> tuple[Float[Array, "B S N"], kv_cache.LayerCache]:
    """Returns new hidden states and the layer's cache."""
    mixed, cache = self.self_attn(
        self.input_layernorm(x), positions, mask, add_to_cache
    )
    x = x + mixed
    return x + self.mlp(self.post_attention_layernorm(x)), cache


class Transformer(nnx.Module):
  """Maps tokens to the logits of the next ones."""

  def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.embed_tokens = nnx.Embed(
        config.vocab_size,
        config.hidden_size,
        embedding_init=nnx.initializers.normal(0.02),
        rngs=rngs,
    )
    self.layers = nnx.List(
        [Block(config, rngs=rngs) for _ in range(config.num_hidden_layers)]
    )
    self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

  def hidden(
      self,
      tokens: Int[Array, "B S"],
      prefix: Cache | None = None,
      wrap_block: Wrap = lambda block: block,
  ) -> tuple[Float[Array, "B S N"], Cache]:
    """Final hidden states of whole rows, and the cache they leave.

    Args:
      tokens: the rows.
      prefix: cache of tokens that come before, if any.
      wrap_block: applied to each block; `jax.checkpoint` for example.

    Returns:
      Hidden states of `tokens`, and the cache of prefix and tokens.
    """
    length = tokens.shape[1]
    start = prefix[0].keys.shape[2] if prefix else 0
    mask = jnp.tril(jnp.ones((length, start + length), bool), k=start)
    adders = (
        [functools.partial(kv_cache.append, layer) for layer in prefix]
        if prefix
        else [kv_cache.LayerCache] * len(self.layers)
    )
    positions = start + jnp.arange(length)
    return self._run(tokens, positions, mask, adders, wrap_block)

  def decode(
      self,
      tokens: Int[Array, "B"],
      position: Int[Array, ""],
      cache: Cache,
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Logits after one more token in each row, all at the same `position`."""
    capacity = cache[0].keys.shape[2]
    mask = (jnp.arange(capacity) <= position)[None, :]
    adders = [
        functools.partial(kv_cache.update, layer, position) for layer in cache
    ]
    x, cache = self._run(tokens[:, None], position[None], mask, adders)
    return self.logits(x[:, 0]), cache

  def _run(
      self,
      tokens: Int[Array, "B S"],
      positions: Int[Array, "S"],
      mask: Bool[Array, "S U"],
      adders: Sequence[attention.AddToCache],
      wrap_block: Wrap = lambda block: block,
  ) -> tuple[Float[Array, "B S N"], Cache]:
    # Gathering the table once, and keeping rows where they are, saves the
    # compiler from splitting hidden states by width.
    embedding = sharding.constrain(self.embed_tokens.embedding[...], "vocab")
    x = sharding.constrain(jnp.take(embedding, tokens, axis=0), "completion")
    caches = []
    for layer, add_to_cache in zip(self.layers, adders, strict=True):
      block = functools.partial(
          layer, positions=positions, mask=mask, add_to_cache=add_to_cache
      )
      x, cache = wrap_block(block)(x)
      caches.append(cache)
    return self.norm(x), tuple(caches)

  def logits(self, x: Float[Array, "*B N"]) -> Float[Array, "*B V"]:
    """f32 logits of hidden states, by the transposed embedding."""
    embedding = self.embed_tokens.embedding[...]
    return jnp.dot(x, embedding.T, preferred_element_type=jnp.float32)

  def __call__(self, tokens: Int[Array, "B S"]) -> Float[Array, "B S V"]:
    """Logits at every position of whole rows."""
    return self.logits(self.hidden(tokens)[0])


def make(
    config: TransformerConfig, seed: int
) -> tuple[nnx.GraphDef, nnx.State]:
  """Builds a randomly initialised model, split into structure and params."""
  return nnx.split(Transformer(config, rngs=nnx.Rngs(seed)))


def structure(config: TransformerConfig) -> tuple[nnx.GraphDef, nnx.State]:
  """Structure and abstract params (shapes only), without computing any."""
  model = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
  return nnx.split(model)
