"""What the state of a group, solved, failed or mixed, does to its advantages."""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism

SLOTS: mechanism.Slots = {
    "advantage_clip": {
        "none": _M(
            "does not bound the advantage",
            "a bound flattens exactly the rare successes that matter most",
            "unbounded advantages keep the full contrast of a lone success",
            {"kl": 1},
            "scores equal those with the bound: it never acted",
        ),
        "bounded": _M(
            "bounds the advantage on both sides",
            "a single outlier can dominate the gradient of a batch",
            "a bound steadies the step size at the price of some contrast",
            {"kl": -1, "advantages/mean_abs": -1},
            "scores equal those without the bound: it never acted",
            "BN-GRPO in POISE",
            ("advantage_limit",),
        ),
    },
    "failures": {
        "none": _M(
            "adds nothing for groups where every completion fails",
            "uniform negatives point nowhere and cause drift",
            "leaving such groups alone spends the gradient on contrasts",
            {"kl": -1},
            "Overall falls on the sets where most groups fail",
            "GRPO",
        ),
        "fixed_negatives": _M(
            "gives fixed negatives where no completion is rewarded, larger for"
            " unparsable ones",
            "groups without a success give no direction to move away from",
            "a constant push away from failures, graded by format, keeps"
            " exploration going where nothing works yet",
            {"entropy": 1, "valid_rate": 1, "advantages/mean_abs": 1},
            "entropy does not stay higher, or Overall falls: undirected"
            " repulsion",
            "FA-GRPO in POISE",
            ("failure_valid", "failure_invalid"),
            code="""\
constant = regimes.fixed_failure(
    {outcome},
    batch.format_valid,
    invalid=hparams["failure_invalid"],
    wrong=hparams["failure_valid"],
)
success = jnp.max({outcome}, axis=1, keepdims=True) > 0
advantage = jnp.where(success, advantage, constant)""",
        ),
        "constant_push": _M(
            "gives one negative advantage to every completion of a failed"
            " group",
            "groups without a success give no direction to move away from",
            "a push away from all that was tried frees probability for what"
            " was not",
            {"entropy": 1, "advantages/mean_abs": 1},
            "entropy does not stay higher, or Overall falls: undirected"
            " repulsion",
            "PR-GRPO in POISE",
            ("failure_push",),
            code="""\
failed = masks.failed_groups(batch.correct) > 0
advantage = jnp.where(failed, hparams["failure_push"], advantage)""",
        ),
        "damped": _M(
            "damps the advantages of groups where every completion fails",
            "early on most groups fail and their signal dominates the batch",
            "damping leaves room for the few groups that hold a contrast",
            {"response_length": 1, "advantages/mean_abs": -1},
            "Overall does not rise although failed groups weigh less",
            "GLA-GRPO in POISE; DFR-GRPO names the fault this answers",
            ("failure_damping",),
            code="""\
failed = masks.failed_groups(batch.correct) > 0
weight = jnp.where(failed, hparams["failure_damping"], 1.0)
advantage = advantage * weight""",
        ),
        "entropy_signal": _M(
            "tells the failures of a failed group apart by how unsure the"
            " policy was",
            "a uniform push away from failures is repulsion without direction",
            "centred on the group, the signal keeps the failures that explore"
            " and drops those that are sure of themselves",
            {"entropy": 1},
            "entropy does not stay higher, or Overall falls on the sets where"
            " most groups fail",
            "DFR-GRPO in POISE",
            ("failure_kappa",),
            code="""\
advantage = advantage + regimes.failure_entropy(
    batch.entropy,
    batch.correct,
    mask,
    kappa=hparams["failure_kappa"],
    epsilon=1e-4,
)""",
        ),
    },
    "gating": {
        "none": _M(
            "weighs all groups alike",
            "weights by group state add variance and a constant to tune",
            "equal weights keep the gradient an average over prompts",
            {"kl": -1},
            "Overall falls: the weighting was doing useful work",
        ),
        "damp_solved": _M(
            "damps or silences groups where every completion succeeds",
            "prompts already solved keep pushing the policy",
            "silence prevents a rich-get-richer drift on easy prompts",
            {"entropy": 1, "kl": -1},
            "entropy does not stay higher, or greedy accuracy falls",
            "PR-GRPO in POISE",
            ("solved_weight",),
            code="""\
solved = masks.solved_groups(batch.correct) > 0
weight = jnp.where(solved, hparams["solved_weight"], 1.0)
advantage = advantage * weight""",
        ),
        "downweight_uniform": _M(
            "gives uniform groups, all failed or all solved, a smaller weight",
            "uniform groups hold no contrast between their completions",
            "a smaller weight keeps their signal without letting it dominate",
            {"kl": -1},
            "Overall does not rise although mixed groups weigh relatively more",
            "MSA-GRPO in POISE",
            ("uniform_weight",),
            code="""\
mixed = masks.mixed_groups(batch.correct) > 0
weight = jnp.where(mixed, 1.0, hparams["uniform_weight"])
advantage = advantage * weight""",
        ),
        "difficulty_weight": _M(
            "weighs a group by 1 + gain x (1 - pass rate)",
            "easy prompts dominate the gradient once they are being solved",
            "weight on hard prompts turns rare successes into larger steps",
            {"kl": 1, "advantages/mean_abs": 1},
            "pass@k on the two hardest sets does not rise",
            "DACE in POISE",
            ("difficulty_gain",),
            code="""\
weight = regimes.difficulty_weight(
    batch.correct, strength=hparams["difficulty_gain"]
)
advantage = advantage * weight""",
        ),
    },
    "efficiency": {
        "none": _M(
            "has no stream for brevity",
            "a reward for brevity invites answers too short to be right",
            "without it answers take the room that they need",
            {"response_length": 1},
            "length stays and Overall falls: the stream did not cost"
            " correctness",
        ),
        "z_score": _M(
            "adds a stream for brevity, standardised among the correct"
            " completions and gated by a power of the pass rate",
            "equally correct answers of different length are treated alike",
            "first be correct, then be short: the stream only ranks successes"
            " and fades where the prompt is hard",
            {"response_length": -1},
            "length does not fall, or falls together with accuracy",
            "DACE and CDA-GRPO in POISE",
            ("efficiency_coef", "efficiency_power"),
            code="brevity = length_shaping.efficiency(batch.lengths, batch.correct)",
        ),
        "over_length": _M(
            "adds a penalty for correct completions longer than their correct"
            " peers, gated by a power of the pass rate",
            "rewarding brevity invites answers that are too short to be right",
            "a penalty alone curbs rambling without a prize for shortness",
            {"response_length": -1},
            "length does not fall, or falls together with accuracy",
            "CAG in POISE",
            ("efficiency_coef", "efficiency_power"),
            code="brevity = length_shaping.over_length(batch.lengths, batch.correct)",
        ),
        "relative": _M(
            "adds a stream for how much shorter than its correct peers a"
            " correct completion is, gated by a power of the pass rate",
            "a standardised stream magnifies lengths that hardly differ",
            "in units of the usual length, small differences stay a small"
            " signal",
            {"response_length": -1},
            "length does not fall, or falls together with accuracy",
            "DCBE in POISE, where it failed",
            ("efficiency_coef", "efficiency_power"),
            code="""\
brevity = length_shaping.relative_length(batch.lengths, batch.correct)""",
        ),
    },
}
