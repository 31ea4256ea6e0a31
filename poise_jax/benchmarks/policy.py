"""Rollout and update of a Qwen2 policy with random weights."""

from collections.abc import Callable, Mapping
import dataclasses
import statistics
import time
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.benchmarks import timing
from poise_jax.models import transformer
from poise_jax.rollout import generate, sampling, scoring
from poise_jax.training import step, throughput

# No token ends a completion: all have exactly the length of the workload.
_NO_EOS = -1


@dataclasses.dataclass(frozen=True)
class Workload:
  """One fixed piece of work.

  Attributes:
    model: shape of the policy.
    prompts: in a batch.
    group_size: completions of each.
    prompt_tokens: of each prompt.
    new_tokens: of each completion, exactly.
    micro_batches: parts in which the update goes through the policy.
    options: memory and precision of the update.
  """

  model: transformer.TransformerConfig
  prompts: int
  group_size: int
  prompt_tokens: int
  new_tokens: int
  micro_batches: int = 1
  options: scoring.ScoreOptions = scoring.ScoreOptions()


_SMALL = transformer.TransformerConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
)
# W1: one step of training. W2: rollout alone.
W1 = Workload(_SMALL, 32, 8, 32, 64)
W2 = Workload(_SMALL, 64, 1, 32, 128)


def start(workload: Workload) -> tuple[nnx.GraphDef, nnx.State, jax.Array]:
  """Makes a policy with random weights, and random prompts."""
  model = transformer.Transformer(workload.model, rngs=nnx.Rngs(0))
  graphdef, params = nnx.split(model)
  rng = np.random.default_rng(0)
  shape = (workload.prompts, workload.prompt_tokens)
  prompts = rng.integers(0, workload.model.vocab_size, shape, np.int32)
  return graphdef, params, jnp.asarray(prompts)


def make_rollout(
    workload: Workload, graphdef: nnx.GraphDef
) -> generate.GenerateFn:
  """Samples at temperature 1."""
  return generate.make_generate(
      graphdef,
      sampling.sample,
      copies=workload.group_size,
      max_length=workload.new_tokens,
      eos_id=_NO_EOS,
      pad_id=0,
  )


def make_update(
    workload: Workload, graphdef: nnx.GraphDef
) -> tuple[Callable[..., Any], optax.GradientTransformation]:
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
      prompts: jax.Array,
      completions: generate.Completions,
  ) -> step.Updated:
    rows = step.Tokens(prompts, completions.tokens, completions.mask)
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


def run_rollout(workload: Workload, rounds: int) -> dict[str, Any]:
  """Times sampling alone."""
  begin = time.perf_counter()
  graphdef, params, prompts = start(workload)
  rollout = make_rollout(workload, graphdef)
  sample = lambda: jax.block_until_ready(
      rollout(params, prompts, jax.random.key(0))
  )
  sample()
  first = time.perf_counter() - begin
  seconds = timing.measure({"rollout": sample}, rounds)["rollout"]
  tokens = workload.prompts * workload.group_size * workload.new_tokens
  median = statistics.median(seconds)
  return {
      "first_seconds": first,
      "rollout_seconds": median,
      "rollout_seconds_all": seconds,
      "tokens_per_second": tokens / median,
      "peak_memory_gib": timing.peak_memory_gib(),
  }


def run_train(workload: Workload, rounds: int) -> dict[str, Any]:
  """Times whole steps: rollout and update, each on the last one's policy."""
  begin = time.perf_counter()
  graphdef, params, prompts = start(workload)
  rollout = make_rollout(workload, graphdef)
  update, optimizer = make_update(workload, graphdef)
  # Committed to a device, as what a step returns is.
  params, opt_state = jax.device_put(
      (params, optimizer.init(params)), jax.devices()[0]
  )
  rollouts, updates, first = [], [], 0.0
  for index in range(rounds + 2):
    started = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(0), index)
    completions = jax.block_until_ready(rollout(params, prompts, key))
    sampled = time.perf_counter()
    done = jax.block_until_ready(
        update(params, opt_state, prompts, completions)
    )
    params, opt_state = done.params, done.opt_state
    ended = time.perf_counter()
    if index == 0:
      first = ended - begin
    elif index > 1:
      rollouts.append(sampled - started)
      updates.append(ended - sampled)
  steps = [a + b for a, b in zip(rollouts, updates, strict=True)]
  rows = workload.prompts * workload.group_size
  median = statistics.median(steps)
  return {
      "first_seconds": first,
      "rollout_seconds": statistics.median(rollouts),
      "update_seconds": statistics.median(updates),
      "step_seconds": median,
      "step_seconds_all": steps,
      "tokens_per_second": rows * workload.new_tokens / median,
      "peak_memory_gib": timing.peak_memory_gib(),
  } | _share_of_peak(workload, statistics.median(updates))


def _share_of_peak(workload: Workload, seconds: float) -> dict[str, Any]:
  """Share of peak FLOPs in the update, where the peak is known."""
  model = workload.model
  width, inner = model.hidden_size, model.intermediate_size
  kv = model.num_key_value_heads * model.head_dim
  layer = width * (2 * width + 2 * kv) + 3 * width * inner
  weights = model.num_hidden_layers * layer + width * model.vocab_size
  rows = workload.prompts * workload.group_size
  tokens = (
      workload.prompts * workload.prompt_tokens + rows * workload.new_tokens
  )
  passes = 4 if workload.micro_batches > 1 else 3  # forward is 1, backward 2
  flops = 2.0 * passes * weights * tokens
  found = throughput.mfu(flops, seconds, jax.devices())
  return {"update_flops": flops} | ({} if found is None else {"mfu": found})


def table(figures: Mapping[str, Any]) -> str:
  """One line for each figure."""
  return "\n".join(
      f"{name} {value:.4g}"
      for name, value in figures.items()
      if isinstance(value, float)
  )
