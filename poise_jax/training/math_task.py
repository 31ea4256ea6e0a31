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
    evaluate_on: file of problems to ask during the run, see `held_out`; treated
      like those of `apart_from` too.
    held_out: how many problems of `source` to set aside and ask instead, chosen
      by `seed` among those that are not trained on and not much like one that
      is.
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
  evaluate_on: str = ""
  held_out: int = 0
  cut_epochs: bool = True
  grade_truncated: bool = False
  graders: int = 2
  grading_seconds: float = 3.0

  def __post_init__(self):
    for name in ("levels", "stop", "prompt_buckets", "apart_from"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for name in ("count", "seed", "held_out"):
      if getattr(self, name) < 0:
        raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")
    if self.name and self.name not in SETS:
      raise ValueError(
          f"`name` must be one of {', '.join(SETS)}, or empty for any file, got"
          f" {self.name!r}"
      )
    if self.held_out and self.evaluate_on:
      raise ValueError(
          "only one of `held_out` and `evaluate_on` can name the problems to ask"
          f" during the run, got {self.held_out} and {self.evaluate_on!r}"
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
    evaluated: to ask during the run; none of them is trained on.
  """

  problems: tuple[problem_set.Problem, ...]
  read: int
  overlapping: int
  too_long: int
  evaluated: tuple[problem_set.Problem, ...] = ()

  def __str__(self) -> str:
    asked = f"; {len(self.evaluated)} are asked during the run"
    return (
        f"{len(self.problems)} of {self.read} problems to train on;"
        f" {self.overlapping} are also evaluated on, {self.too_long} are too"
        " long" + asked * bool(self.evaluated)
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
  evaluated = problem_set.load(config.evaluate_on) if config.evaluate_on else ()
  for evaluation in (*map(problem_set.load, config.apart_from), evaluated):
    if evaluation:
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
  count = config.count or len(problems) - config.held_out
  if count < 1 or count + config.held_out > len(problems):
    wanted = f"{config.count}" + f" + {config.held_out}" * bool(config.held_out)
    raise ValueError(
        f"`count`{' + `held_out`' * bool(config.held_out)} must be at most the"
        f" {len(problems)} problems that are left of {read}, got {wanted};"
        f" {read - apart} are also evaluated on, {too_long} are too long"
    )
  trained = problems
  if count < len(problems):
    trained = problem_set.subsample(problems, count, config.seed)
  if config.held_out:
    evaluated = _set_aside(config, problems, trained)
  _check_lengths(config, tokenizer, template, evaluated)
  return Chosen(tuple(trained), read, read - apart, too_long, tuple(evaluated))


def _set_aside(
    config: ProblemsConfig,
    problems: Sequence[problem_set.Problem],
    trained: Sequence[problem_set.Problem],
) -> tuple[problem_set.Problem, ...]:
  """Problems to ask, that are not and are not like what is trained on."""
  names = {problem.id for problem in trained}
  others = [problem for problem in problems if problem.id not in names]
  apart = problem_overlap.without_overlaps(others, trained)
  if config.held_out > len(apart):
    raise ValueError(
        f"`held_out` must be at most the {len(apart)} problems that are not"
        f" trained on and not much like one that is, got {config.held_out};"
        " lower it or `count`"
    )
  return problem_set.subsample(apart, config.held_out, config.seed)


def _check_lengths(
    config: ProblemsConfig,
    tokenizer: tokenizer_lib.TextTokenizer,
    template: chat.Template,
    evaluated: Sequence[problem_set.Problem],
) -> None:
  """Refuses to leave out what a score would then not be of."""
  if not evaluated:
    return
  _, too_long = math_environment.within(
      *(config.prompt_length, tokenizer, template, evaluated)
  )
  if too_long:
    raise ValueError(
        "`evaluate_on` must have prompts of at most"
        f" `prompt_length`={config.prompt_length} tokens, {too_long} of its"
        f" {len(evaluated)} have more; raise it, or take them out of the file"
    )


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
    evaluated: Sequence[problem_set.Problem] = (),
) -> dict[str, Any]:
  """What must not change over a run, by its name in the configuration.

  Files may move: it is the texts of prompts and answers that count.
  """

  def digest(problems: Sequence[problem_set.Problem]) -> str:
    found = hashlib.sha256()
    for problem in problems:
      prompt = chat.prompt(template, problem.prompt)
      text = json.dumps([problem.id, prompt, problem.answer])
      found.update(text.encode() + b"\n")
    return found.hexdigest()

  asked = {"prompts and answers asked during the run": digest(evaluated)}
  return (asked if evaluated else {}) | {
      "prompts and answers": digest(problems),
      "stop": list(tokenizer.eos_ids),
      "prompt_buckets": list(config.prompt_buckets),
      "cut_epochs": config.cut_epochs,
      "grade_truncated": config.grade_truncated,
      "grading_seconds": config.grading_seconds,
  }
