"""Problems that stand in two sets, word for word or nearly so.

A model that was trained on a problem is not measured by it. Texts are compared
as sequences of lower-case words and numbers, LaTeX commands being words, so
that spacing, punctuation and brackets do not matter. The comparison is exact,
through an index of word n-grams; a few seconds for twelve thousand problems.
"""

import collections
from collections.abc import Sequence
import re
from typing import NamedTuple

from poise_jax.tasks import problem_set

_WORD = re.compile(r"[a-z]+|\d+")
# Ways to typeset, which differ between copies of one problem.
_TYPESETTING = re.compile(
    r"\\(?:left|right|displaystyle|d?frac|tfrac|text|mbox|mathrm|textbf|quad"
    r"|begin|end|big|Big|cdot|times|ldots|dots|cdots)(?![a-zA-Z])"
    r"|\[asy\].*?\[/asy\]",
    re.DOTALL,
)
_N = 5


class Overlap(NamedTuple):
  """Two problems that are too much alike.

  Attributes:
    first: id in the first set.
    second: id in the second set.
    similarity: share of the shorter one's n-grams that the longer one has, in
      (0, 1]; 1 where all words are equal.
    exact: whether all words are equal.
    same_answer: whether the answers are the same text.
  """

  first: str
  second: str
  similarity: float
  exact: bool
  same_answer: bool


def words(text: str) -> tuple[str, ...]:
  """The words and numbers of a text, typesetting left out."""
  return tuple(_WORD.findall(_TYPESETTING.sub(" ", text).lower()))


def _grams(sequence: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
  return frozenset(sequence[i : i + _N] for i in range(len(sequence) - _N + 1))


def overlaps(
    first: Sequence[problem_set.Problem],
    second: Sequence[problem_set.Problem],
    threshold: float = 0.8,
    shortest: int = 8,
) -> tuple[Overlap, ...]:
  """Finds pairs of problems that are equal or nearly so.

  Args:
    first: problems, such as those to train on.
    second: problems, such as those to evaluate on.
    threshold: the least share of the shorter problem's 5-grams of words that
      counts; of 1, only problems contained in one another.
    shortest: problems with fewer 5-grams are reported if equal only.

  Returns:
    In the order of the first set, then of the second.

  Raises:
    ValueError: if `threshold` is not in (0, 1].
  """
  if not 0 < threshold <= 1:
    raise ValueError(
        f"`threshold` must be above 0 and at most 1, got {threshold}; use 0.8"
    )
  texts = [words(problem.prompt) for problem in second]
  grams = [_grams(text) for text in texts]
  index = collections.defaultdict(list)
  equal = collections.defaultdict(list)
  for i, (text, present) in enumerate(zip(texts, grams, strict=True)):
    equal[text].append(i)
    for gram in present:
      index[gram].append(i)
  found = []
  for problem in first:
    text = words(problem.prompt)
    present = _grams(text)
    shared = collections.Counter(i for g in present for i in index.get(g, ()))
    for i in sorted(shared.keys() | set(equal.get(text, ()))):
      exact = texts[i] == text
      smaller = min(len(present), len(grams[i]))
      similarity = 1.0 if exact else shared[i] / max(smaller, 1)
      if exact or (smaller >= shortest and similarity >= threshold):
        other = second[i]
        same_answer = problem.answer == other.answer
        found.append(
            Overlap(problem.id, other.id, similarity, exact, same_answer)
        )
  return tuple(found)


def require_disjoint(
    training: Sequence[problem_set.Problem],
    evaluation: Sequence[problem_set.Problem],
    threshold: float = 0.8,
) -> None:
  """Checks that nothing is trained on that is evaluated on.

  Args:
    training: problems to train on.
    evaluation: problems to evaluate on.
    threshold: see `overlaps`.

  Raises:
    ValueError: naming the first pairs that overlap.
  """
  found = overlaps(training, evaluation, threshold)
  if found:
    pairs = "; ".join(
        f"{o.first} ~ {o.second} ({o.similarity:.2f})" for o in found[:5]
    )
    raise ValueError(
        "`training` and `evaluation` must be disjoint, got"
        f" {len(found)} pairs of the same problem, such as {pairs}; remove"
        " them from `training` with `without_overlaps`"
    )


def without_overlaps(
    training: Sequence[problem_set.Problem],
    evaluation: Sequence[problem_set.Problem],
    threshold: float = 0.8,
) -> tuple[problem_set.Problem, ...]:
  """The training problems that are not evaluated on, in their order."""
  found = {o.first for o in overlaps(training, evaluation, threshold)}
  return tuple(p for p in training if p.id not in found)
