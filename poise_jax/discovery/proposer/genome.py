"""A policy-optimisation loss as a typed description: one choice in each slot.

A genome names what an algorithm does, not how it is written down. `rendering`
turns it into source; `grammar` varies it; its JSON form is stored with the
candidate, so that later proposals can build on it.
"""

from collections.abc import Collection, Mapping
import dataclasses
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import mechanisms
from poise_jax.discovery.proposer.slots import named as named_lib

# Slot -> choice -> the constants that are active with that choice.
SLOTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    slot: {choice: about.constants for choice, about in options.items()}
    for slot, options in mechanisms.BY_SLOT.items()
}


@dataclasses.dataclass(frozen=True)
class Genome:
  """One choice in each slot, and the constants of the choices made.

  Attributes:
    signal: what counts as reward.
    format: what an unparsable answer does to the signal.
    length: what the length of a completion does to it.
    subset: which completions statistics are taken over.
    baseline: what a reward is compared with.
    scale: what the difference is divided by.
    advantage_clip: bound on the advantage.
    failures: what groups without any success learn from.
    gating: how the state of a group weighs its completions.
    efficiency: stream for brevity among the correct.
    filter: which tokens are learnt from.
    anchor: which policy the ratio is taken to.
    ratio: whether policies are compared by token or by sequence.
    clip: how large a change of the ratio is still rewarded.
    trust_region: which tokens may still move, other than by their ratio.
    correction: weights for a sampler that is not quite the old policy.
    kl: penalty on the distance to the reference policy.
    kl_control: where and how strongly that penalty acts.
    entropy: reward for staying random.
    aggregation: how token losses become one number.
    constants: value of each active constant, no other.
  """

  signal: str = "reward"
  format: str = "none"
  length: str = "none"
  subset: str = "all"
  baseline: str = "group_mean"
  scale: str = "group_std"
  advantage_clip: str = "none"
  failures: str = "none"
  gating: str = "none"
  efficiency: str = "none"
  filter: str = "all"
  anchor: str = "old"
  ratio: str = "token"
  clip: str = "symmetric"
  trust_region: str = "none"
  correction: str = "none"
  kl: str = "none"
  kl_control: str = "fixed"
  entropy: str = "none"
  aggregation: str = "token_mean"
  constants: Mapping[str, float] = dataclasses.field(
      default_factory=lambda: {"clip_eps": 0.2, "epsilon": 1e-6}
  )

  def __post_init__(self):
    """Refuses what has no meaning: choices, their company, their constants."""
    for slot, options in SLOTS.items():
      if getattr(self, slot) not in options:
        raise ValueError(
            f"`{slot}` must be one of {sorted(options)}, got"
            f" {getattr(self, slot)!r}"
        )
    for slot, other in mechanisms.violations(self.choices):
      choice = getattr(self, slot)
      allowed = mechanisms.BY_SLOT[slot][choice].needs[other]
      raise ValueError(
          f"`{other}` must be one of {sorted(allowed)} where `{slot}` is"
          f" {choice!r}, got {getattr(self, other)!r}; `edited` mends that"
      )
    active = _active(self.choices)
    if set(active) != set(self.constants):
      raise ValueError(
          f"`constants` must be exactly {sorted(active)} for these choices,"
          f" got {sorted(self.constants)}"
      )
    for name, value in self.constants.items():
      low, high = knobs.CONSTANTS[name].low, knobs.CONSTANTS[name].high
      if not low <= value <= high:
        raise ValueError(
            f"constant `{name}` must be in [{low}, {high}], got {value}"
        )

  @property
  def choices(self) -> dict[str, str]:
    """Slot -> choice."""
    return {slot: getattr(self, slot) for slot in SLOTS}


def to_json(genome: Genome) -> dict[str, Any]:
  """A genome as plain dicts, strings and floats."""
  return {**genome.choices, "constants": dict(sorted(genome.constants.items()))}


def from_json(value: Mapping[str, Any]) -> Genome:
  """The inverse of `to_json`.

  Args:
    value: what `to_json` returned, possibly through a JSON text.

  Returns:
    An equal genome.

  Raises:
    ValueError: if a slot is missing or unknown, or a value is not allowed.
  """
  expected = {*SLOTS, "constants"}
  if set(value) != expected:
    raise ValueError(
        f"`value` must have exactly the keys {sorted(expected)}, got"
        f" {sorted(value)}"
    )
  constants = {name: float(x) for name, x in value["constants"].items()}
  return Genome(**{**value, "constants": constants})


def identity(genome: Genome) -> str:
  """Hash of the content of a genome: equal exactly for equal genomes."""
  return records.sha256(records.canonical_json(to_json(genome)))


def edited(
    genome: Genome,
    choices: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Genome:
  """Changes choices and constants, keeping every constant still active.

  Slots that do not go with the new choices change along, see
  `mechanisms.legal`.

  Args:
    genome: where to start.
    choices: slot -> new choice.
    constants: new values; a constant that is not active afterwards is dropped.
      A newly active constant that is not given takes its default.

  Returns:
    The changed genome.
  """
  asked = dict(choices or {})
  made = mechanisms.legal(genome.choices | asked, frozenset(asked))
  known = {**genome.constants, **(constants or {})}
  return Genome(
      **made,
      constants={
          name: known.get(name, knobs.CONSTANTS[name].default)
          for name in _active(made)
      },
  )


def slot_constants(genome: Genome, slot: str) -> dict[str, float]:
  """The active constants of one slot."""
  names = SLOTS[slot][getattr(genome, slot)]
  return {name: genome.constants[name] for name in names}


def distance(a: Genome, b: Genome) -> float:
  """Mean over slots of how much two genomes differ there, in [0, 1].

  A slot with different choices counts 1; with the same choice, half the mean
  difference of its constants, each measured in units of its own range.

  Args:
    a: one genome.
    b: the other.

  Returns:
    0 for equal genomes; symmetric.
  """
  total = 0.0
  for slot in SLOTS:
    mine, other = slot_constants(a, slot), slot_constants(b, slot)
    if getattr(a, slot) != getattr(b, slot):
      total += 1.0
    elif mine:
      gaps = [
          abs(knobs.position(n, mine[n]) - knobs.position(n, other[n]))
          for n in mine
      ]
      total += 0.5 * sum(gaps) / len(gaps)
  return total / len(SLOTS)


def changed_slots(child: Genome, parent: Genome) -> tuple[str, ...]:
  """Slots in which two genomes differ, by choice or by constant."""
  return tuple(
      slot
      for slot in SLOTS
      if getattr(child, slot) != getattr(parent, slot)
      or slot_constants(child, slot) != slot_constants(parent, slot)
  )


def without(genome: Genome, slots: Collection[str], root: Genome) -> Genome:
  """Sets slots back to what they are in `root`, constants included."""
  constants: dict[str, float] = {}
  for slot in slots:
    constants |= slot_constants(root, slot)
  return edited(genome, {s: getattr(root, s) for s in slots}, constants)


def _active(choices: Mapping[str, str]) -> list[str]:
  """The constants that are read, each once, in the order of the slots."""
  names = (n for slot in SLOTS for n in SLOTS[slot][choices[slot]])
  return list(dict.fromkeys(names))


def named(name: str) -> Genome:
  """The genome of an algorithm of the catalogue, at its default constants.

  Args:
    name: any member but the canaries.

  Returns:
    A genome whose rendering is the same function as the catalogue entry.

  Raises:
    ValueError: if the slots have no genome of that name.
  """
  if name not in named_lib.NAMED:
    raise ValueError(
        f"`name` must be one of {sorted(named_lib.NAMED)}, got {name!r}"
    )
  return edited(Genome(), *named_lib.NAMED[name])
