"""What the campaign has seen of each mechanism, as draws to act on.

Thompson sampling: every choice in every slot has an effect on Overall, seen
through noise whenever a child introduced it. Acting on a draw from the
posterior, not on its mean, keeps trying what has been tried little.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poise_jax.discovery import genome as genomes

Effects = dict[tuple[str, str], float]


class Observation(NamedTuple):
  """What one child did to Overall.

  Attributes:
    child: its genome.
    parent: the genome it was made from.
    delta: mean Overall of the child minus that of its parent.
  """

  child: genomes.Genome
  parent: genomes.Genome
  delta: float


def draw_effects(
    rng: np.random.Generator,
    history: Sequence[Observation],
    *,
    prior_sd: float = 2.0,
    noise_sd: float = 3.0,
) -> Effects:
  """Draws the effect of every choice in every slot from its posterior.

  Effects are independent N(0, prior_sd²). A child that changed m choices by
  δ in all is taken as one observation of δ/m for each, with variance
  noise_sd², and of -δ/m for each choice that was replaced. With n
  observations of mean x,

    effect ~ N(v n x / noise_sd², v),   1/v = 1/prior_sd² + n/noise_sd².

  Interactions between mechanisms and differences between the backgrounds they
  were tried on are ignored.

  Args:
    rng: source of the draw.
    history: children and what they did; those that only tuned a constant say
      nothing here.
    prior_sd: in points of Overall.
    noise_sd: of one difference, in points of Overall.

  Returns:
    (slot, choice) -> effect.
  """
  shares: dict[tuple[str, str], list[float]] = {}
  for child, parent, delta in history:
    new, old = child.choices, parent.choices
    changed = [slot for slot in new if new[slot] != old[slot]]
    for slot in changed:
      share = delta / len(changed)
      shares.setdefault((slot, new[slot]), []).append(share)
      shares.setdefault((slot, old[slot]), []).append(-share)
  effects = {}
  for slot, options in genomes.SLOTS.items():
    for choice in options:
      seen = shares.get((slot, choice), [])
      variance = 1 / (1 / prior_sd**2 + len(seen) / noise_sd**2)
      mean = variance * sum(seen) / noise_sd**2
      effects[slot, choice] = float(rng.normal(mean, variance**0.5))
  return effects
