"""How a policy does on problems that it is not trained on, during a run."""

from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx
import jax
import numpy as np

from poise_jax import sharding
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import scoring
from poise_jax.training import environment as environment_lib
from poise_jax.training import trainer

# Apart from those of the steps, which count from 0.
_STREAM = 2**32 - 1


def make_evaluate(
    engine: engine_lib.RolloutEngine,
    environment: environment_lib.Environment,
    problems: Sequence[Any],
    batch: int,
    mesh: jax.sharding.Mesh,
) -> Callable[[nnx.State, int], dict[str, float]]:
  """Makes the function that asks a policy every problem once.

  Args:
    engine: writes one completion for each prompt, see
      `policy_engine.make_engine`; a greedy one needs no seed, and the same
      params give the same values.
    environment: poses and grades the problems.
    problems: all of them, in the order in which they are asked.
    batch: asked at once; the last batch is filled up, and what fills it does
      not count.
    mesh: where the policy is.

  Returns:
    A function of (params, seed) to

      accuracy        share of problems solved
      format_rate     share of completions from which an answer could be read
      truncated_rate  share of completions that met the length limit
      mean_length     tokens of a completion, its end included

    The seed chooses the random numbers of an engine that samples.

  Raises:
    ValueError: if there are no problems, or `batch` is not positive.
  """
  if not problems or batch < 1:
    raise ValueError(
        "`problems` must not be empty and `batch` at least 1, got"
        f" {len(problems)} and {batch}"
    )

  def grade(
      ask: engine_lib.SampleFn, key: jax.Array, part: Sequence[Any]
  ) -> scoring.Grades:
    filled = [*part, *[part[-1]] * (batch - len(part))]
    prompts = sharding.place(mesh, environment.encode(filled))
    grades = environment.grade(filled, ask(prompts, key).completions)
    return scoring.Grades(*(x[: len(part)] for x in grades))

  def evaluate(params: nnx.State, seed: int) -> dict[str, float]:
    key = jax.random.fold_in(jax.random.key(seed), _STREAM)
    with trainer.in_mesh(mesh):
      ask = engine(params, 0)
      found = [
          grade(ask, jax.random.fold_in(key, start), part)
          for start in range(0, len(problems), batch)
          if (part := problems[start : start + batch])
      ]
    whole = scoring.Grades(*map(np.concatenate, zip(*found, strict=True)))
    return {
        "accuracy": _mean(whole.correct),
        "format_rate": _mean(whole.format_valid),
        "truncated_rate": _mean(whole.truncated),
        "mean_length": _mean(whole.lengths),
    }

  return evaluate


def _mean(values: np.ndarray) -> float:
  """Of whole numbers, exactly."""
  return float(values.sum(dtype=np.float64) / values.size)
