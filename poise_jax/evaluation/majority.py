"""maj@k: whether the most frequent answer of k samples is right."""

import collections
from collections.abc import Sequence
import math
import numbers


def maj_at_k(
    answers: Sequence[str | None], correct: Sequence[bool], k: int
) -> float:
  """Chance that k of the samples, drawn without replacement, vote right.

    maj@k = Σ_v v / C(n, k) · #{subsets of k in which the right answer wins
                               with a share v of the tie}

  counted exactly. All right samples vote for one answer, however it is
  written; wrong ones vote for what they wrote, compared as text without
  spaces, so those that mean the same must be spelled the same (`votes.group`);
  samples without an answer do not vote. Of m answers that share the
  most votes, each wins with chance 1/m. Without votes nothing is right.

  Args:
    answers: of the n samples of one problem, None where there is none.
    correct: which of them the verifier accepts.
    k: samples that vote.

  Raises:
    TypeError: if `k` is not a whole number.
    ValueError: unless 1 <= k <= n and there are as many of both.
  """
  if not isinstance(k, numbers.Integral):
    raise TypeError(f"`k` must be a whole number, got {k!r}")
  n = len(answers)
  if len(correct) != n:
    raise ValueError(
        f"`correct` must be as many as `answers`, got {len(correct)} and {n}"
    )
  if not 1 <= k <= n:
    raise ValueError(f"`k` must lie in [1, n = {n}], got {k}")
  pairs = list(zip(answers, correct, strict=True))
  wrong = collections.Counter(
      "".join(a.split()) for a, c in pairs if a is not None and not c
  )
  right = sum(map(bool, correct))
  silent = n - right - wrong.total()
  rivals = sorted(wrong.values())
  won = sum(
      math.comb(right, votes) * _ways(rivals, silent, votes, k - votes)
      for votes in range(1, min(right, k) + 1)
  )
  return won / math.comb(n, k)


def _ways(rivals: Sequence[int], silent: int, votes: int, rest: int) -> float:
  """Ways to draw `rest` others so that none has more than `votes`.

  Those with m rivals that have as many count 1 / (m + 1).
  """
  # (drawn so far, rivals level with the right answer) -> ways.
  states = {(0, 0): 1}
  for size in rivals:
    following: dict[tuple[int, int], int] = collections.defaultdict(int)
    for (drawn, level), ways in states.items():
      for taken in range(min(size, votes, rest - drawn) + 1):
        state = drawn + taken, level + (taken == votes)
        following[state] += ways * math.comb(size, taken)
    states = following
  return sum(
      ways * math.comb(silent, rest - drawn) / (level + 1)
      for (drawn, level), ways in states.items()
  )
