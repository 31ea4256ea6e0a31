"""Sets of problems as evaluation sees them: embedded, public, one's own.

A set says what is asked, how often, how an answer is judged and what its score
is worth. `tasks.arithmetic`, `tasks.benchmarks` and `own_sets` have the problems.
"""

from collections.abc import Callable, Sequence
import dataclasses
import difflib
import functools
import pathlib
from typing import Literal, NamedTuple

from poise_jax.evaluation import own_sets, votes
from poise_jax.evaluation import suite as embedded_suite
from poise_jax.tasks import arithmetic, benchmarks, grading_pool, problem_set

# Problems of the embedded sets; a larger suite begins with those of a smaller.
SAMPLED_PROBLEMS = 192
GREEDY_PROBLEMS = 384

Grade = grading_pool.Grade
# (texts, gold answers, whether each text came to its end) to verdicts.
GradeFn = Callable[
    [Sequence[str], Sequence[str], Sequence[bool]], Sequence[Grade]
]


@dataclasses.dataclass(frozen=True)
class ScoredSet:
  """One set of problems and how it is scored.

  Attributes:
    name: identifier in scores and files.
    metric: `pass_at_k`, any of `samples` correct; or `accuracy`, one greedy
      sample.
    samples: completions for each problem.
    temperature: of sampling; 0 is greedy.
    weight: share in Overall, 0 for sets outside of it.
    max_tokens: most tokens of a completion, unless asked otherwise.
    problems: all of them, in order.
    grade: judges completions.
    template: what its prompts are made with; None if the user may choose.
    split: which part of all problems, where there are several.
    same: compares answers, for votes; None where they are plain enough.
  """

  name: str
  metric: Literal["pass_at_k", "accuracy"]
  samples: int
  temperature: float
  weight: float
  max_tokens: int
  problems: tuple[problem_set.Problem, ...]
  grade: GradeFn = dataclasses.field(repr=False, compare=False)
  template: str | None = None
  split: str = ""
  same: votes.SameFn | None = dataclasses.field(
      default=None, repr=False, compare=False
  )


class Sources(NamedTuple):
  """Where problems and verdicts come from.

  Attributes:
    data: folder with files of benchmarks; None for Hugging Face.
    split: of the embedded sets.
    pool: judges mathematical answers.
    own: sets that the user brings.
  """

  data: pathlib.Path | None
  split: arithmetic.Split
  pool: grading_pool.GradingPool
  own: tuple[own_sets.OwnSet, ...] = ()


_BENCHMARKS = {b.name: b for b in (*benchmarks.MATH6, benchmarks.GSM8K)}
_EMBEDDED = {s.name: s for s in arithmetic.SUITE}
SUITES = {
    "math6": tuple(b.name for b in benchmarks.MATH6),
    "embedded": tuple(_EMBEDDED),
}


def names_of(suite: str) -> tuple[str, ...]:
  """Names of the sets that a user asks for, each once, in their order.

  Args:
    suite: `math6`, `embedded`, or names of sets, separated by commas.

  Raises:
    ValueError: if a name is unknown, or there is none.
  """
  known = {name.casefold(): (name,) for name in (*_BENCHMARKS, *_EMBEDDED)}
  known |= SUITES
  found: dict[str, None] = {}
  for name in filter(None, (part.strip() for part in suite.split(","))):
    if name.casefold() not in known:
      close = difflib.get_close_matches(name.casefold(), known, 1)
      hint = f" (did you mean {close[0]}?)" if close else ""
      raise ValueError(
          f"the suite has no set {name!r}{hint}; there are"
          f" {', '.join((*SUITES, *_BENCHMARKS, *_EMBEDDED))}"
      )
    found |= dict.fromkeys(known[name.casefold()])
  if not found:
    raise ValueError("name at least one set, such as math6 or embedded")
  return tuple(found)


def load(name: str, sources: Sources) -> ScoredSet:
  """Loads a set by its name.

  Raises:
    FileNotFoundError: as `benchmarks.load`.
    ImportError: as `benchmarks.load`.
    ValueError: as `benchmarks.load`.
  """
  for own in sources.own:
    if own.name == name:
      return _own(own, sources.pool)
  if name in _EMBEDDED:
    return _embedded(_EMBEDDED[name], sources.split)
  if name not in _BENCHMARKS:
    raise ValueError(
        f"there is no set {name!r} here; if it is one of your own, give"
        " --problems with its file"
    )
  benchmark = _BENCHMARKS[name]
  grade, same = graders(name, sources.pool)
  return ScoredSet(
      name=name,
      metric=benchmark.metric,
      samples=benchmark.samples,
      temperature=benchmark.temperature,
      weight=benchmark.weight,
      max_tokens=benchmarks.EVALUATION_LENGTH,
      problems=benchmarks.load(benchmark, sources.data),
      grade=grade,
      same=same,
  )


def graders(
    name: str, pool: grading_pool.GradingPool
) -> tuple[GradeFn, votes.SameFn | None]:
  """What judges completions of a set, and what compares its answers."""
  if name in _EMBEDDED:
    return _grade_arithmetic, None
  same = functools.partial(pool.same_many, seconds=votes.SECONDS)
  return functools.partial(_grade_math, pool), same


def is_known(name: str) -> bool:
  """Whether it is a set that comes with the package, by its exact name."""
  return name in _BENCHMARKS or name in _EMBEDDED


def check_own(own: Sequence[own_sets.OwnSet]) -> None:
  """Refuses sets of one's own with names that others have.

  Raises:
    ValueError: naming them.
  """
  known = {n.casefold() for n in (*_BENCHMARKS, *_EMBEDDED, *SUITES)}
  if taken := [o.name for o in own if o.name.casefold() in known]:
    raise ValueError(
        "sets of problems of your own must not have names of others, got"
        f" {', '.join(taken)}; rename the files"
    )


def _own(own: own_sets.OwnSet, pool: grading_pool.GradingPool) -> ScoredSet:
  grade, same = graders(own.name, pool)
  return ScoredSet(
      name=own.name,
      metric=own.metric,
      samples=own.samples,
      temperature=0.0 if own.metric == "accuracy" else 1.0,
      weight=own.weight,
      max_tokens=benchmarks.EVALUATION_LENGTH,
      problems=own_sets.read(own),
      grade=grade,
      same=same,
  )


def _embedded(
    chosen: arithmetic.ProblemSet, split: arithmetic.Split
) -> ScoredSet:
  sampled = chosen.metric == "pass_at_k"
  count = SAMPLED_PROBLEMS if sampled else GREEDY_PROBLEMS
  problems = tuple(
      problem_set.Problem(p.prompt.rstrip("=_"), p.prompt, p.answer)
      for p in arithmetic.problems_of(chosen, split, count)
  )
  return ScoredSet(
      name=chosen.name,
      metric=chosen.metric,
      samples=embedded_suite.SAMPLES if sampled else 1,
      temperature=1.0 if sampled else 0.0,
      weight=chosen.weight,
      max_tokens=arithmetic.COMPLETION_LENGTH,
      problems=problems,
      grade=_grade_arithmetic,
      template="none",
      split=split.name.lower(),
  )


def _grade_math(
    pool: grading_pool.GradingPool,
    texts: Sequence[str],
    golds: Sequence[str],
    finished: Sequence[bool],
) -> Sequence[Grade]:
  """Also judges what the limit cut off: base policies ramble on."""
  del finished
  return pool.grade_many(texts, golds)


def _grade_arithmetic(
    texts: Sequence[str], golds: Sequence[str], finished: Sequence[bool]
) -> Sequence[Grade]:
  grades = (
      arithmetic.grade(text, gold, finished=end)
      for text, gold, end in zip(texts, golds, finished, strict=True)
  )
  return [Grade(g.correct, g.format_valid, g.answer) for g in grades]
