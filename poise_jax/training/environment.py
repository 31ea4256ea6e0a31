"""What a task gives a trainer: prompts in, grades out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Int
import numpy as np

from poise_jax.rollout import generate, prompt_batches, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, embedded
from poise_jax.training import prompts


class Environment(NamedTuple):
  """A task as the trainer sees it; problems are opaque to it.

  Attributes:
    source: where problems come from.
    encode: problems to prompts.
    grade: problems and their completions, G in a row for each, to verdicts.
    buckets: problems to the buckets of `history` that they share, [P].
    bucket_count: how many buckets there are.
    prompt_of: a problem's prompt as text.
  """

  source: prompts.Source
  encode: Callable[[Sequence[Any]], prompt_batches.Prompts]
  grade: Callable[[Sequence[Any], generate.Completions], scoring.Grades]
  buckets: Callable[[Sequence[Any]], Int[np.ndarray, "P"]]
  bucket_count: int
  prompt_of: Callable[[Any], str]


def arithmetic_environment(
    tokenizer: tokenizer_lib.Tokenizer,
    seed: int,
    task: embedded.Task = embedded.ARITHMETIC,
) -> Environment:
  """An embedded task: chained operations, made from random numbers.

  Prompts that need equally many operations share a bucket.
  """

  def draw(
      rng: np.random.Generator, count: int
  ) -> Sequence[arithmetic.Problem]:
    return task.sample(rng, task.training_tiers, count, arithmetic.Split.TRAIN)

  return Environment(
      source=prompts.generated(draw, seed),
      encode=lambda ps: prompt_batches.Prompts(
          tokenizer.encode_prompts([p.prompt for p in ps])
      ),
      grade=lambda ps, cs: scoring.grade_groups(tokenizer, ps, cs),
      buckets=lambda ps: np.array([len(p.operators) for p in ps]),
      bucket_count=task.max_operations + 1,
      prompt_of=lambda p: p.prompt,
  )
