r"""Which answers to one problem are one answer, for votes among them.

`1/2`, `0.5` and `\frac{2}{4}` are one vote for a half, though they are spelled
differently, and right or wrong. Equal spellings are found without algebra; the
most frequent others are compared in pairs, each under a limit.
"""

import collections
from collections.abc import Callable, Sequence

from poise_jax.tasks import answer_extraction, answer_notation

MOST = 16  # spellings of one problem that are compared
SECONDS = 0.5  # for each comparison
LATE = 4  # comparisons cut off, after which no others are made

# (answers, others) to whether each pair means the same; None: not known.
SameFn = Callable[[Sequence[str], Sequence[str]], Sequence[bool | None]]


def group(answers: Sequence[str | None], same: SameFn) -> list[str | None]:
  """Gives answers that mean the same one spelling.

  Spellings come by how often they occur, then by their place. Each joins the
  first group whose first member it means the same as, or begins one. So at most
  `MOST` (`MOST` - 1) / 2 pairs are compared; what is not decided in time, what
  comes after `LATE` such pairs, and rarer spellings stay apart.

  Args:
    answers: to one problem, None where there is none.
    same: compares pairs.

  Returns:
    For each answer the first one written of its group, None where it is None.
  """
  keys = [None if a is None else canonical(a) for a in answers]
  counts = collections.Counter(key for key in keys if key is not None)
  first = {}
  for key, answer in zip(keys, answers, strict=True):
    first.setdefault(key, answer)
  # Of equal counts, Counter keeps those that come first before the others.
  ordered = [key for key, _ in counts.most_common()]
  leader: dict[str, str] = {}
  leaders: list[str] = []
  late = 0
  for key in ordered[:MOST]:
    if late >= LATE:
      break
    found = same([first[x] for x in leaders], [first[key]] * len(leaders))
    joined = (x for x, s in zip(leaders, found, strict=True) if s)
    leader[key] = next(joined, key)
    late += sum(s is None for s in found)
    if leader[key] == key:
      leaders.append(key)
  return [None if k is None else first[leader.get(k, k)] for k in keys]


def canonical(answer: str) -> str:
  """An answer without what never matters: spaces, ways to write a fraction."""
  if len(answer) > answer_notation.LONGEST:
    return "".join(answer.split())
  try:
    plain = answer_notation.normal(answer_extraction.unwrap(answer))
    return answer_notation.compact(plain)
  # What is no mathematics is compared as it is.
  except (RecursionError, ValueError, ArithmeticError, MemoryError):
    return "".join(answer.split())
