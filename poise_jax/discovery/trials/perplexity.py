"""Perplexity of solutions that a policy was not trained on.

    perplexity = exp(mean over tokens of -log π(token | prompt, tokens before it))

of the worked solutions of the first problems of each scored set. It is 1 for a
policy that writes them as they stand, and grows as training leads elsewhere.
"""

from collections.abc import Callable

from flax import nnx
import jax
import numpy as np

from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, embedded
from poise_jax.training import imitation

PROBLEMS = 32  # of each set

# (params, split) to the perplexity of the split's solutions.
Perplexity = Callable[[nnx.State, arithmetic.Split], float]


def make_perplexity(
    graphdef: nnx.GraphDef,
    tokenizer: tokenizer_lib.Tokenizer,
    task: embedded.Task = embedded.ARITHMETIC,
) -> Perplexity:
  """Compiles the perplexity of held-out solutions, above or equal to 1.

  A function of parameters and split alone: no seed, and no sampling.
  """
  loss = jax.jit(imitation.negative_log_likelihood, static_argnums=0)

  def perplexity(params: nnx.State, split: arithmetic.Split) -> float:
    problems = [
        problem
        for problem_set in task.suite
        for problem in task.problems_of(problem_set, split, PROBLEMS)
    ]
    rows = imitation.encode(
        tokenizer, problems, [task.solution(p) for p in problems]
    )
    # As trained params are; else base and trained params compile separately.
    params = jax.device_put(params, jax.local_devices()[0])
    return float(np.exp(np.float64(loss(graphdef, params, rows))))

  return perplexity
