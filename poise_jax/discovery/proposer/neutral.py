"""At which values of its constants a child does what its parent does.

A mechanism that joins a slot that was plain vanishes at the neutral values of
its constants; some swaps of one choice for another vanish too, because the one
is a limit of the other. The gate checks every claim by gradients.
"""

from collections.abc import Callable, Mapping

from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import genome as genomes

_Values = dict[str, float]
_Undo = Callable[[genomes.Genome], _Values | None]

_NO_CLIP = 1e6
_NO_BOUND = 1e9
_SOFTEST = 1e-4


def _constant(**values: float) -> _Undo:
  return lambda parent: dict(values)


def _as_epsilon(name: str) -> _Undo:
  """A divisor that is as small as that of the parent."""
  return lambda parent: {name: parent.constants["epsilon"]}


def _floor(parent: genomes.Genome) -> _Values | None:
  """A floor where the parent adds: alike where both are out of sight."""
  epsilon = parent.constants["epsilon"]
  return {"sigma_floor": epsilon} if epsilon <= 1e-5 else None


def _same_clip(**more: float) -> _Undo:
  """The range of the parent on both sides."""

  def undo(parent: genomes.Genome) -> _Values:
    eps = parent.constants["clip_eps"]
    return {"clip_eps": eps, "clip_eps_high": eps} | more

  return undo


def _kept(*names: str, **more: float) -> _Undo:
  """Constants that both have, as in the parent."""
  return lambda parent: {n: parent.constants[n] for n in names} | more


# (slot, old choice, new choice) -> what undoes the swap.
_SWAPS: Mapping[tuple[str, str, str], _Undo] = {
    ("baseline", "group_mean", "anchor"): _constant(anchor_mix=1.0),
    ("baseline", "group_mean", "history"): _constant(history_mix=0.0),
    ("baseline", "group_mean", "beta_prior"): _constant(
        prior_successes=1e-12, prior_failures=1e-12
    ),
    ("scale", "group_std", "damped_std"): _as_epsilon("damping"),
    ("scale", "group_std", "analytic"): _floor,
    ("scale", "none", "fixed"): _constant(sigma_fixed=1.0),
    ("clip", "symmetric", "clip_higher"): _same_clip(),
    ("clip", "symmetric", "dual"): _kept("clip_eps", dual_clip=_NO_BOUND),
    ("clip", "none", "symmetric"): _constant(clip_eps=_NO_CLIP),
    ("clip", "none", "clip_higher"): _constant(
        clip_eps=_NO_CLIP, clip_eps_high=_NO_CLIP
    ),
    ("clip", "none", "dual"): _constant(clip_eps=_NO_CLIP, dual_clip=_NO_BOUND),
    ("clip", "none", "soft_gate"): _constant(
        tau_positive=_SOFTEST, tau_negative=_SOFTEST
    ),
    ("aggregation", "seq_sum_mean", "constant_norm"): _constant(
        length_constant=1.0
    ),
    ("aggregation", "seq_sum_mean", "length_power_norm"): _constant(
        length_constant=1.0, length_decay=0.0
    ),
    ("aggregation", "constant_norm", "length_power_norm"): _kept(
        "length_constant", length_decay=0.0
    ),
    ("entropy", "bonus", "proportional"): _kept(
        "entropy_coef", entropy_rate=0.0, entropy_coef_max=1.0
    ),
    ("entropy", "bonus", "annealed"): _kept(
        "entropy_coef", entropy_rate=0.0, entropy_coef_max=1.0
    ),
    ("entropy", "none", "proportional"): _constant(entropy_coef=0.0),
    ("entropy", "none", "annealed"): _constant(entropy_coef=0.0),
    ("trust_region", "none", "clip_cov"): _constant(cov_fraction=0.0),
    ("filter", "all", "high_entropy"): _constant(entropy_fraction=1.0),
    ("kl_control", "fixed", "failed_only"): _constant(kl_elsewhere=1.0),
    ("kl_control", "fixed", "adaptive"): _constant(kl_horizon=1e12),
}


def constants(
    child: genomes.Genome, parent: genomes.Genome
) -> dict[str, float]:
  """Values of the child's constants at which its loss is its parent's.

  Args:
    child: the new genome.
    parent: the genome it was made from.

  Returns:
    Constant -> value; empty if some change cannot be undone by constants.
  """
  values: _Values = {}
  for slot in genomes.changed_slots(child, parent):
    undone = _undone(slot, child, parent)
    if undone is None:
      return {}
    values |= undone
  return {n: v for n, v in values.items() if child.constants[n] != v}


def _undone(
    slot: str, child: genomes.Genome, parent: genomes.Genome
) -> _Values | None:
  """What undoes the change of one slot; None if nothing does."""
  new, old = getattr(child, slot), getattr(parent, slot)
  if new == old:
    return genomes.slot_constants(parent, slot)
  if slot == "kl_control" and parent.kl == "none":
    return {}  # It vanishes with the penalty.
  if (slot, old, new) in _SWAPS:
    return _SWAPS[slot, old, new](parent)
  if old != "none" or slot in ("clip", "scale"):
    return None
  neutral = {
      name: knobs.CONSTANTS[name].neutral
      for name in genomes.slot_constants(child, slot)
  }
  known = {name: value for name, value in neutral.items() if value is not None}
  # Constants of the same mechanism that have no neutral value only shape what
  # has vanished.
  return known or None
