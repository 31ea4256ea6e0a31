"""How advantages move the policy: ratio, clip, trust region, correction."""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism
_TOKENS = {"ratio": ("token",)}
# One number for a completion, or a group: nothing is done token by token.
_SCALES = (
    "group_std none sample_std damped_std analytic bernoulli anchored batch_rms"
    " batch_std batch_spread active_rms active mean fixed"
)
_KL = "none k3 k2 k1 unbiased_k3 absolute in_reward in_reward_now"
_WHOLE_COMPLETIONS = _TOKENS | {
    "trust_region": ("none", "stale_negatives"),
    "scale": tuple(_SCALES.split()),
    "kl": tuple(_KL.split()),
}
_WHOLE_GROUPS = _WHOLE_COMPLETIONS | {
    "trust_region": ("none",),
    "correction": ("none",),
    "aggregation": ("token_mean_prompt", "token_mean"),
}

_RATIOS = {
    "token": _M(
        "compares old and new policy token by token",
        "a ratio of whole sequences hides which token moved",
        "clipping by token stops single tokens from running away",
        {"kl": -1},
        "Overall and KL stay as they are",
        "GRPO",
    ),
    "sequence": _M(
        "compares old and new policy by the mean ratio of the sequence",
        "token ratios are noisy while the reward belongs to the sequence",
        "one ratio for a completion gives all its tokens the same weight",
        {"kl": 1},
        "the spread over seeds does not shrink and Overall does not rise",
        "GSPO",
    ),
    "sequence_token": _M(
        "takes the ratio of the sequence, with a gradient for each token",
        "one ratio for a completion cannot weigh its tokens apart",
        "tokens with weights of their own keep them under a ratio of the"
        " whole sequence",
        {"kl": 1},
        "scores equal those of the ratio of the sequence",
        "GSPO-token",
    ),
    "product": _M(
        "compares old and new policy by the product over the completion",
        "the mean ratio of a sequence is no importance weight",
        "the exact weight of a completion makes the estimate unbiased, at the"
        " price of clipping nearly all long ones",
        {"clip_fraction": 1},
        "Overall falls while the clip fraction grows",
        "RLOO in TRL",
    ),
}

_CLIPPED = 'clip_eps_low=hparams["clip_eps"],\n    clip_eps_high=hparams["%s"],'
_CLIPS = {
    "symmetric": _M(
        "clips the ratio alike on both sides",
        "uneven or missing bounds let some tokens move too far",
        "equal bounds keep several updates on one batch trustworthy",
        {"kl": -1},
        "Overall falls while KL stays: the bound only slowed learning",
        "GRPO",
        ("clip_eps",),
        code=f"""\
token_loss = surrogates.clipped(
    ratio,
    advantage,
    {_CLIPPED % "clip_eps"}
)""",
    ),
    "clip_higher": _M(
        "lets the ratio rise further than it may fall",
        "a rare good token hits the upper bound before it becomes likely",
        "more room above keeps low-probability tokens growing and entropy up",
        {"entropy": 1, "clip_fraction": -1},
        "entropy does not stay higher or the clip fraction does not change",
        "DAPO",
        ("clip_eps", "clip_eps_high"),
        code=f"""\
token_loss = surrogates.clipped(
    ratio,
    advantage,
    {_CLIPPED % "clip_eps_high"}
)""",
    ),
    "dual": _M(
        "also bounds the loss where a bad token became far more likely",
        "a negative advantage with a large ratio has unbounded loss",
        "the second bound removes rare, very large gradients",
        {"kl": -1},
        "scores equal those without it: such ratios do not occur",
        "dual-clip PPO, INTELLECT-2",
        ("clip_eps", "dual_clip"),
        code=f"""\
token_loss = surrogates.dual_clipped(
    ratio,
    advantage,
    {_CLIPPED % "clip_eps"}
    dual_clip=hparams["dual_clip"],
)""",
    ),
    "none": _M(
        "does not clip the ratio",
        "clipping throws away gradient where the policy moves fastest",
        "every token keeps its gradient, so learning is faster while updates"
        " stay small",
        {"kl": 1, "entropy": -1, "clip_fraction": -1},
        "Overall falls or varies more over seeds while KL grows",
        code="token_loss = -ratio * surrogates.per_token(advantage)",
    ),
    "cispo": _M(
        "caps the importance weight, and never drops the update of a token",
        "the clip drops just the rare tokens at which reasoning turns",
        "every token keeps a gradient, of bounded weight",
        {"entropy": 1, "kl": 1, "clip_fraction": -1},
        "Overall does not rise although no token is dropped",
        "CISPO in MiniMax-M1",
        ("ratio_cap",),
        code="""\
token_loss = surrogates.cispo(
    batch.logprobs,
    ratio,
    advantage,
    mask,
    ratio_cap=hparams["ratio_cap"],
)""",
    ),
    "soft_gate": _M(
        "lets the gradient of a token fade with the distance of its ratio"
        " from 1",
        "a clip is a cliff: full gradient here, none a little further",
        "a smooth gate keeps a small gradient off policy, and lets that of bad"
        " tokens fade faster",
        {"clip_fraction": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "SAPO",
        ("tau_positive", "tau_negative"),
        code="""\
token_loss = surrogates.soft_gate(
    ratio,
    advantage,
    tau_positive=hparams["tau_positive"],
    tau_negative=hparams["tau_negative"],
)""",
    ),
    "aspo": _M(
        "turns the ratio of good tokens over, and bounds every weight",
        "good tokens that became rarer get the smallest weight",
        "turned over, the ratio pushes a rare good token harder",
        {"entropy": 1},
        "entropy does not stay higher, or Overall falls while it does",
        "ASPO",
        ("clip_eps", "clip_eps_high", "dual_clip"),
        code=f"""\
token_loss = surrogates.aspo(
    batch.logprobs,
    ratio,
    advantage,
    mask,
    {_CLIPPED % "clip_eps_high"}
    dual_clip=hparams["dual_clip"],
)""",
    ),
    "policy_gradient": _M(
        "weighs log-probabilities by advantages, without any ratio",
        "ratios and clips add noise and constants where a batch is used once",
        "the plain policy gradient, exact while updates stay small",
        {"kl": 1, "clip_fraction": -1},
        "Overall falls or varies more over seeds while KL grows",
        "REINFORCE",
        needs=_TOKENS | {"anchor": ("old",)},
        code="""\
token_loss = surrogates.policy_gradient(batch.logprobs, advantage, mask)""",
    ),
    "geometric": _M(
        "clips log-ratios token by token and takes their mean before the"
        " exponential",
        "an outlier token clips its whole completion, or escapes in a mean of"
        " ratios",
        "the geometric mean of clipped ratios is hardly moved by one token, so"
        " the range can be wide",
        {"entropy": 1},
        "the spread over seeds does not shrink and Overall does not rise",
        "GMPO",
        ("clip_eps", "clip_eps_high"),
        _WHOLE_COMPLETIONS
        | {
            "correction": (
                "none",
                "truncated_sequence",
                "sequence_mask",
                "geometric_filter",
                "staleness",
            )
        },
        f"""\
values = sequence_losses.geometric_clipped(
    batch.logprobs,
    {{behaviour}},
    mask,
    advantage,
    {_CLIPPED % "clip_eps_high"}
)
token_loss = jnp.where(mask > 0, values[..., None], 0.0)""",
    ),
    "smooth_weight": _M(
        "weighs each completion by a smooth function of its whole ratio",
        "a clip at the level of completions drops nearly all long ones",
        "the weight fades on both sides of 1 and needs no clip",
        {"kl": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "VESPO",
        ("weight_k_pos", "weight_rate_pos", "weight_k_neg", "weight_rate_neg"),
        _WHOLE_COMPLETIONS | {"correction": ("none",)},
        """\
token_loss = sequence_losses.vespo(
    batch.logprobs,
    {behaviour},
    mask,
    advantage,
    k_pos=hparams["weight_k_pos"],
    lambda_pos=hparams["weight_rate_pos"],
    k_neg=hparams["weight_k_neg"],
    lambda_neg=hparams["weight_rate_neg"],
)""",
    ),
    "regression": _M(
        "regresses the log-ratios of a group on its advantages",
        "a policy gradient has no end: it pushes as long as advantages differ",
        "the square has a minimum, the old policy tilted by the rewards, so"
        " that many updates on one batch do no harm",
        {"kl": -1},
        "Overall does not rise although KL is smaller",
        "GVPO",
        ("regression_beta",),
        _WHOLE_GROUPS,
        """\
values = sequence_losses.gvpo(
    batch.logprobs,
    {behaviour},
    mask,
    advantage,
    beta=hparams["regression_beta"],
)
token_loss = jnp.where(mask > 0, values[:, None, None], 0.0)""",
    ),
    "target": _M(
        "fits the policy over a group to the old one tilted by the advantages",
        "a policy gradient has no end: it pushes as long as advantages differ",
        "the target says how far to go, and the gradient ends there",
        {"kl": -1},
        "Overall does not rise although KL is smaller",
        "TPO",
        ("target_eta",),
        _WHOLE_GROUPS,
        """\
values = sequence_losses.target_policy(
    batch.logprobs,
    {behaviour},
    mask,
    advantage,
    eta=hparams["target_eta"],
)
token_loss = jnp.where(mask > 0, values[:, None, None], 0.0)""",
    ),
}

_TRUST_REGIONS = {
    "none": _M(
        "lets every token move that the clip lets move",
        "a second bound holds back tokens that the first has judged already",
        "one bound is enough, and one constant less to choose",
        {"kl": 1},
        "Overall falls or varies more over seeds while KL grows",
        "GRPO",
    ),
    "total_variation": _M(
        "stops tokens that moved far in probability",
        "a ratio is strict with rare tokens and lax with frequent ones",
        "measured in probability, rare tokens may grow many times and frequent"
        " ones stay",
        {"kl": -1},
        "scores equal those without it: such moves do not occur",
        "DPPO",
        ("variation_low", "variation_high"),
        code="""\
keep = trust_regions.total_variation(
    batch.logprobs,
    {behaviour},
    advantage,
    mask,
    threshold_low=hparams["variation_low"],
    threshold_high=hparams["variation_high"],
)
token_loss = keep * token_loss""",
    ),
    "bernoulli_kl": _M(
        "stops tokens whose own divergence from the old policy is large",
        "a ratio is strict with rare tokens and lax with frequent ones",
        "a divergence weighs a move by how much it changes the distribution",
        {"kl": -1},
        "scores equal those without it: such moves do not occur",
        "DPPO",
        ("divergence_limit",),
        code="""\
keep = trust_regions.bernoulli_kl(
    batch.logprobs,
    {behaviour},
    advantage,
    mask,
    threshold=hparams["divergence_limit"],
)
token_loss = keep * token_loss""",
    ),
    "stale_negatives": _M(
        "ignores bad completions that the policy has moved away from",
        "pushing down what the policy no longer does has no limit",
        "stale failures are left out, while successes count however old",
        {"entropy": 1, "kl": -1},
        "scores equal those without it: no completion was so stale",
        "DeepSeek-V3.2",
        ("stale_limit",),
        code="""\
keep = masks.off_policy_negatives(
    advantage,
    batch.logprobs,
    batch.sampler_logprobs,
    mask,
    threshold=hparams["stale_limit"],
)
token_loss = keep[..., None] * token_loss""",
    ),
    "clip_cov": _M(
        "holds back the tokens whose update costs most entropy",
        "a few tokens of large covariance cause most of the loss of entropy",
        "held back, they leave entropy for exploration at little cost",
        {"entropy": 1},
        "entropy does not stay higher, or pass@k does not rise",
        "Clip-Cov",
        ("cov_low", "cov_high", "cov_fraction"),
        {"clip": ("symmetric", "clip_higher", "dual")},
        """\
band = trust_regions.covariance_band(
    trust_regions.covariance(batch.logprobs, advantage, mask),
    mask,
    low=hparams["cov_low"],
    high=hparams["cov_high"],
)
unclipped = token_loss <= -ratio * surrogates.per_token(advantage)
eligible = jnp.where(unclipped, band, 0.0)
quota = trust_regions.token_quota(mask, fraction=hparams["cov_fraction"])
dropped = jnp.minimum(1.0, quota / jnp.maximum(jnp.sum(eligible), 1.0))
token_loss = token_loss * (1.0 - dropped * eligible)""",
    ),
    "kl_cov": _M(
        "holds the tokens whose update costs most entropy near the old policy",
        "a few tokens of large covariance cause most of the loss of entropy",
        "a pull to the old policy on those few keeps entropy at little cost",
        {"entropy": 1},
        "entropy does not stay higher, or pass@k does not rise",
        "KL-Cov",
        ("cov_penalty", "cov_fraction"),
        code="""\
selected = trust_regions.high_covariance(
    trust_regions.covariance(batch.logprobs, advantage, mask),
    mask,
    fraction=hparams["cov_fraction"],
)
apart = kl.absolute(batch.logprobs, {behaviour}, mask)
token_loss = token_loss + hparams["cov_penalty"] * selected * apart""",
    ),
}

SLOTS: mechanism.Slots = {
    "ratio": _RATIOS,
    "clip": _CLIPS,
    "trust_region": _TRUST_REGIONS,
}
