"""The words of a proposal: its name, why, what it predicts, what refutes it."""

from collections.abc import Collection, Mapping, Sequence

from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms

SIGNALS = {
    "overall": "Overall",
    "entropy": "entropy",
    "kl": "KL to the reference",
    "response_length": "response length",
    "valid_rate": "valid rate",
    "advantages/mean_abs": "mean size of advantages",
    "clip_fraction": "clip fraction",
}

_SEEDS = "over at least three common seeds"


def tag(slot: str, choice: str) -> str:
  """A short name for a choice that is clear without its slot."""
  if choice == "none":
    return f"no_{slot}"
  return choice if "_" in choice else f"{choice}_{slot}"


def candidate_name(
    child: genomes.Genome, parent: genomes.Genome, *, index: int
) -> str:
  """Names a candidate after what is new in it, e.g. `valid_only-004`."""
  tags = [
      tag(slot, getattr(child, slot))
      for slot in genomes.changed_slots(child, parent)
      if getattr(child, slot) != getattr(parent, slot)
  ]
  if len(tags) > 2:
    tags = [*tags[:2], f"and_{len(tags) - 2}_more"]
  if not tags:
    tags = [f"tuned_{name}" for name in _tuned(child, parent)[:2]]
  return "-".join([*tags, f"{index:03d}"])


def difference(child: genomes.Genome, parent: genomes.Genome) -> list[str]:
  """One phrase for each change from parent to child, in slot order."""
  phrases = []
  for slot in genomes.changed_slots(child, parent):
    new, old = getattr(child, slot), getattr(parent, slot)
    if new != old:
      words = mechanisms.MECHANISMS[slot, new].words
      phrases.append(f"{slot} from {old} to {new} (now {words})")
  for name in _tuned(child, parent):
    before, after = parent.constants[name], child.constants[name]
    verb = "raised" if after > before else "lowered"
    phrases.append(
        f"{knobs.CONSTANTS[name].words} ({name}) {verb} from {before:g} to"
        f" {after:g}"
    )
  return phrases


def rationale(
    child: genomes.Genome,
    parents: Sequence[tuple[str, genomes.Genome]],
    operator: str,
) -> str:
  """States bottleneck and hypothesis of each change, and how it came about.

  Args:
    child: the new genome.
    parents: name and genome of its parents, most important first.
    operator: how the child was made.

  Returns:
    A few sentences.
  """
  name, parent = parents[0]
  sentences = []
  if operator == "remove":
    sentences.append(
        f"Takes a part out of {name} to see whether it earns its place."
    )
  elif operator == "cross":
    sentences.append(
        f"Carries parts of {parents[1][0]} over to {name}; what helped each"
        " alone may help together."
    )
  for slot in genomes.changed_slots(child, parent):
    choice = getattr(child, slot)
    if choice != getattr(parent, slot):
      about = mechanisms.MECHANISMS[slot, choice]
      origin = f" ({about.source})" if about.source else ""
      sentences.append(
          f"Bottleneck: {about.bottleneck}. Hypothesis: {about.hypothesis}"
          f"{origin}."
      )
  for constant in _tuned(child, parent):
    before, after = parent.constants[constant], child.constants[constant]
    verb = "Raises" if after > before else "Lowers"
    sentences.append(
        f"{verb} {knobs.CONSTANTS[constant].words} of {name} from {before:g}"
        f" to {after:g}: its value was a guess, not a measurement."
    )
  return " ".join(sentences)


def predicted_effects(
    child: genomes.Genome, parent: genomes.Genome, operator: str
) -> dict[str, int]:
  """Metric -> +1 or -1 expected against the parent.

  The signs of all changes are added up; where they cancel nothing is
  predicted. Overall is predicted to rise unless something was taken out.

  Args:
    child: the new genome.
    parent: the genome it was made from.
    operator: how it was made.

  Returns:
    Metrics in the order of `SIGNALS`.
  """
  votes = dict.fromkeys(SIGNALS, 0)
  votes["overall"] = 0 if operator == "remove" else 1
  for slot, choice in child.choices.items():
    if choice != getattr(parent, slot):
      _add(votes, mechanisms.MECHANISMS[slot, choice].effects, 1)
  for name in _tuned(child, parent):
    larger = child.constants[name] > parent.constants[name]
    _add(votes, knobs.CONSTANTS[name].larger, 1 if larger else -1)
  return {k: 1 if vote > 0 else -1 for k, vote in votes.items() if vote}


def prediction(effects: Mapping[str, int], parent_name: str) -> str:
  """Words the predicted effects."""
  moves = [
      f"{SIGNALS[metric]} {'higher' if sign > 0 else 'lower'}"
      for metric, sign in effects.items()
  ]
  if "overall" not in effects:
    moves.append("Overall no lower")
  return f"against {parent_name}, {', '.join(moves)}."


def falsifier(
    child: genomes.Genome,
    parent: genomes.Genome,
    parent_names: Sequence[str],
    operator: str,
) -> str:
  """Words what would refute the proposal."""
  if operator == "cross":
    both = " and ".join(parent_names)
    clauses = [f"Overall is no higher than that of the better of {both}"]
  elif operator == "remove":
    clauses = [f"Overall falls below that of {parent_names[0]}"]
  else:
    clauses = [
        mechanisms.MECHANISMS[slot, choice].falsifier
        for slot, choice in child.choices.items()
        if choice != getattr(parent, slot)
    ] or [f"Overall is no higher than that of {parent_names[0]}"]
  return f"{_SEEDS}, {'; or '.join(clauses)}."


def _tuned(child: genomes.Genome, parent: genomes.Genome) -> list[str]:
  """Constants active in both, in slots of equal choice, with another value."""
  same: Collection[str] = [
      name
      for slot in genomes.SLOTS
      if getattr(child, slot) == getattr(parent, slot)
      for name in genomes.slot_constants(child, slot)
  ]
  return [n for n in same if child.constants[n] != parent.constants[n]]


def _add(votes: dict[str, int], effects: Mapping[str, int], sign: int) -> None:
  """Adds signed effects to the votes."""
  for metric, effect in effects.items():
    votes[metric] += sign * effect
