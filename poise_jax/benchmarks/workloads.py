"""Fixed pieces of work for a policy with random weights."""

from collections.abc import Callable
import contextlib
import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from poise_jax import sharding, types
from poise_jax.algorithms import catalog
from poise_jax.models import logical_axes, transformer
from poise_jax.rollout import (
    engine,
    generate,
    prompt_batches,
    sampling,
    scoring,
)
from poise_jax.training import step


@dataclasses.dataclass(frozen=True)
class Workload:
  """One fixed piece of work.

  Attributes:
    model: shape of the policy.
    prompts: in a batch.
    group_size: completions of each.
    prompt_tokens: of each prompt.
    new_tokens: of each completion, exactly, or at most if `ends` is given.
    ends: how many tokens of the vocabulary end a completion.
    schedule: in which pieces completions are sampled.
    micro_batches: parts in which the update goes through the policy.
    devices: most that it is spread over; 0 is all.
    options: memory and precision of the update, precision of sampling.
  """

  model: transformer.TransformerConfig
  prompts: int
  group_size: int
  prompt_tokens: int
  new_tokens: int
  ends: int = 0
  schedule: generate.Schedule = generate.Schedule()
  micro_batches: int = 1
  devices: int = 0
  options: scoring.ScoreOptions = scoring.ScoreOptions()

  @property
  def rows(self) -> int:
    """Completions in all."""
    return self.prompts * self.group_size


_SMALL = transformer.TransformerConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
)
_QWEN25_1P5B = transformer.TransformerConfig(
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    rope_theta=1e6,
)
# One step of training, and sampling alone.
W1 = Workload(_SMALL, 32, 8, 32, 64)
W2 = Workload(_SMALL, 64, 1, 32, 128, schedule=generate.Schedule(segment=32))
# The same with lengths that are geometric, a quarter of the longest on average:
# random weights make all tokens nearly equally probable, 16 of 512 end a row.
# On one device: several that are one processor wait for each other after each
# token, which for the last few rows takes longer than the token itself.
W2_SKEWED = dataclasses.replace(
    W2, ends=16, schedule=generate.Schedule(segment=16), devices=1
)
# The longest row holds up all others.
W2_STATIC = dataclasses.replace(W2_SKEWED, schedule=generate.Schedule())
# A real size, for an accelerator.
W3 = Workload(
    _QWEN25_1P5B,
    prompts=32,
    group_size=8,
    prompt_tokens=128,
    new_tokens=512,
    schedule=generate.Schedule(segment=128),
    micro_batches=8,
    options=scoring.ScoreOptions(
        chunk=128, compute_dtype="bfloat16", remat="block", scan=True
    ),
)


def make_mesh(workload: Workload) -> jax.sharding.Mesh:
  """The devices of a workload, each with a part of the prompts."""
  devices = jax.devices()[: workload.devices or None]
  return sharding.make_mesh(sharding.MeshConfig(data=len(devices)), devices)


def in_mesh(mesh: jax.sharding.Mesh) -> contextlib.AbstractContextManager:
  """What programs on several devices have to run in."""
  return jax.set_mesh(mesh) if mesh.size > 1 else contextlib.nullcontext()


def start(
    workload: Workload, mesh: jax.sharding.Mesh
) -> tuple[nnx.GraphDef, nnx.State, prompt_batches.Prompts]:
  """Makes a policy with random weights and random prompts, on the mesh.

  Raises:
    ValueError: if the devices do not divide the prompts.
  """
  sharding.check_batch(
      sharding.MeshConfig(data=mesh.size),
      prompts=workload.prompts,
      minibatches=1,
      micro_batches=workload.micro_batches,
  )
  graphdef, abstract = transformer.structure(workload.model)
  rng = np.random.default_rng(0)
  split = logical_axes.parameter_shardings(mesh, abstract)
  # On the host: a program that draws each leaf takes longer to compile than
  # the leaves take to draw.
  draw = functools.partial(_draw, rng)
  params = jax.tree.map_with_path(draw, abstract)
  params = sharding.place(mesh, params, split)
  shape = (workload.prompts, workload.prompt_tokens)
  prompts = rng.integers(0, workload.model.vocab_size, shape, np.int32)
  return (
      graphdef,
      params,
      sharding.place(mesh, prompt_batches.Prompts(prompts)),
  )


def _draw(
    rng: np.random.Generator,
    path: jax.tree_util.KeyPath,
    leaf: jax.ShapeDtypeStruct,
) -> np.ndarray:
  """Weights as a fresh policy has them, not the same numbers."""
  if "norm" in jax.tree_util.keystr(path):
    return np.ones(leaf.shape, leaf.dtype)
  drawn = rng.standard_normal(leaf.shape, np.float32)
  return (0.02 * drawn).astype(leaf.dtype)


def make_rollout(
    workload: Workload, graphdef: nnx.GraphDef
) -> generate.GenerateFn:
  """Samples at temperature 1."""
  run = generate.make_generate(
      graphdef,
      sampling.sample,
      copies=workload.group_size,
      max_length=workload.new_tokens,
      eos_ids=tuple(range(workload.ends)),
      pad_id=0,
      schedule=workload.schedule,
  )
  if workload.options.compute_dtype == "float32":
    return run
  prepare = engine.make_prepare(workload.options.compute_dtype)
  return lambda params, prompts, key: run(prepare(params), prompts, key)


def make_update(
    workload: Workload, graphdef: nnx.GraphDef
) -> tuple[Callable[..., step.Updated], optax.GradientTransformation]:
  """One AdamW update with plain GRPO over the whole batch, no KL."""
  optimizer = optax.adamw(1e-5)
  score = scoring.make_score_tokens(graphdef, workload.options)
  forward = step.make_forward(score, workload.micro_batches)
  backward = step.make_backward(
      optimizer, donate_params=workload.micro_batches > 1
  )
  algorithm = catalog.make("grpo")
  differentiate = step.make_differentiate(algorithm.loss)

  def update(
      params: nnx.State,
      opt_state: optax.OptState,
      prompts: prompt_batches.Prompts,
      completions: generate.Completions,
  ) -> step.Updated:
    rows = scoring.Rows(prompts, completions.tokens, completions.mask)
    scores, pull = forward(params, rows)
    batch = _batch(workload, completions)
    output = differentiate(algorithm.hparams, {}, batch, scores)
    return backward(params, opt_state, pull, output.cotangents)

  return update, optimizer


def _batch(
    workload: Workload, completions: generate.Completions
) -> types.RolloutBatch:
  """Every other completion is right."""
  groups = (workload.prompts, workload.group_size)
  tokens = lambda x: x.reshape(*groups, -1)
  correct = jnp.broadcast_to(
      jnp.arange(workload.group_size) % 2, groups
  ).astype(jnp.float32)
  old = tokens(completions.logprobs)
  return types.RolloutBatch(
      logprobs=old,
      entropy=jnp.zeros_like(old),
      old_logprobs=old,
      sampler_logprobs=old,
      ref_logprobs=old,
      completion_mask=tokens(completions.mask),
      rewards=correct,
      correct=correct,
      format_valid=jnp.ones(groups),
      truncated=jnp.ones(groups),
      lengths=jnp.full(groups, float(workload.new_tokens)),
      staleness=jnp.zeros(groups),
      reward_components=jnp.stack([correct, jnp.ones(groups)], -1),
      history_pass_rate=jnp.full(workload.prompts, 0.5),
      step=jnp.int32(0),
      progress=jnp.float32(0.0),
  )
