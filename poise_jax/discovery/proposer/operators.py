"""How a genome is made from others: change, cross, tune, take out.

All are guided by one draw of what mechanisms do (`effects`).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import numpy as np

from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import effects as mechanism_effects
from poise_jax.discovery.proposer import genome as genomes

# A change of a constant is at least this part of its usual step.
_LEAST_STEP = 1 / 3


@dataclasses.dataclass(frozen=True)
class Material:
  """What the operators draw on.

  Attributes:
    parents: genomes to build on; the first is varied, the second its partner.
    root: where removal leads back to.
    effects: one draw.
  """

  parents: Sequence[genomes.Genome]
  root: genomes.Genome
  effects: mechanism_effects.Draw


# A child and how many parents it used; None if the operator does not apply.
Draft = tuple[genomes.Genome, int] | None
Operator = Callable[[np.random.Generator, Material], Draft]


def mutate(rng: np.random.Generator, material: Material) -> Draft:
  """Makes the change of one slot that looks best in the draw.

  What goes along for the sake of types counts too.
  """
  del rng
  return _best_change(material.parents[0], material.effects), 1


def mutate_two(rng: np.random.Generator, material: Material) -> Draft:
  """Makes two such changes, one after the other."""
  del rng
  first = _best_change(material.parents[0], material.effects)
  changed = genomes.changed_slots(first, material.parents[0])
  return _best_change(first, material.effects, frozenset(changed)), 1


def _best_change(
    genome: genomes.Genome,
    effects: mechanism_effects.Draw,
    kept: frozenset[str] = frozenset(),
) -> genomes.Genome:
  """The single choice, outside of `kept`, of which the draw expects most.

  Sums of more terms are larger by chance alone, so the gain of a choice that
  takes others along is divided by the root of their number.
  """
  best, most = genome, -np.inf
  for slot, options in genomes.SLOTS.items():
    if slot in kept:
      continue
    for choice in options:
      if choice == getattr(genome, slot):
        continue
      child = genomes.edited(genome, {slot: choice})
      changed = genomes.changed_slots(child, genome)
      if not changed or kept & set(changed):
        continue
      gain = mechanism_effects.expected_gain(effects, child, genome)
      gain /= len(changed) ** 0.5
      if gain > most:
        best, most = child, gain
  return best


def tune(rng: np.random.Generator, material: Material) -> Draft:
  """Moves one constant, the way that the draw expects more of.

  The constant is chosen at random, those with steep slopes more often.
  """
  genome, slopes = material.parents[0], material.effects.slopes
  names = [n for n in sorted(genome.constants) if knobs.CONSTANTS[n].step]
  if not names:
    return None
  weights = np.array([1.0 + abs(slopes.get(n, 0.0)) for n in names])
  name = str(rng.choice(names, p=weights / weights.sum()))
  usual = knobs.CONSTANTS[name].step
  place = knobs.position(name, genome.constants[name])
  size = usual * (_LEAST_STEP + abs(rng.normal(0.0, 1.0)))
  slope = slopes.get(name, 0.0) or rng.normal()
  step = float(np.sign(slope)) * size
  if not 0.0 <= place + step <= 1.0:
    step = -step
  value = knobs.at_position(name, place + step)
  return genomes.edited(genome, constants={name: value}), 1


def remove(rng: np.random.Generator, material: Material) -> Draft:
  """Sets the slot that looks worst in the draw back to the root's choice."""
  del rng
  genome, root = material.parents[0], material.root
  children = [
      genomes.without(genome, [slot], root)
      for slot, choice in genome.choices.items()
      if choice != getattr(root, slot)
  ]
  if not children:
    return None
  gain = lambda child: mechanism_effects.expected_gain(
      material.effects, child, genome
  )
  return max(children, key=gain), 1


def cross(rng: np.random.Generator, material: Material) -> Draft:
  """Takes some of the differing slots, not all, from the second parent.

  Each is taken with a probability that grows with what the draw expects of
  it; what does not go together then is mended in favour of what was taken.
  """
  if len(material.parents) < 2:
    return None
  first, second = material.parents[:2]
  differing = genomes.changed_slots(first, second)
  if len(differing) < 2:
    return None
  effects = material.effects.choices
  gains = np.array(
      [
          effects[slot, getattr(second, slot)]
          - effects[slot, getattr(first, slot)]
          for slot in differing
      ]
  )
  odds = 1.0 / (1.0 + np.exp(-np.clip(gains, -30.0, 30.0)))
  takes = rng.random(len(differing)) < odds
  if takes.all() or not takes.any():
    takes[int(np.argmin(gains) if takes.all() else np.argmax(gains))] ^= True
  taken = [s for s, take in zip(differing, takes, strict=True) if take]
  return genomes.without(first, taken, second), 2


# Name -> operator and how often it is tried.
OPERATORS: Mapping[str, tuple[Operator, float]] = {
    "mutate": (mutate, 0.40),
    "mutate_two": (mutate_two, 0.15),
    "tune": (tune, 0.15),
    "remove": (remove, 0.10),
    "cross": (cross, 0.20),
}
