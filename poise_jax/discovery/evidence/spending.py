"""The error of a whole campaign, divided over its confirmations.

Some finalists are confirmed, in the order of their promise, which is fixed by
the search before the first fresh seed runs. With weights w_1 + w_2 + ... = 1,
the k-th is tested at the level

    α_k = w_k α + (α_{k-1} if the one before it was confirmed, else 0)

and the chance that anything is confirmed that is no better than the root is at
most α, however the tests depend on each other (they share the root's runs).
This is the fallback procedure. Against its two ends: with a fixed sequence
(w_1 = 1) all is lost if the luckiest candidate is not the best one; with equal
weights the likeliest discovery pays for tests that are rarely needed. The
default w_k ∝ 1 / k² spends 80 % of α on the first of two, and passes it on
where it was not in vain.

"A fixed sequence Bonferroni procedure for testing multiple endpoints" (Wiens
2003, https://doi.org/10.1002/pst.64); "The fallback procedure for evaluating a
single family of hypotheses" (Wiens and Dmitrienko 2005,
https://doi.org/10.1080/10543400500265660).
"""

from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
  """One line of the ledger.

  Attributes:
    order: 1 for the first confirmation.
    own: w_k α.
    carried: passed on by the confirmation before it.
    level: α_k, what it is tested at.
    confirmed: its outcome, None if not known yet.
  """

  order: int
  own: float
  carried: float
  level: float
  confirmed: bool | None


def weights(count: int, power: float = 2.0) -> tuple[float, ...]:
  """Weights w_k ∝ 1 / k^power of `count` confirmations, with sum 1.

  Args:
    count: confirmations planned, at least 1.
    power: 0 for equal weights; the larger, the more for the first.

  Raises:
    ValueError: if `count` is less than 1 or `power` negative.
  """
  if count < 1:
    raise ValueError(f"`count` must be at least 1, got {count}")
  if power < 0:
    raise ValueError(f"`power` must not be negative, got {power}")
  raw = [k**-power for k in range(1, count + 1)]
  return tuple(w / sum(raw) for w in raw)


def ledger(
    alpha: float, shares: Sequence[float], confirmed: Sequence[bool]
) -> tuple[Entry, ...]:
  """The levels so far: of all confirmations that are over, and of the next.

  Args:
    alpha: of the whole campaign.
    shares: w_k, as planned before the first confirmation.
    confirmed: outcomes so far, in order.

  Returns:
    One entry for each outcome, and one more for the next confirmation if one
    is planned.

  Raises:
    ValueError: if `alpha` or the shares are not probabilities, or there were
      more confirmations than planned.
  """
  if not 0 < alpha < 1:
    raise ValueError(f"`alpha` must lie in (0, 1), got {alpha}")
  if min(shares) < 0 or sum(shares) > 1 + 1e-9:
    raise ValueError(
        f"`shares` must not be negative, with a sum of at most 1, got {shares}"
    )
  if len(confirmed) > len(shares):
    raise ValueError(
        f"`confirmed` must have at most the {len(shares)} outcomes planned,"
        f" got {len(confirmed)}"
    )
  entries, carried = [], 0.0
  for k, share in enumerate(shares[: len(confirmed) + 1]):
    outcome = confirmed[k] if k < len(confirmed) else None
    level = share * alpha + carried
    entries.append(Entry(k + 1, share * alpha, carried, level, outcome))
    carried = level if outcome else 0.0
  return tuple(entries)


def next_level(
    alpha: float, shares: Sequence[float], confirmed: Sequence[bool]
) -> float | None:
  """Level of the next confirmation, None if no more are planned."""
  entries = ledger(alpha, shares, confirmed)
  return entries[-1].level if len(entries) > len(confirmed) else None


def as_text(entries: Sequence[Entry]) -> list[str]:
  """One line an entry, for a log."""
  outcomes = {None: "pending", True: "confirmed", False: "not confirmed"}
  return [
      f"confirmation {e.order}: level {e.level:.4f} (own {e.own:.4f}, carried"
      f" {e.carried:.4f}), {outcomes[e.confirmed]}"
      for e in entries
  ]
