"""Delta debugging: a small set of parts that still passes a test.

See "Simplifying and Isolating Failure-Inducing Input" by Zeller and Hildebrandt
(2002), https://doi.org/10.1109/32.988498.
"""

from collections.abc import Callable, Sequence


def minimise(
    parts: Sequence[str], passes: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...]:
  """Finds a set of parts that passes, while none without one more part does.

  Sets are halved, then cut finer: first each piece alone is tried, then all
  without it. The empty set is tried first. At most about n² tests for n parts,
  about 2 log₂ n where a single part is needed.

  Args:
    parts: all, in order; they pass and are not tested.
    passes: whether these parts are enough; asked once for each set.

  Returns:
    The parts to keep, in order. It is minimal in that no single further part
    can go, not the smallest of all sets that pass.
  """
  known: dict[tuple[str, ...], bool] = {tuple(parts): True}

  def test(kept: Sequence[str]) -> bool:
    key = tuple(kept)
    if key not in known:
      known[key] = passes(key)
    return known[key]

  kept, count = tuple(parts), 2
  if not kept or test(()):
    return ()
  while len(kept) > 1:
    pieces = _pieces(kept, min(count, len(kept)))
    rest = [tuple(p for p in kept if p not in piece) for piece in pieces]
    if piece := next(filter(test, pieces), None):
      kept, count = piece, 2
    elif smaller := next(filter(test, rest), None):
      kept, count = smaller, max(count - 1, 2)
    elif count < len(kept):
      count *= 2
    else:
      break
  return kept


def _pieces(parts: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
  """Cuts into so many consecutive pieces, as equal as can be."""
  edges = [len(parts) * i // count for i in range(count + 1)]
  return [
      parts[i:j] for i, j in zip(edges[:-1], edges[1:], strict=True) if i < j
  ]
