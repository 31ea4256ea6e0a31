"""Choosing by lot with known odds, so that the choice can be replayed.

A rule that always takes the best leaves nothing to learn about what it did not
take. Here every node keeps some chance, and the chance is written down: the
weight of an outcome under another rule is the ratio of the two chances.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

# Indices chosen so far -> probability of each node to be the next.
NextFn = Callable[[tuple[int, ...]], np.ndarray]


class Draws(NamedTuple):
  """What was drawn, in order.

  Attributes:
    chosen: indices.
    probabilities: of each node in each draw, given the draws before it.
  """

  chosen: tuple[int, ...]
  probabilities: Float[np.ndarray, "draws N"]


def odds(
    preferences: Float[np.ndarray, "N"],
    chosen: tuple[int, ...],
    *,
    temperature: float,
    uniform_share: float,
) -> Float[np.ndarray, "N"]:
  """Probability of each node to be drawn next.

    p_i = ε / m + (1 - ε) exp(s_i / τ) / Σ_j exp(s_j / τ)

  over the m nodes that are left. Without ε, drawing one after another by it is
  the Plackett-Luce model; ε keeps every probability at least ε / m, which
  bounds the weights of a replay.

  Args:
    preferences: s, higher is better.
    chosen: nodes that cannot be drawn again.
    temperature: τ; with 0 the best of them has all of 1 - ε, the first in a
      tie.
    uniform_share: ε, in [0, 1].

  Returns:
    Probabilities that add up to 1; 0 for `chosen`.

  Raises:
    ValueError: if nothing is left, or an argument is out of range.
  """
  if temperature < 0 or not 0 <= uniform_share <= 1:
    raise ValueError(
        "`temperature` must be at least 0 and `uniform_share` in [0, 1], got"
        f" {temperature} and {uniform_share}"
    )
  left = np.ones(len(preferences), bool)
  left[list(chosen)] = False
  if not left.any():
    raise ValueError(
        f"`chosen` must leave a node to draw, got all {len(preferences)}"
    )
  best = np.where(left, preferences, -np.inf)
  if temperature > 0:
    keen = np.exp((best - best.max()) / temperature)
    keen /= keen.sum()
  else:
    keen = np.eye(len(preferences))[int(np.argmax(best))]
  return uniform_share * left / left.sum() + (1 - uniform_share) * keen


def draw(
    following: NextFn, count: int, rng: np.random.Generator | None
) -> Draws:
  """Draws `count` different nodes, fewer if there are fewer.

  Args:
    following: indices chosen so far -> probability of each node; it ends the
      draws by giving none.
    count: draws wanted.
    rng: source of the draws. With None the most probable node is taken every
      time, the first in a tie, and what is reported is that it was certain.

  Returns:
    The nodes drawn and the probabilities they were drawn with.
  """
  chosen: tuple[int, ...] = ()
  rows = []
  while len(chosen) < count:
    odds_now = following(chosen)
    if not odds_now.any():
      break
    if rng is None:
      odds_now = np.eye(len(odds_now))[int(np.argmax(odds_now))]
      pick = int(np.argmax(odds_now))
    else:
      pick = _lot(odds_now, rng.random())
    chosen = (*chosen, pick)
    rows.append(odds_now)
  return Draws(chosen, np.asarray(rows))


def _lot(probabilities: np.ndarray, uniform: float) -> int:
  """The node on which a uniform number in [0, 1) falls."""
  edges = np.cumsum(probabilities)
  spot = int(np.searchsorted(edges, uniform * edges[-1], side="right"))
  return min(spot, int(np.flatnonzero(probabilities)[-1]))
