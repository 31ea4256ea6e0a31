"""One rollout: prompts, completions, verdicts, and the batch made of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from poise_jax import sharding, types
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, prompt_batches, scoring
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    dynamic_sampling,
    history,
    step,
)
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    state as state_lib,
)


class Rollout(NamedTuple):
  """Completions of one step with everything known about them.

  Attributes:
    rows: tokens, for the policy.
    batch: all else, for the algorithm.
    problems: one for each group of the batch.
    grades: theirs, on the host.
    correct: verdicts on all groups that were sampled, kept or not.
    buckets: theirs, for the history.
    statistics: what it took to fill the batch, None if groups were taken as
      they came.
    position: in the source, after what was drawn.
    version: of the policy that sampled: optimizer updates before it.
  """

  rows: scoring.Rows
  batch: types.RolloutBatch
  problems: Sequence[Any]
  grades: scoring.Grades
  correct: Float[np.ndarray, "N G"]
  buckets: Int[np.ndarray, "N"]
  statistics: dynamic_sampling.Statistics | None
  position: Any
  version: int


class _Groups(NamedTuple):
  """Sampled groups, each leaf [P, ...]; `index` counts what was drawn."""

  prompts: Any
  completions: generate.Completions
  grades: scoring.Grades
  buckets: Any
  index: Any


CollectFn = Callable[
    [
        state_lib.TrainState,
        nnx.State | None,
        environment_lib.Environment,
        int,
    ],
    Rollout,
]


def make_collect(
    engine: engine_lib.RolloutEngine,
    score_fn: step.ScoreRowsFn,
    config: config_lib.TrainConfig,
    mesh: jax.sharding.Mesh,
) -> CollectFn:
  """Makes the function that samples the rollout of a step.

  Args:
    engine: samples `config.group_size` completions for each prompt.
    score_fn: jitted forward pass, for the reference and the old policy.
    config: sizes.
    mesh: where the arrays go.

  Returns:
    A function of (state, reference params or None, environment, seed). The
    rollout is a function of these alone; keys come from (seed, step, attempt).
  """

  def collect(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      environment: environment_lib.Environment,
      seed: int,
  ) -> Rollout:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    version = state.step * config.updates - state.skipped
    ask = engine(state.params, version)
    drawn: list[Any] = []
    versions: list[int] = []

    def encode(problems: Sequence[Any]) -> prompt_batches.Prompts:
      return sharding.place(mesh, environment.encode(problems))

    def sample(position: Any, attempt: int) -> tuple[_Groups, Any]:
      problems, position = environment.source(position, config.prompts)
      tokens = encode(problems)
      attempt_key = jax.random.fold_in(key, attempt) if attempt else key
      found, sampled_version = ask(tokens, attempt_key)
      versions.append(sampled_version)
      index = len(drawn) + np.arange(len(problems))
      drawn.extend(problems)
      return (
          _Groups(
              tokens,
              found,
              environment.grade(problems, found),
              environment.buckets(problems),
              index,
          ),
          position,
      )

    if config.sampling_attempts == 1:
      groups, position = sample(state.position, 0)
      correct, buckets = groups.grades.correct, groups.buckets
      statistics = None
    else:
      filled = _fill(sample, state.position, config)
      groups, position, statistics = filled[0], filled[1], filled[2]
      correct, buckets = filled[3]
      groups = groups._replace(
          prompts=encode([drawn[i] for i in groups.index]),
          completions=sharding.place(mesh, groups.completions),
      )
    rows = scoring.Rows(
        groups.prompts, groups.completions.tokens, groups.completions.mask
    )
    fields = _fields(
        groups,
        old=(
            score_fn(state.params, rows).logprobs
            if config.recompute_old
            else groups.completions.logprobs
        ),
        reference=(
            None
            if reference_params is None
            else score_fn(reference_params, rows).logprobs
        ),
        pass_rate=history.pass_rate(state.history, groups.buckets),
        staleness=version - min(versions),
        step=state.step,
        steps=config.steps,
    )
    return Rollout(
        rows=rows,
        batch=types.RolloutBatch(**sharding.place(mesh, fields)),
        problems=[drawn[i] for i in groups.index],
        grades=groups.grades,
        correct=correct,
        buckets=buckets,
        statistics=statistics,
        position=position,
        version=min(versions),
    )

  return collect


def _fill(
    sample: Callable[[Any, int], tuple[_Groups, Any]],
    position: Any,
    config: config_lib.TrainConfig,
) -> tuple[_Groups, Any, dynamic_sampling.Statistics, tuple[Any, Any]]:
  """Samples until enough groups are mixed."""

  def attempt(position: Any, index: int) -> dynamic_sampling.Attempt:
    groups, position = sample(position, index)
    completions = jax.tree.map(
        lambda x: x.reshape(config.prompts, -1, *x.shape[1:]),
        sharding.fetch(groups.completions),
    )
    # Prompts of another attempt may be padded to another width.
    groups = groups._replace(prompts=None, completions=completions)
    correct = groups.grades.correct
    return dynamic_sampling.Attempt(
        groups,
        dynamic_sampling.mixed(correct),
        position,
        (correct, groups.buckets),
    )

  filled = dynamic_sampling.fill(
      config.prompts, config.sampling_attempts, attempt, position
  )
  groups = filled.groups
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), groups.completions)
  return (
      groups._replace(completions=flat),
      filled.position,
      filled.statistics,
      filled.seen,
  )


def _fields(
    groups: _Groups,
    *,
    old: jax.Array,
    reference: jax.Array | None,
    pass_rate: Float[np.ndarray, "P"],
    staleness: int,
    step: int,
    steps: int,
) -> dict[str, Any]:
  """Puts the parts into the shapes of a batch, on the host or the device."""
  completions, grades = groups.completions, groups.grades
  shape = (*grades.correct.shape, -1)
  old = old.reshape(shape)
  return dict(
      logprobs=old,
      entropy=jnp.zeros_like(old),
      old_logprobs=old,
      sampler_logprobs=completions.logprobs.reshape(shape),
      ref_logprobs=old if reference is None else reference.reshape(shape),
      completion_mask=completions.mask.reshape(shape),
      rewards=grades.correct,
      correct=grades.correct,
      format_valid=grades.format_valid,
      truncated=grades.truncated,
      lengths=grades.lengths,
      staleness=np.full_like(grades.correct, staleness),
      reward_components=np.stack([grades.correct, grades.format_valid], -1),
      history_pass_rate=pass_rate,
      step=np.int32(step),
      progress=np.float32(step / steps),
  )
