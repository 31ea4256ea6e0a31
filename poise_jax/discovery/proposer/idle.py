"""Choices that cannot act, given the others, and what they amount to.

Centring on the group's own mean leaves a group of equal rewards with zero
advantage, so damping, silencing or down-weighting such a group does nothing
unless another mechanism gives it a signal first. What rewards can say matters:
where they are 1 for right and 0 for wrong, every solved or failed group has
equal ones.
"""

from poise_jax.discovery.proposer import genome as genomes

_GROUP_CENTRED = ("group_mean", "leave_one_out", "length_weighted", "pass_at_k")
# Scales in which a factor of all advantages of equal size cancels.
_CANCELS = ("group_std", "batch_rms", "batch_std", "active_rms")
_PUSHES = ("fixed_negatives", "constant_push", "entropy_signal")
_BY_TOKEN = {
    "scale": ("token_whitened",),
    "kl": ("returns",),
    "correction": ("truncated_token", "icepop"),
    "trust_region": ("total_variation", "bernoulli_kl", "clip_cov"),
}


def idle_choices(
    genome: genomes.Genome, *, graded: bool = False
) -> dict[str, str]:
  """Finds choices that another, plainer one would do the work of.

  Args:
    genome: a description.
    graded: whether rewards say more than right and wrong.

  Returns:
    Slot -> plainer choice with the same loss; empty if every part can act.
  """
  outcome = genome.signal == "correctness" or (
      genome.signal == "reward" and not graded
  )
  bare = (
      outcome
      and genome.format != "penalty"
      and genome.length != "overlong_penalty"
      and not genome.kl.startswith("in_reward")
  )
  # Groups that are solved have no advantages; nor, unless some are unparsable
  # and told apart, have those that failed.
  solved_silent = bare and genome.baseline in _GROUP_CENTRED
  failed_silent = solved_silent and genome.subset != "valid"
  pushed = genome.failures in _PUSHES
  plain: dict[str, str] = {}
  if genome.failures == "damped" and failed_silent:
    plain["failures"] = "none"
  if genome.gating == "damp_solved" and solved_silent:
    plain["gating"] = "none"
  if genome.gating == "downweight_uniform" and failed_silent and not pushed:
    plain["gating"] = "none"
  if (
      genome.signal == "correctness"
      and not graded
      and genome.baseline != "pass_at_k"
  ):
    plain["signal"] = "reward"
  if genome.scale == "anchored" and bare:
    plain["scale"] = "group_std"
  if (
      genome.baseline == "leave_one_out"
      and genome.scale in _CANCELS
      and genome.subset == "all"
  ):
    plain["baseline"] = "group_mean"
  if genome.ratio == "sequence_token" and not any(
      getattr(genome, slot) in choices for slot, choices in _BY_TOKEN.items()
  ):
    plain["ratio"] = "sequence"
  return plain


def simplified(
    genome: genomes.Genome, *, graded: bool = False
) -> genomes.Genome:
  """Takes idle choices out until there are none."""
  while plain := idle_choices(genome, graded=graded):
    genome = genomes.edited(genome, plain)
  return genome
