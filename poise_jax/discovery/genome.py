"""A policy-optimisation loss as a typed description: one choice in each slot.

A genome names what an algorithm does, not how it is written down. `rendering`
turns it into source; `grammar` varies it; its JSON form is stored with the
candidate, so that later proposals can build on it.
"""

from collections.abc import Collection, Mapping
import dataclasses
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery import constants as knobs

# Slot -> choice -> the constants that are active with that choice.
SLOTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "validity": {
        "none": (),
        "valid_only": ("invalid_advantage",),
        "format_penalty": ("format_penalty",),
        "format_stream": ("format_weight",),
    },
    "baseline": {
        "group_mean": (),
        "leave_one_out": (),
        "batch_mean": (),
        "beta_prior": ("prior_successes", "prior_failures"),
    },
    "scale": {
        "none": (),
        "group_std": (),
        "batch_rms": (),
        "analytic": ("sigma_floor",),
        "fixed": ("sigma_fixed",),
    },
    "failures": {
        "none": (),
        "fixed_negatives": ("failure_valid", "failure_invalid"),
        "damped": ("failure_damping",),
    },
    "gating": {
        "none": (),
        "silence_solved": (),
        "downweight_uniform": ("uniform_weight",),
        "difficulty_weight": ("difficulty_gain",),
    },
    "length": {
        "none": (),
        "correct_efficiency": ("efficiency_coef",),
        "overlength_penalty": ("overlength_coef",),
        "temper_negatives": ("temper_span",),
    },
    "ratio": {"token": (), "sequence": ()},
    "clip": {
        "symmetric": ("clip_eps",),
        "clip_higher": ("clip_eps", "clip_eps_high"),
        "dual": ("clip_eps", "dual_clip"),
        "none": (),
    },
    "aggregation": {
        "token_mean": (),
        "token_mean_prompt": (),
        "seq_mean": (),
        "seq_sum_mean": (),
        "constant_norm": ("length_constant",),
    },
    "kl": {"none": (), "k3": ("kl_coef",)},
    "entropy": {"none": (), "bonus": ("entropy_coef",)},
    "advantage_clip": {"none": (), "bounded": ("advantage_limit",)},
}


@dataclasses.dataclass(frozen=True)
class Genome:
  """One choice in each slot, and the constants of the choices made.

  Attributes:
    validity: what an unparsable answer does to the signal.
    baseline: what a reward is compared with.
    scale: what the difference is divided by.
    failures: what groups without any success learn from.
    gating: how the state of a group weighs its completions.
    length: how the length of a completion enters.
    ratio: whether old and new policy are compared by token or by sequence.
    clip: how large a change of the ratio is still rewarded.
    aggregation: how token losses become one number.
    kl: penalty on the distance to the reference policy.
    entropy: reward for staying random.
    advantage_clip: bound on the advantage.
    constants: value of each active constant, no other.
  """

  validity: str = "none"
  baseline: str = "group_mean"
  scale: str = "group_std"
  failures: str = "none"
  gating: str = "none"
  length: str = "none"
  ratio: str = "token"
  clip: str = "symmetric"
  aggregation: str = "token_mean"
  kl: str = "none"
  entropy: str = "none"
  advantage_clip: str = "none"
  constants: Mapping[str, float] = dataclasses.field(
      default_factory=lambda: {"clip_eps": 0.2}
  )

  def __post_init__(self):
    """Refuses unknown choices and missing, idle or out-of-range constants."""
    active = []
    for slot, options in SLOTS.items():
      choice = getattr(self, slot)
      if choice not in options:
        raise ValueError(
            f"`{slot}` must be one of {sorted(options)}, got {choice!r}"
        )
      active.extend(options[choice])
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

  Args:
    genome: where to start.
    choices: slot -> new choice.
    constants: new values; a constant that is not active afterwards is dropped.
      A newly active constant that is not given takes its default.

  Returns:
    The changed genome.
  """
  made = genome.choices | dict(choices or {})
  active = [name for slot in SLOTS for name in SLOTS[slot].get(made[slot], ())]
  known = {**genome.constants, **(constants or {})}
  return Genome(
      **made,
      constants={n: known.get(n, knobs.CONSTANTS[n].default) for n in active},
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


def idle_choices(genome: Genome) -> dict[str, str]:
  """Choices that cannot act, given the others, and what they amount to.

  Centring on the group's own mean leaves a group of equal rewards with zero
  advantage, so damping, silencing or down-weighting such a group does nothing
  unless another mechanism gives it a signal first. Leaving one out multiplies
  all advantages of a group by G / (G - 1), which dividing by their own root
  mean square undoes.

  Args:
    genome: a description.

  Returns:
    Slot -> plainer choice with the same loss; empty if every part can act.
  """
  off_group = genome.baseline in ("batch_mean", "beta_prior")
  failed = off_group or genome.validity != "none"
  uniform = failed or genome.failures == "fixed_negatives"
  cancels = genome.scale in ("group_std", "batch_rms")
  idle = {
      "failures": genome.failures == "damped" and not failed,
      "gating": (genome.gating == "silence_solved" and not off_group)
      or (genome.gating == "downweight_uniform" and not uniform),
  }
  plain = {slot: "none" for slot, is_idle in idle.items() if is_idle}
  if (
      genome.baseline == "leave_one_out"
      and cancels
      and genome.validity != "valid_only"
  ):
    plain["baseline"] = "group_mean"
  return plain


_FORMAT_PENALTY = {"validity": "format_penalty"}
_KNOWN: Mapping[str, tuple[Mapping[str, str], Mapping[str, float]]] = {
    "grpo": ({}, {}),
    "dr_grpo": ({"scale": "none", "aggregation": "constant_norm"}, {}),
    "rloo": ({"scale": "none", "baseline": "leave_one_out"}, {}),
    "dapo": ({"clip": "clip_higher"}, {}),
    "grpo_format_penalty": (_FORMAT_PENALTY, {"format_penalty": 1.0}),
    "bn_grpo": (
        {"scale": "batch_rms", "advantage_clip": "bounded"},
        {"advantage_limit": 3.0},
    ),
    "av_grpo": (
        {**_FORMAT_PENALTY, "scale": "analytic"},
        {"format_penalty": 1.0, "sigma_floor": 0.1},
    ),
    "vm_av_grpo": (
        {
            "validity": "valid_only",
            "baseline": "beta_prior",
            "scale": "analytic",
            "length": "temper_negatives",
            "advantage_clip": "bounded",
        },
        {
            "invalid_advantage": -3.5,
            "sigma_floor": 0.1,
            "advantage_limit": 3.0,
        },
    ),
}


def named(name: str) -> Genome:
  """The genome of an algorithm of the catalogue, at its default constants.

  Args:
    name: grpo, dr_grpo, rloo, dapo, grpo_format_penalty, bn_grpo, av_grpo or
      vm_av_grpo.

  Returns:
    A genome whose rendering is the same function as the catalogue entry.

  Raises:
    ValueError: if the slots have no genome of that name.
  """
  if name not in _KNOWN:
    raise ValueError(f"`name` must be one of {sorted(_KNOWN)}, got {name!r}")
  return edited(Genome(), *_KNOWN[name])


def without(genome: Genome, slots: Collection[str], root: Genome) -> Genome:
  """Sets slots back to what they are in `root`, constants included."""
  constants: dict[str, float] = {}
  for slot in slots:
    constants |= slot_constants(root, slot)
  return edited(genome, {s: getattr(root, s) for s in slots}, constants)
