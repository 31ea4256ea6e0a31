"""What keeps the policy near another one, or unsure; some steer themselves.

A controller keeps its weight in the state: a step uses the weight that the
state brings and returns the next one.
"""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism
_IN_LOSS = {"kl": ("k3", "k2", "k1", "unbiased_k3", "absolute")}

_KL = {
    "none": _M(
        "has no penalty on the distance to the reference policy",
        "the penalty holds back a policy that has far to go",
        "without it the reward alone decides how far the policy moves",
        {"kl": 1},
        "KL does not grow, or grows without a gain in Overall",
        "DAPO",
    ),
    "k3": _M(
        "penalises the distance to the reference policy",
        "the policy drifts away from what it could already do",
        "a pull towards the reference preserves its skills and entropy",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "GRPO",
        ("kl_coef",),
        code="divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)",
    ),
    "k2": _M(
        "penalises the squared log-ratio to the reference policy",
        "the usual estimator has the gradient of the opposite divergence",
        "its expected gradient is that of the divergence itself, which grows"
        " with the distance instead of exploding on one side",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "REINFORCE++",
        ("kl_coef",),
        code="divergence = kl.k2(batch.logprobs, batch.ref_logprobs, mask)",
    ),
    "k1": _M(
        "adds the plain log-ratio to the reference policy",
        "penalties that always pull hold back a policy that has far to go",
        "on-policy its expected gradient is 0: what it adds is noise, and"
        " entropy where tokens are sampled again",
        {"entropy": 1},
        "scores differ from those without it by more than the noise",
        "default of tunix",
        ("kl_coef",),
        code="divergence = kl.k1(batch.logprobs, batch.ref_logprobs, mask)",
    ),
    "unbiased_k3": _M(
        "penalises the distance to the reference policy, weighted by the"
        " ratio to the old one",
        "off-policy the usual estimator measures another divergence",
        "the gradient through the ratio makes it that of the divergence,"
        " whoever drew the tokens",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "DeepSeek-V3.2",
        ("kl_coef",),
        code="""\
divergence = kl.unbiased_k3(
    batch.logprobs, {behaviour}, batch.ref_logprobs, mask
)""",
    ),
    "absolute": _M(
        "penalises the magnitude of the log-ratio to the reference policy",
        "a squared pull is weak near the reference and harsh far away",
        "a pull of one size everywhere bounds drift without capping it",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "",
        ("kl_coef",),
        code="divergence = kl.absolute(batch.logprobs, batch.ref_logprobs, mask)",
    ),
    "in_reward": _M(
        "subtracts the distance of the old policy to the reference from the"
        " reward",
        "a penalty in the loss competes with the policy gradient token by"
        " token",
        "in the reward its expected gradient is exact, and it is centred like"
        " all rewards",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "RLOO in TRL",
        ("kl_coef",),
        code="""\
divergence = kl.k1(batch.old_logprobs, batch.ref_logprobs, mask)
penalty = hparams["kl_coef"] * jnp.sum(divergence, axis=2)
rewards = {penalised}""",
    ),
    "in_reward_now": _M(
        "subtracts the distance of the current policy to the reference from"
        " the reward",
        "a penalty on the old policy does not see what this batch has changed",
        "measured again in each update, the penalty answers at once",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "RLOO",
        ("kl_coef",),
        code="""\
divergence = kl.k1(batch.logprobs, batch.ref_logprobs, mask)
divergence = jax.lax.stop_gradient(divergence)
penalty = hparams["kl_coef"] * jnp.sum(divergence, axis=2)
rewards = {penalised}""",
    ),
    "returns": _M(
        "charges each token with the distance to the reference still to come",
        "a penalty on the whole answer blames its first token for its last",
        "what a token costs is what comes after it",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "REINFORCE++",
        ("kl_coef",),
        {
            "clip": (
                "symmetric",
                "clip_higher",
                "dual",
                "none",
                "cispo",
                "soft_gate",
                "aspo",
                "policy_gradient",
            ),
            "trust_region": (
                "none",
                "total_variation",
                "bernoulli_kl",
                "clip_cov",
                "kl_cov",
            ),
        },
        """\
divergence = kl.k1(batch.old_logprobs, batch.ref_logprobs, mask)
advantage = advantages.penalized_returns(
    advantage, divergence, coefficient=hparams["kl_coef"]
)""",
    ),
}

_KL_CONTROL = {
    "fixed": _M(
        "keeps the weight of the KL penalty",
        "a weight that changes mixes what the penalty does with when",
        "one weight for all groups and all steps is easy to compare",
        {"kl": -1},
        "Overall is no higher and its spread over seeds no smaller",
        "GRPO",
    ),
    "failed_only": _M(
        "penalises the distance to the reference where every completion fails"
        " more than elsewhere",
        "the penalty holds back just the groups that have something to teach",
        "the reference holds the policy where the rewards say nothing",
        {"kl": 1},
        "Overall does not rise although mixed groups are freed",
        "RF-GRPO in POISE",
        ("kl_elsewhere",),
        _IN_LOSS,
        """\
failed = masks.failed_groups(batch.correct)[..., None] > 0
divergence = divergence * jnp.where(failed, 1.0, hparams["kl_elsewhere"])""",
    ),
    "adaptive": _M(
        "steers the weight of the KL penalty towards a target distance",
        "a weight that suits the start of a run is wrong for its end",
        "the distance is what matters, and the weight follows it",
        {"kl": -1},
        "KL does not come nearer to the target, or Overall falls with it",
        "controllers in verl",
        ("kl_target", "kl_horizon"),
        _IN_LOSS,
    ),
}

_CONTROLLED = ("entropy_coef", "entropy_rate", "entropy_coef_max")
_ENTROPY = {
    "none": _M(
        "has no reward for entropy",
        "an entropy bonus keeps noise in answers that are already right",
        "without it the policy may commit to what works",
        {"entropy": -1},
        "entropy does not fall, or falls without a gain in accuracy",
        "GRPO",
    ),
    "bonus": _M(
        "adds a bonus for the entropy of each token",
        "the policy commits before it has found the better way to answer",
        "a bonus keeps alternatives alive, which sampling many answers needs",
        {"entropy": 1},
        "entropy does not stay higher, or pass@k does not rise",
        "BN-GRPO in POISE",
        ("entropy_coef",),
        code='weight = hparams["entropy_coef"]',
    ),
    "proportional": _M(
        "steers a bonus for entropy towards a target",
        "a fixed bonus is too weak when entropy collapses, too strong later",
        "the bonus grows while entropy is below its target and fades above",
        {"entropy": 1},
        "entropy does not come nearer to the target, or Overall falls with it",
        "VM-AV-GRPO and DCBE in POISE",
        (*_CONTROLLED, "entropy_target"),
        code='target = hparams["entropy_target"]',
    ),
    "annealed": _M(
        "steers a bonus for entropy towards a target that moves over the run",
        "exploration pays early, commitment late",
        "the target falls with the progress of the run",
        {"entropy": 1},
        "entropy does not follow the target, or Overall falls with it",
        "DACE in POISE",
        (*_CONTROLLED, "entropy_target_start", "entropy_target_end"),
        code="""\
target = controllers.linear_schedule(
    batch.progress,
    start=hparams["entropy_target_start"],
    end=hparams["entropy_target_end"],
)""",
    ),
    "stepped": _M(
        "moves a bonus for entropy by fixed steps, and applies it only while"
        " entropy is low",
        "a bonus that is always on costs accuracy where entropy is no problem",
        "switched off above the target, the bonus only prevents collapse",
        {"entropy": 1},
        "entropy falls below the target all the same, or accuracy falls",
        "Skywork Open Reasoner 1",
        ("entropy_start", "entropy_step", "entropy_coef_max", "entropy_target"),
        code='target = hparams["entropy_target"]',
    ),
}

SLOTS: mechanism.Slots = {
    "kl": _KL,
    "kl_control": _KL_CONTROL,
    "entropy": _ENTROPY,
}
