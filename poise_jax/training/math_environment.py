"""Problems from a file as a task for the trainer: text in, graded text out."""

from collections.abc import Callable, Sequence
import hashlib
from typing import NamedTuple, Protocol

import jax
from jax.experimental import multihost_utils
from jaxtyping import Float
import numpy as np

from poise_jax import sharding
from poise_jax.rollout import chat, generate, prompt_batches, scoring
from poise_jax.rollout import text_tokenizer as tokenizer_lib
from poise_jax.tasks import problem_set
from poise_jax.training import environment, prompts


class Graded(Protocol):
  """What a grader says of one completion."""

  correct: bool
  format_valid: bool


# Completions and the reference answer for each, to as many verdicts.
GradeFn = Callable[[Sequence[str], Sequence[str]], Sequence[Graded]]


class Buckets(NamedTuple):
  """Which problems share a pass rate.

  Attributes:
    of: a problem to its bucket.
    count: how many buckets there are.
  """

  of: Callable[[problem_set.Problem], int]
  count: int


def by_problem(
    problems: Sequence[problem_set.Problem], limit: int = 65536
) -> Buckets:
  """A bucket for each problem, whatever their order.

  With more than `limit` problems, a bucket for all whose ids have the same
  hash modulo `limit`.

  Raises:
    ValueError: if there are no problems, or `limit` is not positive.
  """
  if limit < 1 or not problems:
    raise ValueError(
        "`limit` and the number of problems must be at least 1, got"
        f" {limit} and {len(problems)}"
    )
  if len(problems) > limit:
    return Buckets(lambda problem: _hash(problem.id) % limit, limit)
  places = {name: i for i, name in enumerate(sorted(p.id for p in problems))}
  return Buckets(lambda problem: places[problem.id], len(problems))


def by_level(problems: Sequence[problem_set.Problem]) -> Buckets:
  """A bucket for each level, and the last for problems without one.

  Raises:
    ValueError: if there are no problems.
  """
  if not problems:
    raise ValueError("`problems` must hold at least one problem, got none")
  levels = sorted({p.level for p in problems if p.level is not None})
  places = {level: i for i, level in enumerate(levels)}
  unknown = any(p.level is None for p in problems)
  return Buckets(
      lambda problem: places.get(problem.level, len(levels)),
      len(levels) + unknown,
  )


def within(
    limit: int,
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    problems: Sequence[problem_set.Problem],
) -> tuple[tuple[problem_set.Problem, ...], int]:
  """The problems whose prompts have at most `limit` tokens.

  Args:
    limit: 1024 in the paper.
    tokenizer: of the policy.
    template: what prompts are made with.
    problems: to choose from.

  Returns:
    Those problems, in their order, and how many others there are.

  Raises:
    ValueError: if none is left; or as `chat.encode`.
  """
  kept = prompt_batches.fits(_encode(tokenizer, template, problems), limit)
  if not kept.any():
    raise ValueError(
        f"`limit` must leave at least one problem, but all {len(problems)} have"
        f" prompts of more than {limit} tokens; raise it"
    )
  chosen = tuple(p for p, keep in zip(problems, kept, strict=True) if keep)
  return chosen, len(problems) - len(chosen)


def math_environment(
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    problems: Sequence[problem_set.Problem],
    grade_fn: GradeFn,
    *,
    seed: int,
    prompt_buckets: Sequence[int] = prompt_batches.BUCKETS,
    histories: Buckets | None = None,
    multiple_of: int = 1,
    grade_truncated: bool = False,
) -> environment.Environment:
  r"""Real problems: prompts in epochs, completions graded as text.

  A completion that the length limit cut off is neither correct nor valid in
  format, even if there is an answer in it: one that goes on after its answer
  has not committed to it, and a policy would learn to ramble.

  Args:
    tokenizer: of the policy.
    template: what goes around each problem.
    problems: all of one run, ids unique. Prompts are encoded once, here.
    grade_fn: judges texts, special tokens left out. With several processes
      only the first calls it, and its word holds for all.
    seed: of the order of problems.
    prompt_buckets: widths of prompts, see `prompt_batches.pad`.
    histories: which problems share a pass rate; if None, `by_problem`.
    multiple_of: cuts epochs, see `prompts.epochs`.
    grade_truncated: whether to grade completions that were cut off like others.

  Returns:
    An environment whose `encode` gives `prompt_batches.Prompts`.

  Raises:
    ValueError: if an id occurs twice, a prompt is empty or too long for the
      largest bucket, or `chat.encode` or `prompts.epochs` raises it.
  """
  tokens = dict(
      zip(
          (problem.id for problem in problems),
          _encode(tokenizer, template, problems),
          strict=True,
      )
  )
  if len(tokens) < len(problems):
    names = [problem.id for problem in problems]
    double = next(name for name in names if names.count(name) > 1)
    raise ValueError(
        f"`problems` must have unique ids, got {double!r} twice; rename them"
    )
  source = prompts.epochs(problems, seed, multiple_of=multiple_of)
  histories = by_problem(problems) if histories is None else histories

  def encode(
      problems: Sequence[problem_set.Problem],
  ) -> prompt_batches.Prompts:
    names = [problem.id for problem in problems]
    ids = [tokens[name] for name in names]
    return prompt_batches.pad(ids, prompt_buckets, tokenizer.pad_id, names)

  encode(problems)  # To refuse before a run what would end it later.
  return environment.Environment(
      source=source,
      encode=encode,
      grade=lambda ps, cs: _grade(tokenizer, ps, cs, grade_fn, grade_truncated),
      buckets=lambda ps: np.array([histories.of(p) for p in ps]),
      bucket_count=histories.count,
      prompt_of=lambda p: chat.prompt(template, p.prompt),
  )


def _hash(name: str) -> int:
  """The same in every process, unlike `hash`."""
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def _encode(
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    problems: Sequence[problem_set.Problem],
) -> list[list[int]]:
  """Tokens of all prompts; errors name the problem."""
  try:
    return chat.encode(template, tokenizer, [p.prompt for p in problems])
  except ValueError:
    for problem in problems:
      try:
        chat.encode(template, tokenizer, [problem.prompt])
      except ValueError as e:
        raise ValueError(f"problem {problem.id!r}: {e}") from e
    raise


def _grade(
    tokenizer: tokenizer_lib.TextTokenizer,
    problems: Sequence[problem_set.Problem],
    completions: generate.Completions,
    grade_fn: GradeFn,
    grade_truncated: bool,
) -> scoring.Grades:
  """Grades completions; rows of one problem are consecutive."""
  tokens, mask, finished = sharding.fetch(
      (completions.tokens, completions.mask, completions.finished)
  )
  lengths = mask.sum(axis=1).astype(np.int32)
  shape = (len(problems), len(lengths) // len(problems))
  judged = np.flatnonzero((finished > 0) | grade_truncated)
  verdicts = np.zeros((2, len(lengths)), np.float32)
  if judged.size and jax.process_index() == 0:
    texts = tokenizer.decode(tokens[judged], lengths[judged])
    answers = [problems[i // shape[1]].answer for i in judged]
    verdicts[:, judged] = _verdicts(grade_fn, texts, answers)
  if jax.process_count() > 1:
    # Graders have time limits, so processes might disagree.
    verdicts = np.asarray(multihost_utils.broadcast_one_to_all(verdicts))
  correct, valid = verdicts.reshape(2, *shape)
  return scoring.Grades(
      correct=correct,
      format_valid=valid,
      truncated=(1 - finished).astype(np.float32).reshape(shape),
      lengths=lengths.astype(np.float32).reshape(shape),
  )


def _verdicts(
    grade_fn: GradeFn, texts: Sequence[str], answers: Sequence[str]
) -> Float[np.ndarray, "2 N"]:
  """Correctness and validity of each text."""
  grades = grade_fn(texts, answers)
  if len(grades) != len(texts):
    raise ValueError(
        f"`grade_fn` must give a verdict on each of {len(texts)} texts, got"
        f" {len(grades)}"
    )
  pairs = [(bool(g.correct), bool(g.format_valid)) for g in grades]
  return np.array(pairs, np.float32).T
