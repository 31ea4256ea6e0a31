"""Takes a winner of a campaign apart: `ablation` with the campaign's own trials.

Every smaller program that is looked at goes through the gate and is stored as a
candidate of role "variant", so a search that was cut off goes on where it was.
"""

from collections.abc import Mapping, Sequence
import functools
import math
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery import admission
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.dissection import (
    ablation,
    bench,
    explanation,
    parts,
    source_parts,
)
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms, rendering
from poise_jax.evaluation import confidence_sequences, non_inferiority

_SPARE = 8  # one trial in so many may be made ahead in vain


def dissect(
    means: explanation.Means, winner: records.Candidate, first: int
) -> Mapping[str, Any]:
  """Reduces a winner to its core.

  Args:
    means: campaign, score and plan.
    winner: an admitted candidate.
    first: index of the first variant that is stored.

  Returns:
    What `ablation.run` found, JSON-like, with `core_id`, the candidate that is
    the core; `variants`, how many were stored; the `margin`; and `sentences`.
  """
  plan = means.plan
  variants = _Variants(means.campaign, winner, first, plan.max_variants)
  spare = plan.ablation_trials // _SPARE
  rule = non_inferiority.Rule(
      margin=plan.margin, alpha=plan.alpha, max_pairs=plan.pairs
  )
  found = ablation.run(
      winner.source,
      _stages(means, winner),
      ablation.Plan(
          rule=rule,
          seeds=plan.chosen_by(plan.pairs),
          fresh_seeds=plan.fresh(plan.pairs),
          effect_pairs=plan.effect_pairs,
          max_trainings=plan.ablation_trials - spare,
      ),
      variants.examine,
      _Ahead(means, variants, spare).measure,
  )
  return explanation.as_json(found) | {
      "name": winner.name,
      "core_id": variants.of(found.core).id,
      "variants": variants.count,
      "margin": plan.margin,
      "budget": plan.budget,
      "sentences": [
          _declared(means, rule),
          *ablation.sentences(found, plan.margin),
      ],
  }


def _declared(means: explanation.Means, rule: non_inferiority.Rule) -> str:
  """Where the winner is taken apart, and how fine the comparisons are."""
  counts = range(2, rule.max_pairs + 1)
  bound = lambda n: confidence_sequences.boundary(
      n, rule.alpha, scale=rule.scale
  )
  # No loss at all is shown to be below the margin if √n margin / sd >= b_n.
  finest = max(rule.margin * math.sqrt(n) / bound(n) for n in counts)
  return (
      f"Taken apart {means.where}: a part goes if the loss without it is shown"
      f" to be below {rule.margin:.3g} points, which {rule.max_pairs} pairs can"
      f" show where their differences have an sd of at most {finest:.2g}."
  )


def _stages(
    means: explanation.Means, winner: records.Candidate
) -> list[ablation.Stage]:
  """Mechanisms where they are known, then constants, then the text."""
  stages: list[ablation.Stage] = []
  known = "genome" in winner.mechanisms and "genome" in means.root.mechanisms
  if known:
    stages.append(lambda source: _mechanisms(winner, means.root))
  stages.append(parts.constants)
  if means.plan.statements or not known:
    stages.append(source_parts.decompose)
  return stages


def _mechanisms(
    winner: records.Candidate, root: records.Candidate
) -> parts.Decomposition:
  """The slots in which two genomes differ."""
  child, origin = (
      genomes.from_json(c.mechanisms["genome"]) for c in (winner, root)
  )
  slots = genomes.changed_slots(child, origin)

  def without(names: Sequence[str]) -> str:
    return rendering.render(
        genomes.without(child, names, origin),
        name=f"{winner.name} reduced",
        parents=(winner.name,),
        rationale=f"without {', '.join(names) or 'nothing'}.",
        prediction="This shows what is left of the effect.",
        falsifier="None: it claims nothing.",
    )

  words = {
      slot: mechanisms.MECHANISMS[slot, getattr(child, slot)].words
      for slot in slots
  }
  return parts.mechanisms(slots, without, words)


class _Variants:
  """Sources and the candidates that they are stored as.

  Attributes:
    count: variants stored.
  """

  def __init__(
      self,
      campaign: campaign_lib.Campaign,
      winner: records.Candidate,
      first: int,
      most: int,
  ):
    self._campaign = campaign
    self._winner = winner
    self._first = first
    self._most = most
    self.count = 0
    # Of equal texts the first, but the winner is itself.
    self._known: dict[str, records.Candidate] = {winner.source: winner}
    for candidate in campaign.candidates:
      if candidate.index < first and candidate.accepted:
        self._known.setdefault(candidate.source, candidate)

  def examine(self, source: str) -> bench.Examined:
    """Takes a source through the gate, unless the campaign has it."""
    if source not in self._known:
      if self.count >= self._most:
        return bench.Examined(f"{self._most} programs were examined already")
      self._known[source] = self._admit(source)
    return bench.of_candidate(self._known[source])

  def of(self, source: str) -> records.Candidate:
    """The candidate of a source that was examined."""
    return self._known[source]

  def _admit(self, source: str) -> records.Candidate:
    index = self._first + self.count
    name = f"{self._winner.name}_part_{self.count:03d}"
    draft = admission.Draft(
        name=name,
        role="variant",
        generation=self._winner.generation,
        parents=(),  # What its NEUTRAL leads back to is of no interest here.
        source=source,
        mechanisms={"explains": self._winner.id},
        rationale=f"{self._winner.name} without some of its parts.",
    )
    candidate = self._campaign.admit(index, draft)
    if candidate.source != draft.text:
      raise ValueError(
          f"`first` must leave room for the variants of {self._winner.name}:"
          f" index {index} holds {candidate.name}, another program"
      )
    self.count += 1
    return candidate


class _Ahead:
  """Measures two seeds at once where the second will hardly be in vain."""

  def __init__(self, means: explanation.Means, variants: _Variants, spare: int):
    self._means = means
    self._variants = variants
    self._spare = spare
    plan = means.plan
    blocks = (plan.chosen_by(plan.pairs), plan.fresh(plan.pairs))
    # An odd one at the end goes alone.
    self._next = {
        a: b for s in blocks for a, b in zip(s[::2], s[1::2], strict=False)
    }
    self._asked: set[tuple[str, int]] = set()
    self._made: set[tuple[str, int]] = set()

  def measure(self, source: str, seed: int) -> bench.Outcome:
    """Trains with one seed, and with the next one beside it."""
    candidate = self._variants.of(source)
    self._asked.add((candidate.id, seed))
    seeds = [seed]
    idle = len(self._made - self._asked)
    if seed in self._next and idle < self._spare:
      seeds.append(self._next[seed])
    self._made |= {(candidate.id, s) for s in seeds}
    want = functools.partial(self._means.wanted, candidate)
    run = self._means.measured([want(s) for s in seeds])[0]
    return bench.Outcome(run.score, run.diverged)
