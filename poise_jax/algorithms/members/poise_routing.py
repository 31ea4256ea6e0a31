"""What POISE discovered about failed, mixed and solved groups, as losses.

See "POISE" (https://arxiv.org/abs/2603.23951), appendix A.2. Only FA-GRPO has
a complete formula there; of the others the paper has a sentence or two, and
what stands here is our reconstruction, as each docstring says. A group is
failed if nobody in it is correct, solved if everybody is, else mixed.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    length_shaping,
    masks,
    ratios,
    regimes,
    surrogates,
)
from poise_jax.shapes import Array, Float

FA_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "advantage_clip": 3.0,
    "invalid_advantage": -2.0,
    "wrong_advantage": -0.5,
    "kl_coef": 0.0,
}

GLA_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "advantage_clip": 3.0,
    "kl_coef": 0.0,
}

PR_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "failed_advantage": -0.5,
    "kl_coef": 0.0,
}

CDA_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "prior_successes": 1.0,
    "prior_failures": 0.5,
    "sigma_floor": 0.1,
    "format_coef": 0.2,
    "length_coef": 0.2,
    "kl_coef": 0.0,
}

DFR_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "advantage_clip": 3.0,
    "kappa": 0.25,
    "entropy_epsilon": 1e-4,
    "format_coef": 0.2,
    "kl_coef": 0.0,
}

RF_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "damping": 0.1,
    "advantage_clip": 3.0,
    "format_reward": 0.1,
    "kl_coef": 0.001,
}


def fa_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """FA-GRPO: a constant push away where nobody succeeds.

    max r > 0:  A = clip((r - μ) / (σ + epsilon), ±advantage_clip)
    otherwise:  A = wrong_advantage on valid answers,
                invalid_advantage on the others
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  Failed groups keep a gradient; where all their answers are valid it is the
  same for everyone and points nowhere in particular. A solved group of equal
  rewards gives none.

  Published: advantage_clip, invalid_advantage, wrong_advantage, and the test
  max r > 0.
  Reconstructed: clip_eps_low, clip_eps_high, epsilon and kl_coef.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  limit = hparams["advantage_clip"]
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  failed = regimes.fixed_failure(
      batch.rewards,
      batch.format_valid,
      invalid=hparams["invalid_advantage"],
      wrong=hparams["wrong_advantage"],
  )
  success = jnp.max(batch.rewards, axis=1, keepdims=True) > 0
  adv = jnp.where(success, jnp.clip(scored, -limit, limit), failed)
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def gla_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GLA-GRPO: failed groups fall silent, the rest is clipped.

    A = clip((r - μ) / (σ + epsilon), ±advantage_clip)   if anyone is correct
    A = 0                                                otherwise
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  With rewards of 0 and 1 and G <= 10 this is GRPO exactly: |A| is at most
  sqrt(G - 1), and failed groups have no spread. It differs where rewards
  carry format or length, whose residuals it ignores in failed groups.

  Reconstructed: nearly all of it: clip_eps_low, clip_eps_high, epsilon,
  advantage_clip, kl_coef. The paper has the name, the score, that it is an
  ancestor of PR-GRPO, and one remark: more stable, but without signal in failed
  groups. This is the least that fits: GRPO, bounded (with the clip of BN-GRPO
  and FA-GRPO) and gated by group, as its descendant is.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  limit = hparams["advantage_clip"]
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  failed = masks.failed_groups(batch.correct)
  adv = jnp.where(failed > 0, 0.0, jnp.clip(scored, -limit, limit))
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def pr_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """PR-GRPO: silence solved groups, penalise failed ones, normalise mixed.

    solved:  A = 0
    failed:  A = failed_advantage
    mixed:   A = (r - μ) / (σ + epsilon)
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  Whatever else a reward carries is heard in mixed groups only; solved groups
  therefore cannot learn to be brief.

  Reconstructed: that the penalty is one constant, failed_advantage, which is
  what FA-GRPO gives a valid failure; clip_eps_low, clip_eps_high, epsilon and
  kl_coef. The paper has the three regimes in prose.
  Peers: none; dynamic sampling (DAPO, in verl) drops solved and failed groups
  alike.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  failed = masks.failed_groups(batch.correct)
  mixed = masks.mixed_groups(batch.correct)
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  adv = mixed * scored + failed * hparams["failed_advantage"]
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def cda_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """CDA-GRPO: separate streams for outcome, format and brevity.

    b = (k + prior_successes) / (G + prior_successes + prior_failures)
    A_out = (correct - b) / max(sqrt(b (1 - b)), sigma_floor)
    A_fmt = (valid - μ_valid) / (σ_valid + epsilon)
    A_eff = z-score of -L among the correct, 0 elsewhere
    A = A_out + format_coef A_fmt + length_coef A_eff
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  k of the G are correct. Optimistic for prior_successes > prior_failures. No
  regime is silent: failed groups are pushed away a little, solved ones still
  pulled, and brevity counts in solved groups too. Reads correct, format_valid
  and lengths; not the scalar reward.

  Reconstructed: the baseline (the paper says "continuous" and "optimistic")
  with prior_successes and prior_failures, its Bernoulli scale with sigma_floor,
  the form of the format stream; format_coef, length_coef, clip_eps_low,
  clip_eps_high, epsilon and kl_coef. The three streams, and brevity among the
  correct only, are the paper's.
  Peers: none; GDPO (TRL, verl) also normalises reward streams apart, each by
  group, and then normalises the sum over the batch.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  outcome = regimes.optimistic_outcome(
      batch.correct,
      alpha=hparams["prior_successes"],
      beta=hparams["prior_failures"],
      sigma_floor=hparams["sigma_floor"],
  )
  layout = advantages.group_normalized(
      batch.format_valid, epsilon=hparams["epsilon"]
  )
  brevity = length_shaping.efficiency(batch.lengths, batch.correct)
  adv = outcome + hparams["format_coef"] * layout
  adv += hparams["length_coef"] * brevity
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def dfr_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DFR-GRPO: in failed groups the entropy tells the failures apart.

    A_reason = clip(z(correct), ±advantage_clip)      if anyone is correct
    A_reason = kappa clip(z(mean token entropy), ±1)  otherwise
    A = A_reason + format_coef z(valid)               z: over the group
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  Failed groups get a signal with a direction that does not push the whole
  group away: it is centred, before its clip. The entropy in it is a constant.
  kappa > 0 favours unsure failures (exploration), < 0 sure ones.

  Reconstructed: the entropy signal with kappa, its sign, and entropy_epsilon;
  the normalisation of both streams; format_coef, clip_eps_low, clip_eps_high,
  epsilon, kl_coef; advantage_clip, which is that of its parent FA-GRPO. The
  paper has A_reason + λ A_format, that the streams are separate and that the
  signal is zero-centred and comes from token entropy.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2 and A.4.
  """
  mask = batch.completion_mask
  limit = hparams["advantage_clip"]
  scored = advantages.group_normalized(
      batch.correct, epsilon=hparams["epsilon"]
  )
  reason = jnp.clip(scored, -limit, limit) + regimes.failure_entropy(
      batch.entropy,
      batch.correct,
      mask,
      kappa=hparams["kappa"],
      epsilon=hparams["entropy_epsilon"],
  )
  layout = advantages.group_normalized(
      batch.format_valid, epsilon=hparams["epsilon"]
  )
  adv = reason + hparams["format_coef"] * layout
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def rf_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """RF-GRPO: damped advantages, and a retreat to the reference on failure.

    r' = r + format_reward valid
    A = clip((r' - μ') / (σ' + damping), ±advantage_clip)
    loss = token_mean( ℓ_clip(A) + kl_coef failed k3 )

  failed is 1 in groups where nobody is correct, so that the reference holds
  the policy only where the rewards have nothing to say. The format reward
  makes a ladder, invalid < valid but wrong < correct; the damping is as large
  as its step, so that a difference in format alone stays a small signal.

  Reconstructed: all three forms, with damping, format_reward and kl_coef; the
  paper has the words "damped", "performance-gated" and "hierarchical" for them;
  advantage_clip, that of its descendant BN-GRPO; clip_eps_low and
  clip_eps_high.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  bonus = hparams["format_reward"] * batch.format_valid
  rewards = advantages.penalized(batch.rewards, -bonus)
  damped = advantages.group_normalized(rewards, epsilon=hparams["damping"])
  limit = hparams["advantage_clip"]
  adv = jnp.clip(damped, -limit, limit)
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  failed = masks.failed_groups(batch.correct)[..., None]
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * failed * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics
