"""The code from rewards to advantages, for each pair of baseline and scale.

Over the whole group the atoms say it; over a subset (`valid`, of which there
are `count` in a group) the same sums are written out with weights.
"""

from collections.abc import Callable

from poise_jax.discovery.proposer import genome as genomes

_CENTRED = {
    "group_mean": "advantage = advantages.group_centered(rewards)",
    "leave_one_out": "advantage = advantages.leave_one_out(rewards)",
    "batch_mean": "advantage = advantages.batch_centered(rewards)",
    "length_weighted": """\
advantage = advantages.length_weighted(rewards, batch.lengths)""",
    "beta_prior": """\
baseline = regimes.beta_mean(
    rewards,
    jnp.ones_like(rewards),
    alpha=hparams["prior_successes"],
    beta=hparams["prior_failures"],
)
advantage = rewards - baseline""",
    "anchor": """\
own = advantages.group_centered(rewards)
shared = advantages.batch_centered(rewards)
mix = hparams["anchor_mix"]
advantage = mix * own + (1.0 - mix) * shared""",
    "history": """\
past = batch.history_pass_rate[:, None]
mix = hparams["history_mix"]
advantage = advantages.group_centered(rewards)
advantage = advantage + mix * (advantages.group_mean(rewards) - past)""",
    "pass_at_k": """\
advantage = advantages.pass_at_k(
    batch.correct, k=hparams["pass_k"], epsilon=1e-6
)""",
}

_COUNT = "count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1.0)"
_OWN_MEAN = """\
own = jnp.sum(valid * rewards, axis=1, keepdims=True) / count"""
_SHARED_MEAN = """\
shared = jnp.sum(valid * rewards) / jnp.maximum(jnp.sum(valid), 1.0)"""
_SUBTRACTED = "advantage = valid * (rewards - baseline)"
_CENTRED_SUBSET = {
    "group_mean": f"""\
{_OWN_MEAN}
advantage = valid * (rewards - own)""",
    "leave_one_out": f"""\
{_OWN_MEAN}
correction = count / jnp.maximum(count - 1.0, 1.0)
advantage = valid * (rewards - own) * correction""",
    "batch_mean": f"""\
{_SHARED_MEAN}
advantage = valid * (rewards - shared)""",
    "length_weighted": f"""\
lengths = valid * batch.lengths
tokens = jnp.maximum(jnp.sum(lengths, axis=1, keepdims=True), 1.0)
baseline = jnp.sum(lengths * rewards, axis=1, keepdims=True) / tokens
{_SUBTRACTED}""",
    "beta_prior": f"""\
baseline = regimes.beta_mean(
    rewards,
    valid,
    alpha=hparams["prior_successes"],
    beta=hparams["prior_failures"],
)
{_SUBTRACTED}""",
    "anchor": f"""\
{_OWN_MEAN}
{_SHARED_MEAN}
mix = hparams["anchor_mix"]
baseline = mix * own + (1.0 - mix) * shared
{_SUBTRACTED}""",
    "history": f"""\
{_OWN_MEAN}
mix = hparams["history_mix"]
baseline = (1.0 - mix) * own + mix * batch.history_pass_rate[:, None]
{_SUBTRACTED}""",
}

_GROUP_RMS = """\
spread = jnp.sqrt(jnp.mean(advantage**2, axis=1, keepdims=True))"""
_GROUP_RMS_SUBSET = """\
total = jnp.sum(advantage**2, axis=1, keepdims=True)
spread = jnp.sqrt(total / count)"""
_DIVIDED = 'advantage = advantage / (spread + hparams["{epsilon}"])'
_BY_EPSILON = _DIVIDED.replace("{epsilon}", "epsilon")
_BY_DAMPING = _DIVIDED.replace("{epsilon}", "damping")
_FLOORED = """\
advantage = advantage / jnp.maximum(sigma, hparams["sigma_floor"])"""
_BERNOULLI = f"""\
sigma = jnp.sqrt(jnp.maximum(baseline * (1.0 - baseline), 0.0))
{_FLOORED}"""
_FIXED = 'advantage = advantage / hparams["sigma_fixed"]'

# A scale of tokens comes later, when there are advantages of tokens.
_SCALED = {
    "none": "",
    "token_whitened": "",
    "fixed": _FIXED,
    "bernoulli": _BERNOULLI,
    "group_std": f"{_GROUP_RMS}\n{_BY_EPSILON}",
    "damped_std": f"{_GROUP_RMS}\n{_BY_DAMPING}",
    "analytic": f"sigma = advantages.group_std(rewards)\n{_FLOORED}",
    "anchored": """\
sigma = regimes.anchored_std(
    batch.correct, rewards, epsilon=hparams["epsilon"]
)
advantage = advantage / jnp.maximum(sigma, hparams["epsilon"])""",
    "batch_rms": f"""\
spread = jnp.sqrt(jnp.mean(advantage**2))
{_BY_EPSILON}""",
    "batch_std": f"""\
spread = advantages.batch_std(advantage, ddof=1)
{_BY_EPSILON}""",
    "batch_spread": f"""\
spread = advantages.batch_std(rewards, ddof=1)
{_BY_EPSILON}""",
    "active_rms": f"""\
active = masks.nonzero_spread(rewards) * jnp.ones_like(rewards)
size = jnp.maximum(jnp.sum(active), 1.0)
spread = jnp.sqrt(jnp.sum(active * advantage**2) / size)
{_BY_EPSILON}""",
    "active": """\
active = jnp.mean(masks.nonzero_spread(rewards))
advantage = advantage / jnp.where(active > 0, active, 1.0)""",
}
_SCALED_SUBSET = {
    "none": "",
    "token_whitened": "",
    "fixed": _FIXED,
    "bernoulli": _BERNOULLI,
    "group_std": f"{_GROUP_RMS_SUBSET}\n{_BY_EPSILON}",
    "damped_std": f"{_GROUP_RMS_SUBSET}\n{_BY_DAMPING}",
    "analytic": f"""\
total = jnp.sum(advantage**2, axis=1, keepdims=True)
sigma = jnp.sqrt(total / count)
{_FLOORED}""",
    "batch_rms": f"""\
spread = jnp.sqrt(jnp.sum(advantage**2) / jnp.maximum(jnp.sum(valid), 1.0))
{_BY_EPSILON}""",
}

# Pairs of baseline and scale for which one atom says it all.
_NORMALIZED = """\
advantage = advantages.group_normalized(rewards, {arguments})"""
_WHOLE = {
    ("group_mean", "group_std"): _NORMALIZED.replace(
        "{arguments}", 'epsilon=hparams["epsilon"]'
    ),
    ("group_mean", "damped_std"): _NORMALIZED.replace(
        "{arguments}", 'epsilon=hparams["damping"]'
    ),
    ("group_mean", "sample_std"): """\
advantage = advantages.group_normalized(
    rewards, ddof=1, epsilon=hparams["epsilon"]
)""",
    ("group_mean", "mean"): """\
advantage = advantages.mean_scaled(rewards, epsilon=hparams["epsilon"])""",
    ("group_mean", "analytic"): """\
advantage = advantages.analytic_variance(
    rewards, sigma_min=hparams["sigma_floor"]
)""",
}
_FILL_INVALID = """\
any_valid = jnp.max(valid, axis=1, keepdims=True) > 0
fill = jnp.where(any_valid, hparams["invalid_advantage"], 0.0)
advantage = jnp.where(valid > 0, advantage, fill)"""


def statistics(
    genome: genomes.Genome, comment: Callable[[str, str], str]
) -> list[str]:
  """Writes the statements that turn `rewards` into `advantage`.

  Args:
    genome: its subset, baseline and scale are read.
    comment: gives the comment for the choice in a slot.

  Returns:
    Pieces of code. They define `baseline` or `valid` where later ones may
    read them.
  """
  pair = (genome.baseline, genome.scale)
  about = comment("baseline", genome.baseline)
  scaled_here = genome.scale not in ("none", "token_whitened")
  if scaled_here:
    scale_about = comment("scale", genome.scale)
  if genome.subset == "all":
    if pair in _WHOLE:
      return [about + scale_about + _WHOLE[pair]]
    parts = [about + _CENTRED[genome.baseline]]
    table = _SCALED
  else:
    kept = {
        "valid": "valid = batch.format_valid",
        "untruncated": "valid = masks.untruncated(batch.truncated)",
    }[genome.subset]
    parts = [comment("subset", genome.subset) + kept, _COUNT]
    parts.append(about + _CENTRED_SUBSET[genome.baseline])
    table = _SCALED_SUBSET
  if scaled_here:
    parts.append(scale_about + table[genome.scale])
  if genome.subset == "valid":
    parts.append(_FILL_INVALID)
  return parts
