"""The offline proposer: new genomes from old ones, with reasons.

Five operators, all on genomes: change one slot, change two, tune a constant,
take a mechanism out, cross two parents (`operators`). Which choice a mutation
makes is drawn from what earlier children showed (`effects`); without history
every choice has the same odds, so a slot with more choices is varied more.
What failed before is kept away from (`negative_memory`). What comes out is a
candidate like any agent's: readable source with a rationale, a prediction and
a falsifier.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import types
from typing import Any

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.proposer import effects as mechanism_effects
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import (
    idle,
    negative_memory,
    neutral,
    operators,
    rendering,
    wording,
)

_REDRAWS = 60
_TUNING_DRAWS = 1000
# Points of Overall that a failure without a score counts as.
_FAILED = -4.0


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


class ExhaustedError(RuntimeError):
  """Nothing was found that has not been proposed before."""


def propose(
    rng: np.random.Generator,
    parents: Sequence[Parent],
    seen: Collection[str],
    *,
    index: int,
    root: genomes.Genome | None = None,
    history: Sequence[mechanism_effects.Observation] = (),
    failures: Sequence[negative_memory.Failure] = (),
    graded: bool = False,
    wanted: Mapping[str, float] = types.MappingProxyType({}),
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
    failures: what to keep away from.
    graded: whether rewards say more than right and wrong; if not, choices
      that then cannot act are left out.
    wanted: what is asked for beside Overall, see `effects.hopes`.

  Returns:
    A proposal that is neither a parent nor seen.

  Raises:
    ValueError: if there is no parent.
    ExhaustedError: if nothing unseen was found.
  """
  if not parents:
    raise ValueError("`parents` must hold at least one parent, got none")
  root = root if root is not None else genomes.named("grpo")
  failed = [
      mechanism_effects.Observation(f.genome, f.parent, _FAILED)
      for f in failures
      if f.parent is not None
  ]
  believed = mechanism_effects.posterior([*history, *failed], wanted=wanted)
  refused = {*seen, *(genomes.identity(p.genome) for p in parents)}
  refused |= {genomes.identity(f.genome) for f in failures}
  weights = [weight for _, weight in operators.OPERATORS.values()]
  drawn_from = [p.genome for p in parents]
  for _ in range(_REDRAWS):
    effects = mechanism_effects.draw(rng, believed)
    operator = str(rng.choice(list(operators.OPERATORS), p=weights))
    material = operators.Material(drawn_from, root, effects)
    draft = operators.OPERATORS[operator][0](rng, material)
    if draft is None:
      continue
    genome = idle.simplified(draft[0], graded=graded)
    proposal = _proposal(
        genome, parents[: draft[1]], operator=operator, index=index
    )
    if _is_new(proposal, refused) and _is_kept(rng, genome, failures):
      return proposal
  return _tuned(rng, parents, refused, index=index, graded=graded)


def _tuned(
    rng: np.random.Generator,
    parents: Sequence[Parent],
    refused: Collection[str],
    *,
    index: int,
    graded: bool,
) -> Proposal:
  """Tunes constants of the first parent, one more each time, until unseen."""
  genome = parents[0].genome
  blank = mechanism_effects.Draw({}, {})
  for _ in range(_TUNING_DRAWS):
    draft = operators.tune(rng, operators.Material([genome], genome, blank))
    if draft is None:  # nothing to tune: give it something
      genome = genomes.edited(genome, {"advantage_clip": "bounded"})
      continue
    genome = idle.simplified(draft[0], graded=graded)
    proposal = _proposal(genome, parents[:1], operator="tune", index=index)
    if _is_new(proposal, refused):
      return proposal
  raise ExhaustedError(
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


def _is_kept(
    rng: np.random.Generator,
    genome: genomes.Genome,
    failures: Sequence[negative_memory.Failure],
) -> bool:
  """Whether a draft is far enough from failures, by lot."""
  chance = negative_memory.acceptance(genome, failures)
  return chance >= 1.0 or float(rng.random()) < chance


def _proposal(
    genome: genomes.Genome,
    used_parents: Sequence[Parent],
    *,
    operator: str,
    index: int,
) -> Proposal:
  """Writes everything that is said about a genome."""
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
      neutral=neutral.constants(genome, first.genome),
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
