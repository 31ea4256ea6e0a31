"""The offline proposer: new genomes from old ones, with reasons.

Five operators, all on genomes: change one slot, change two, tune a constant,
take a mechanism out, cross two parents. Which choice a mutation makes is
drawn from what earlier children showed (`effects`); without history every
choice has the same odds, so a slot with more choices is varied more. What comes out is a candidate like any agent's: readable
source with a rationale, a prediction and a falsifier.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery import constants as knobs
from poise_jax.discovery import effects as mechanism_effects
from poise_jax.discovery import genome as genomes
from poise_jax.discovery import rendering, wording

_REDRAWS = 60
_TUNING_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Parent:
  """A candidate to build on.

  Attributes:
    id: candidate id.
    name: candidate name.
    genome: its description.
    overall: mean Overall, None if not known.
    delta: mean Overall minus that of its own parent, None if not known.
  """

  id: str
  name: str
  genome: genomes.Genome
  overall: float | None = None
  delta: float | None = None

  @property
  def standing(self) -> str:
    """What is known of its score, as a sentence; empty if nothing is."""
    if self.overall is None:
      return ""
    against = "" if self.delta is None else f", {self.delta:+.1f} on its parent"
    return f"{self.name} stood at Overall {self.overall:.1f}{against}. "


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A new candidate, before verification.

  Attributes:
    name: what is new in it, and its index.
    genome: its description.
    parents: ids of its parents, most important first.
    operator: how it was made: mutate, mutate_two, tune, remove or cross.
    source: its text.
    rationale: why it might help.
    prediction: what should be seen if it does.
    falsifier: what would refute it.
    mechanisms: JSON-like: `genome`, `operator`, `changed` (slots that differ
      from the first parent), `prediction` (metric -> +1 or -1), `falsifier`.
  """

  name: str
  genome: genomes.Genome
  parents: tuple[str, ...]
  operator: str
  source: str
  rationale: str
  prediction: str
  falsifier: str
  mechanisms: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _Material:
  """What the operators draw on."""

  parents: Sequence[Parent]
  root: genomes.Genome
  effects: mechanism_effects.Effects


# An operator returns the child and how many parents it used, None if it does
# not apply.
_Draft = tuple[genomes.Genome, int] | None
_Operator = Callable[[np.random.Generator, _Material], _Draft]


def mutate(rng: np.random.Generator, material: _Material) -> _Draft:
  """Changes the slot whose change looks best in the current draw."""
  del rng
  return _with_best_changes(material, 1), 1


def mutate_two(rng: np.random.Generator, material: _Material) -> _Draft:
  """Changes the two slots whose changes look best in the current draw."""
  del rng
  return _with_best_changes(material, 2), 1


def _with_best_changes(material: _Material, count: int) -> genomes.Genome:
  """Replaces the choice in `count` slots, by drawn gain over what is there."""
  genome, effects = material.parents[0].genome, material.effects
  gains = {}
  for slot, options in genomes.SLOTS.items():
    old = getattr(genome, slot)
    best = max((c for c in options if c != old), key=lambda c: effects[slot, c])
    gains[slot] = (effects[slot, best] - effects[slot, old], best)
  chosen = sorted(gains, key=lambda slot: -gains[slot][0])[:count]
  return genomes.edited(genome, {slot: gains[slot][1] for slot in chosen})


def tune(rng: np.random.Generator, material: _Material) -> _Draft:
  """Moves one constant by at least 5 % of its range, on its own scale."""
  genome = material.parents[0].genome
  if not genome.constants:
    return None
  name = str(rng.choice(sorted(genome.constants)))
  place = knobs.position(name, genome.constants[name])
  step = (0.05 + abs(rng.normal(0.0, 0.15))) * rng.choice([-1.0, 1.0])
  if not 0.0 <= place + step <= 1.0:
    step = -step
  value = knobs.at_position(name, place + step)
  return genomes.edited(genome, constants={name: value}), 1


def remove(rng: np.random.Generator, material: _Material) -> _Draft:
  """Sets the slot that looks worst in the draw back to the root's choice."""
  del rng
  genome, root = material.parents[0].genome, material.root
  gains = {
      slot: material.effects[slot, getattr(root, slot)]
      - material.effects[slot, choice]
      for slot, choice in genome.choices.items()
      if choice != getattr(root, slot)
  }
  if not gains:
    return None
  return genomes.without(genome, [max(gains, key=gains.__getitem__)], root), 1


def cross(rng: np.random.Generator, material: _Material) -> _Draft:
  """Takes some of the differing slots, not all, from the second parent."""
  if len(material.parents) < 2:
    return None
  first, second = (p.genome for p in material.parents[:2])
  differing = genomes.changed_slots(first, second)
  if len(differing) < 2:
    return None
  count = int(rng.integers(1, len(differing)))
  taken = rng.choice(differing, size=count, replace=False)
  return genomes.without(first, [str(slot) for slot in taken], second), 2


_OPERATORS: Mapping[str, tuple[_Operator, float]] = {
    "mutate": (mutate, 0.40),
    "mutate_two": (mutate_two, 0.15),
    "tune": (tune, 0.15),
    "remove": (remove, 0.10),
    "cross": (cross, 0.20),
}


def propose(
    rng: np.random.Generator,
    parents: Sequence[Parent],
    seen: Collection[str],
    *,
    index: int,
    root: genomes.Genome | None = None,
    history: Sequence[mechanism_effects.Observation] = (),
) -> Proposal:
  """Proposes one new candidate.

  Deterministic given the state of `rng` and the other arguments.

  Args:
    rng: source of all choices.
    parents: at least one; the first is varied, the second is its partner
      where two are crossed.
    seen: hashes not to emit again, of sources or of genomes
      (`genome.identity`); the parents count as seen anyway.
    index: position in the campaign, the last part of the name.
    root: where removal leads back to; grpo if None.
    history: what earlier children did.

  Returns:
    A proposal that is neither a parent nor seen.

  Raises:
    ValueError: if there is no parent.
    RuntimeError: if nothing unseen was found.
  """
  if not parents:
    raise ValueError("`parents` must hold at least one parent, got none")
  root = root if root is not None else genomes.named("grpo")
  refused = {*seen, *(genomes.identity(p.genome) for p in parents)}
  weights = [weight for _, weight in _OPERATORS.values()]
  for _ in range(_REDRAWS):
    drawn = mechanism_effects.draw_effects(rng, history)
    operator = str(rng.choice(list(_OPERATORS), p=weights))
    draft = _OPERATORS[operator][0](rng, _Material(parents, root, drawn))
    if draft is None:
      continue
    proposal = _proposal(*draft, parents, operator=operator, index=index)
    if _is_new(proposal, refused):
      return proposal
  return _tuned(rng, parents, refused, index=index)


def _tuned(
    rng: np.random.Generator,
    parents: Sequence[Parent],
    refused: Collection[str],
    *,
    index: int,
) -> Proposal:
  """Tunes constants of the first parent, one more each time, until unseen."""
  genome = parents[0].genome
  for _ in range(_TUNING_DRAWS):
    if not genome.constants:  # nothing to tune: give it something
      genome = genomes.edited(genome, {"advantage_clip": "bounded"})
    here = dataclasses.replace(parents[0], genome=genome)
    draft = tune(rng, _Material([here], genome, {}))
    if draft is not None:
      genome = draft[0]
    proposal = _proposal(genome, 1, parents, operator="tune", index=index)
    if _is_new(proposal, refused):
      return proposal
  raise RuntimeError(
      f"no unseen candidate in {_TUNING_DRAWS} draws from parents"
      f" {[p.id for p in parents]} with {len(refused)} refused; choose other"
      " parents"
  )


def _is_new(proposal: Proposal, refused: Collection[str]) -> bool:
  """Whether neither genome nor source has been seen."""
  return (
      genomes.identity(proposal.genome) not in refused
      and records.sha256(proposal.source) not in refused
  )


def _proposal(
    genome: genomes.Genome,
    used: int,
    parents: Sequence[Parent],
    *,
    operator: str,
    index: int,
) -> Proposal:
  """Simplifies a genome and writes everything that is said about it."""
  genome = genomes.edited(genome, genomes.idle_choices(genome))
  used_parents = parents[:used]
  first = used_parents[0]
  names = [p.name for p in used_parents]
  name = wording.candidate_name(genome, first.genome, index=index)
  signs = wording.predicted_effects(genome, first.genome, operator)
  rationale = first.standing + wording.rationale(
      genome, [(p.name, p.genome) for p in used_parents], operator
  )
  prediction = wording.prediction(signs, first.name)
  falsifier = wording.falsifier(genome, first.genome, names, operator)
  source = rendering.render(
      genome,
      name=name,
      parents=names,
      rationale=rationale,
      prediction=prediction,
      falsifier=falsifier,
      neutral=neutral_constants(genome, first.genome),
  )
  return Proposal(
      name=name,
      genome=genome,
      parents=tuple(p.id for p in used_parents),
      operator=operator,
      source=source,
      rationale=rationale,
      prediction=prediction,
      falsifier=falsifier,
      mechanisms={
          "genome": genomes.to_json(genome),
          "operator": operator,
          "changed": list(genomes.changed_slots(genome, first.genome)),
          "prediction": signs,
          "falsifier": falsifier,
      },
  )


def neutral_constants(
    child: genomes.Genome, parent: genomes.Genome
) -> dict[str, float]:
  """Values of the child's constants at which its loss is its parent's.

  Args:
    child: the new genome.
    parent: the genome it was made from.

  Returns:
    Constant -> value; empty if some change cannot be undone by constants.
  """
  values: dict[str, float] = {}
  for slot in genomes.changed_slots(child, parent):
    own = genomes.slot_constants(child, slot)
    before = genomes.slot_constants(parent, slot)
    new, old = getattr(child, slot), getattr(parent, slot)
    if new == old:
      undone = before
    elif old == "none" and slot != "clip":
      neutral = {n: knobs.CONSTANTS[n].neutral for n in own}
      undone = {n: v for n, v in neutral.items() if v is not None}
    elif (old, new) == ("symmetric", "clip_higher"):
      undone = {**before, "clip_eps_high": before["clip_eps"]}
    else:
      undone = {}
    if not undone:
      return {}
    values |= {n: v for n, v in undone.items() if own[n] != v}
  return values
