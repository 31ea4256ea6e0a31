"""One rollout: prompts, completions, verdicts, and the batch made of them."""

from collections.abc import Callable, Sequence
import contextlib
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from poise_jax import sharding, types
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, scoring
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    dynamic_sampling,
    history,
    step,
    throughput,
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


# (verdicts, seed, round of sampling counted from 0) to verdicts, purely.
FlipFn = Callable[
    [Float[np.ndarray, "P G"], int, int], Float[np.ndarray, "P G"]
]


class Sampler(NamedTuple):
  """The policy that writes completions.

  Attributes:
    params: of the policy, on the mesh.
    version: optimizer updates that made them.
  """

  params: nnx.State
  version: int


class Departure(NamedTuple):
  """How a rollout departs from the usual one.

  Attributes:
    sampler: writes the completions; the policy of the state if None.
    flip: what a verifier that errs makes of the verdicts, before rewards, the
      history and dynamic sampling see them; the verdicts themselves if None.
  """

  sampler: Sampler | None = None
  flip: FlipFn | None = None


USUAL = Departure()
# Of a state, reference params, an environment, a seed, a stopwatch and, if the
# rollout is not the usual one, a departure.
CollectFn = Callable[..., Rollout]
# Of (what trains, *what is frozen), see `tuning`.
PolicyFn = Callable[..., nnx.State]


def _params(params: Any, *frozen: nnx.State) -> nnx.State:
  """The policy where every weight trains."""
  del frozen
  return params


def make_collect(
    engine: engine_lib.RolloutEngine,
    score_fn: step.ScoreRowsFn,
    config: config_lib.TrainConfig,
    mesh: jax.sharding.Mesh,
    *,
    score_reference: step.ScoreRowsFn | None = None,
    policy_fn: PolicyFn = _params,
) -> CollectFn:
  """Makes the function that samples the rollout of a step.

  Args:
    engine: samples `config.group_size` completions for each prompt.
    score_fn: jitted forward pass of what trains, for the old policy.
    config: sizes.
    mesh: where the arrays go.
    score_reference: that of plain params, for the reference; `score_fn` if
      None.
    policy_fn: params to sample with, of what trains and what is frozen.

  Returns:
    A function of (state, reference params or None, environment, seed, watch,
    departure). The rollout is a function of all but the watch; keys come from
    (seed, step, attempt), and verdicts flip by the number of rounds that there
    could have been before. With `config.recompute_old` and a single update `old_logprobs`
    are left to it, see `updates`. The watch is charged with

      rollout  prompts, and completions until they are here;
      grade    their way to the host, text and verdicts;
      score    log-probabilities of the reference and of the old policy, if the
               rollout takes any, until they are here.
  """
  score_reference = score_reference or score_fn

  def score(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      rows: scoring.Rows,
  ) -> tuple[jax.Array | None, jax.Array | None]:
    """Log-probabilities of the old and of the reference policy, if asked for."""
    old = reference = None
    if config.scores_old:
      old = score_fn(state.params, rows, *state.frozen).logprobs
    if reference_params is not None:
      reference = score_reference(reference_params, rows).logprobs
    return old, reference

  def collect(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      environment: environment_lib.Environment,
      seed: int,
      watch: throughput.Stopwatch,
      departure: Departure = USUAL,
  ) -> Rollout:
    version = state.step * config.updates - state.skipped
    first_round = state.step * config.sampling_attempts
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    drawn = _Drawn([], [])
    with watch.time("rollout"):
      ask = engine(
          *departure.sampler
          or (policy_fn(state.params, *state.frozen), version)
      )

    def judge(
        correct: Float[np.ndarray, "P G"], attempt: int
    ) -> Float[np.ndarray, "P G"]:
      if departure.flip is None:
        return correct
      return departure.flip(correct, seed, first_round + attempt)

    sample = functools.partial(
        *(_sample, ask, environment, key, config.prompts, mesh, watch, drawn),
        judge,
    )
    if config.sampling_attempts == 1:
      groups, position = sample(state.position, 0)
      seen, statistics = (groups.grades.correct, groups.buckets), None
    else:
      groups, position, statistics, seen = _fill(sample, state.position, config)
      problems = [drawn.problems[i] for i in groups.index]
      groups = groups._replace(
          prompts=sharding.place(mesh, environment.encode(problems))
      )
    groups = groups._replace(
        completions=sharding.place(mesh, groups.completions)
    )
    rows = scoring.Rows(
        groups.prompts, groups.completions.tokens, groups.completions.mask
    )
    oldest = min(drawn.versions)
    scores = config.scores_old or reference_params is not None
    with watch.time("score") if scores else contextlib.nullcontext():
      old, reference = score(state, reference_params, rows)
      fields = _fields(
          groups,
          old=groups.completions.logprobs if old is None else old,
          reference=reference,
          pass_rate=history.pass_rate(state.history, groups.buckets),
          staleness=version - oldest,
          step=state.step,
          steps=config.steps,
      )
      batch = types.RolloutBatch(**sharding.place(mesh, fields))
      # All that the device has to do: to wait costs no more than the time to
      # start the first program of the update.
      jax.block_until_ready((old, reference))
    return Rollout(
        rows=rows,
        batch=batch,
        problems=[drawn.problems[i] for i in groups.index],
        grades=groups.grades,
        correct=seen[0],
        buckets=seen[1],
        statistics=statistics,
        position=position,
        version=oldest,
    )

  return collect


class _Drawn(NamedTuple):
  """All problems of a rollout so far, and who answered each attempt."""

  problems: list[Any]
  versions: list[int]


def _sample(
    ask: engine_lib.SampleFn,
    environment: environment_lib.Environment,
    key: Key[Array, ""],
    prompts: int,
    mesh: jax.sharding.Mesh,
    watch: throughput.Stopwatch,
    drawn: _Drawn,
    judge: Callable[[Float[np.ndarray, "P G"], int], Float[np.ndarray, "P G"]],
    position: Any,
    attempt: int,
) -> tuple[_Groups, Any]:
  """Draws problems, and samples and grades a group for each."""
  with watch.time("rollout"):
    problems, position = environment.source(position, prompts)
    tokens = sharding.place(mesh, environment.encode(problems))
    attempt_key = jax.random.fold_in(key, attempt) if attempt else key
    # Grading reads them at once: waiting here only tells the two apart.
    found, version = jax.block_until_ready(ask(tokens, attempt_key))
  with watch.time("grade"):
    grades = environment.grade(problems, found)
    grades = grades._replace(correct=judge(grades.correct, attempt))
  index = len(drawn.problems) + np.arange(len(problems))
  drawn.problems.extend(problems)
  drawn.versions.append(version)
  buckets = environment.buckets(problems)
  return _Groups(tokens, found, grades, buckets, index), position


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
