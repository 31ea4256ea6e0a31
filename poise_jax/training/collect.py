"""One rollout: prompts, completions, verdicts, and the batch made of them."""

from collections.abc import Callable, Sequence
import contextlib
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from poise_jax import sharding, types
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import scoring
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
    groups as groups_lib,
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
    sampled: grades of all groups that were sampled, kept or not.
    buckets: of all of them, for the history.
    statistics: what it took to fill the batch, None if groups were taken as
      they came.
    position: in the source, after what was drawn.
    version: of the policy that sampled: optimizer updates before it.
  """

  rows: scoring.Rows
  batch: types.RolloutBatch
  problems: Sequence[Any]
  grades: scoring.Grades
  sampled: scoring.Grades
  buckets: Int[np.ndarray, "N"]
  statistics: dynamic_sampling.Statistics | None
  position: Any
  version: int


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
# rollout is not the usual one, a departure; and what is called after each round
# of sampling, and may raise to leave it.
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
    score_reference: of plain params, for the reference; `score_fn` if None.
    policy_fn: params to sample with, of what trains and what is frozen.

  Returns:
    A function of (state, reference params or None, environment, seed, watch,
    departure, pause). The rollout is a function of all but the watch and the
    pause; keys come from (seed, step, attempt), and verdicts flip by the number
    of rounds that there could have been before. With `config.recompute_old` and
    a single update `old_logprobs` are left to it, see `updates`. The watch is
    charged with

      rollout  prompts, and completions until they are here;
      grade    their way to the host, text and verdicts;
      score    log-probabilities of the reference and of the old policy, if the
               rollout takes any, until they are here.
  """
  passes = _Passes(
      score_fn if config.scores_old else None, score_reference or score_fn
  )

  def collect(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      environment: environment_lib.Environment,
      seed: int,
      watch: throughput.Stopwatch,
      departure: Departure = USUAL,
      pause: Callable[[], None] = lambda: None,
  ) -> Rollout:
    version = state.step * config.updates - state.skipped
    first_round = state.step * config.sampling_attempts
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    with watch.time("rollout"):
      ask = engine(
          *departure.sampler
          or (policy_fn(state.params, *state.frozen), version)
      )
    judge = _judge(departure.flip, seed, first_round)
    sampling = groups_lib.Sampling(
        *(ask, environment, key, config.prompts, judge, mesh, watch),
        pause=pause,
    )
    taken = groups_lib.take(sampling, state.position, config.sampling_attempts)
    rows = _rows(taken.groups)
    scores = config.scores_old or reference_params is not None
    with watch.time("score") if scores else contextlib.nullcontext():
      scored = _score(passes, state, reference_params, rows)
      fields = _fields(
          *(taken.groups, scored, state),
          staleness=version - taken.version,
          steps=config.steps,
      )
      batch = types.RolloutBatch(**sharding.place(mesh, fields))
      # All that the device has to do: to wait costs no more than the time to
      # start the first program of the update.
      jax.block_until_ready(scored)
    return _rollout(rows, batch, taken)

  return collect


class _Passes(NamedTuple):
  """Forward passes of a rollout; without `old` the sampler's word is taken."""

  old: step.ScoreRowsFn | None
  reference: step.ScoreRowsFn


class _Scored(NamedTuple):
  """Log-probabilities [P*G, T] of the old and the reference policy, if any."""

  old: jax.Array | None
  reference: jax.Array | None


def _judge(
    flip: FlipFn | None, seed: int, first_round: int
) -> groups_lib.JudgeFn:
  """A verifier that errs, in the rounds of one step; or one that does not."""
  if flip is None:
    return lambda correct, index: correct
  return lambda correct, index: flip(correct, seed, first_round + index)


def _rows(groups: groups_lib.Groups) -> scoring.Rows:
  """What a policy is told of the groups."""
  completions = groups.completions
  return scoring.Rows(groups.prompts, completions.tokens, completions.mask)


def _score(
    passes: _Passes,
    state: state_lib.TrainState,
    reference_params: nnx.State | None,
    rows: scoring.Rows,
) -> _Scored:
  """Starts the passes that are asked for."""
  old = reference = None
  if passes.old:
    old = passes.old(state.params, rows, *state.frozen).logprobs
  if reference_params is not None:
    reference = passes.reference(reference_params, rows).logprobs
  return _Scored(old, reference)


def _fields(
    groups: groups_lib.Groups,
    scored: _Scored,
    state: state_lib.TrainState,
    *,
    staleness: int,
    steps: int,
) -> dict[str, Any]:
  """Puts the parts into the shapes of a batch, on the host or the device."""
  completions, grades = groups.completions, groups.grades
  shape = (*grades.correct.shape, -1)
  reference = scored.reference
  old = completions.logprobs if scored.old is None else scored.old
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
      history_pass_rate=history.pass_rate(state.history, groups.buckets),
      step=np.int32(state.step),
      progress=np.float32(state.step / steps),
  )


def _rollout(
    rows: scoring.Rows, batch: types.RolloutBatch, taken: groups_lib.Taken
) -> Rollout:
  """Everything known about the completions of a batch."""
  return Rollout(
      rows=rows,
      batch=batch,
      problems=taken.groups.problems,
      grades=taken.groups.grades,
      sampled=taken.sampled,
      buckets=taken.buckets,
      statistics=taken.statistics,
      position=taken.position,
      version=taken.version,
  )
