"""Which problems a policy is trained on: from files to those of one run."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

from poise_jax.rollout import chat, prompt_batches
from poise_jax.rollout import text_tokenizer as tokenizer_lib
from poise_jax.tasks import benchmarks, problem_overlap, problem_set
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    math_environment,
)

# Sets with a name: those of the paper, and GSM8K.
SETS: Mapping[str, benchmarks.Benchmark] = {
    one.name: one
    for one in (
        *benchmarks.MATH6,
        benchmarks.GSM8K,
        benchmarks.MATH_TRAINING,
    )
}


@dataclasses.dataclass(frozen=True)
class ProblemsConfig:
  """Problems and how they are posed and graded.

  Attributes:
    source: a .jsonl or .json file; or, with `name`, a folder.
    name: a set of `SETS` whose file lies in `source` and whose size is checked;
      empty for any file.
    levels: of difficulty to keep; all if empty.
    count: how many to train on, chosen by `seed`; 0 for all.
    seed: of that choice. The order of training is by `run.seed`.
    template: see `chat.choose`.
    stop: tokens, by their text, that end a completion beside end-of-text.
    prompt_length: problems with longer prompts are left out.
    prompt_buckets: widths of prompts, each a set of programs.
    apart_from: files of problems to be evaluated on: what is much like one of
      them is left out.
    cut_epochs: whether an epoch ends with its last whole batch, and leaves out
      the rest of its permutation.
    grade_truncated: whether a completion that was cut off may be correct.
    graders: processes that grade.
    grading_seconds: limit for one comparison of answers.
  """

  source: str = ""
  name: str = ""
  levels: tuple[int, ...] = ()
  count: int = 0
  seed: int = 0
  template: str = "qwen_math"
  stop: tuple[str, ...] = ()
  prompt_length: int = benchmarks.PROMPT_LENGTH
  prompt_buckets: tuple[int, ...] = prompt_batches.BUCKETS
  apart_from: tuple[str, ...] = ()
  cut_epochs: bool = True
  grade_truncated: bool = False
  graders: int = 2
  grading_seconds: float = 3.0

  def __post_init__(self):
    for name in ("levels", "stop", "prompt_buckets", "apart_from"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for name in ("count", "seed"):
      if getattr(self, name) < 0:
        raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")
    if self.name and self.name not in SETS:
      raise ValueError(
          f"`name` must be one of {', '.join(SETS)}, or empty for any file, got"
          f" {self.name!r}"
      )
    prompt_batches.check_buckets(self.prompt_buckets)
    if not 1 <= self.prompt_length <= self.prompt_buckets[-1]:
      raise ValueError(
          "`prompt_length` must be from 1 to the largest of `prompt_buckets`,"
          f" {self.prompt_buckets[-1]}, got {self.prompt_length}"
      )


class Chosen(NamedTuple):
  """The problems of a run.

  Attributes:
    problems: to train on.
    read: how many there were, of the wanted levels.
    overlapping: left out, for being much like a problem to be evaluated on.
    too_long: left out, for the length of their prompts.
  """

  problems: tuple[problem_set.Problem, ...]
  read: int
  overlapping: int
  too_long: int

  def __str__(self) -> str:
    return (
        f"{len(self.problems)} of {self.read} problems to train on;"
        f" {self.overlapping} are also evaluated on, {self.too_long} are too"
        " long"
    )


def _read(
    config: ProblemsConfig,
) -> tuple[problem_set.Problem, ...]:
  """All problems of the wanted levels."""
  if not config.source:
    raise ValueError(
        "`source` must be a file of problems"
        + f", or a folder with the file of {config.name}" * bool(config.name)
    )
  if not config.name:
    if pathlib.Path(config.source).is_dir():
      raise ValueError(
          f"`source` must be a file where `name` is empty, {config.source!r} is"
          f" a folder; set `name` to one of {', '.join(SETS)}"
      )
    problems = problem_set.load(config.source)
  else:
    problems = benchmarks.load(SETS[config.name], config.source)
  levels = config.levels
  return problem_set.at_levels(problems, levels) if levels else problems


def choose(
    config: ProblemsConfig,
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
) -> Chosen:
  """Reads problems, and leaves out what must not or cannot be trained on.

  Last of all `count` are drawn, so that there are exactly as many.

  Args:
    config: which.
    tokenizer: of the policy.
    template: around each problem.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is malformed, or not enough problems are left.
  """
  problems = _read(config)
  read = len(problems)
  for path in config.apart_from:
    evaluation = problem_set.load(path)
    problems = problem_overlap.without_overlaps(problems, evaluation)
  apart = len(problems)
  if not apart:
    raise ValueError(
        f"`apart_from` must leave at least one of {read} problems, it leaves"
        " none; train on others than you evaluate on"
    )
  problems, too_long = math_environment.within(
      config.prompt_length, tokenizer, template, problems
  )
  if config.count > len(problems):
    raise ValueError(
        f"`count` must be at most the {len(problems)} problems that are left of"
        f" {read}, got {config.count}; {read - apart} are also evaluated on,"
        f" {too_long} are too long"
    )
  if config.count:
    problems = problem_set.subsample(problems, config.count, config.seed)
  return Chosen(tuple(problems), read, read - apart, too_long)


def environment(
    config: ProblemsConfig,
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    problems: Sequence[problem_set.Problem],
    grade_fn: math_environment.GradeFn,
    *,
    seed: int,
    batch: int,
) -> environment_lib.Environment:
  """The task of a run.

  Args:
    config: how problems are posed and graded.
    tokenizer: of the policy.
    template: around each problem.
    problems: from `choose`.
    grade_fn: judges texts.
    seed: of their order.
    batch: problems in one step.

  Raises:
    ValueError: if there are fewer problems than `batch` and epochs are cut.
  """
  return math_environment.math_environment(
      tokenizer,
      template,
      problems,
      grade_fn,
      seed=seed,
      prompt_buckets=config.prompt_buckets,
      multiple_of=batch if config.cut_epochs else 1,
      grade_truncated=config.grade_truncated,
  )


def fingerprint(
    config: ProblemsConfig,
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    problems: Sequence[problem_set.Problem],
) -> dict[str, Any]:
  """What must not change over a run, by its name in the configuration.

  Files may move: it is the texts of prompts and answers that count.
  """
  digest = hashlib.sha256()
  for problem in problems:
    prompt = chat.prompt(template, problem.prompt)
    text = json.dumps([problem.id, prompt, problem.answer])
    digest.update(text.encode() + b"\n")
  return {
      "prompts and answers": digest.hexdigest(),
      "stop": list(tokenizer.eos_ids),
      "prompt_buckets": list(config.prompt_buckets),
      "cut_epochs": config.cut_epochs,
      "grade_truncated": config.grade_truncated,
      "grading_seconds": config.grading_seconds,
  }
