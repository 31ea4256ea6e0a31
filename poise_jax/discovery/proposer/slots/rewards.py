"""What counts as reward, and what is added to it before any statistics.

Signals may come from correctness, format and length through one scalar, or
each through a stream of its own that is normalised apart.
"""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism
_OWN_STATISTICS = ("none", "centered_stream", "normalized_stream")

SLOTS: mechanism.Slots = {
    "signal": {
        "reward": _M(
            "takes the scalar reward as it comes",
            "streams of their own have weights that must be chosen",
            "one scalar keeps the trade-off that the task was given",
            {"kl": -1},
            "Overall is no higher than with a signal of correctness alone",
            code="rewards = batch.rewards",
        ),
        "correctness": _M(
            "takes correctness alone as the reward",
            "format and length terms in the reward move its mean and spread",
            "a signal of right and wrong keeps the scale of the advantages a"
            " matter of correctness",
            {"valid_rate": -1},
            "the valid rate falls by more than correctness gains",
            "CDA-GRPO and DFR-GRPO in POISE",
            code="rewards = batch.correct",
        ),
        "components": _M(
            "standardises each stream of the reward apart and adds them",
            "streams that cancel in the sum, or are rare, teach nothing",
            "standardised apart, a rare stream weighs as much as a common"
            " one, and none hides another",
            {"valid_rate": 1, "advantages/mean_abs": 1},
            "the valid rate does not rise, or Overall falls while it does",
            "GDPO",
            ("correct_weight", "other_weight"),
            code="""\
scores = advantages.group_normalized(
    batch.reward_components, ddof=1, epsilon=1e-4
)
others = jnp.sum(scores, axis=2) - scores[..., 0]
rewards = hparams["correct_weight"] * scores[..., 0]
rewards = rewards + hparams["other_weight"] * others""",
        ),
    },
    "format": {
        "none": _M(
            "adds nothing for the format of an answer",
            "format terms can drown the correctness signal",
            "without them every gradient step serves correctness",
            {"response_length": 1},
            "the valid rate falls by more than correctness gains",
        ),
        "penalty": _M(
            "subtracts a penalty from the reward of an unparsable answer",
            "groups without a success give no gradient at all",
            "a reward difference inside failed groups teaches format early",
            {"valid_rate": 1, "response_length": -1},
            "the valid rate does not rise, or Overall falls while it does",
            "AV-GRPO in POISE",
            ("format_penalty",),
            code="""\
penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
rewards = {penalised}""",
        ),
        "centered_stream": _M(
            "adds a separate, centred advantage for parsable answers",
            "one scalar reward mixes format with correctness before scaling",
            "a stream of its own teaches format without touching the scale of"
            " the correctness advantage",
            {"valid_rate": 1},
            "the valid rate does not rise, or Overall falls while it does",
            "DFR-GRPO and CDA-GRPO in POISE",
            ("format_weight",),
            code="""\
form = advantages.group_centered(batch.format_valid)
advantage = advantage + hparams["format_weight"] * form""",
        ),
        "normalized_stream": _M(
            "adds a separate, standardised advantage for parsable answers",
            "a format stream fades as soon as most answers are parsable",
            "standardised by the group, the last unparsable answers weigh as"
            " much as the first",
            {"valid_rate": 1, "advantages/mean_abs": 1},
            "the valid rate does not rise, or Overall falls while it does",
            "CDA-GRPO in POISE",
            ("format_weight",),
            code="""\
form = advantages.group_normalized(batch.format_valid, epsilon=1e-6)
advantage = advantage + hparams["format_weight"] * form""",
        ),
    },
    "subset": {
        "all": _M(
            "takes statistics over the whole group",
            "a part of a group is a smaller sample",
            "all completions together give the least noisy baseline",
            {"kl": -1},
            "Overall is no higher and its spread over seeds no smaller",
            "GRPO",
        ),
        "valid": _M(
            "takes statistics over parsable answers and gives the others a"
            " fixed negative advantage",
            "unparsable answers distort the baseline of the parsable ones",
            "a baseline of comparable answers, with format taught separately,"
            " gives sparse successes a cleaner contrast",
            {"valid_rate": 1},
            "the valid rate does not rise, or answers get short and wrong",
            "VM-AV-GRPO in POISE",
            ("invalid_advantage",),
            {"format": _OWN_STATISTICS},
            "valid = batch.format_valid",
        ),
        "untruncated": _M(
            "takes statistics over answers that ended by themselves, and"
            " gives the others no advantage",
            "answers cut off by the limit are no evidence about the others",
            "the baseline compares whole answers with whole answers, and the"
            " cut ones are neither praised nor blamed",
            {"response_length": 1},
            "answers get longer without a gain in accuracy",
            "overlong filtering in DAPO",
            code="valid = masks.untruncated(batch.truncated)",
        ),
    },
    "length": {
        "none": _M(
            "leaves advantages as they are whatever the length",
            "length terms pull against correctness where reasoning needs room",
            "without them length follows correctness alone",
            {"response_length": 1},
            "length stays and Overall falls: the term did not cost correctness",
        ),
        "temper_negatives": _M(
            "divides negative advantages by relative length",
            "a long attempt that fails is blamed like a short guess",
            "a lenient view of long failures lets worked answers survive until"
            " they become correct",
            {"response_length": 1},
            "length does not rise, or rises without a gain in accuracy",
            "VM-AV-GRPO in POISE",
            ("length_low", "length_high"),
            code="""\
advantage = length_shaping.tempered_failures(
    advantage,
    batch.lengths,
    batch.format_valid,
    low=hparams["length_low"],
    high=hparams["length_high"],
)""",
        ),
        "length_power": _M(
            "scales advantages by a power of the relative length, in favour"
            " of long answers if it is positive",
            "short and long answers share one advantage for each token",
            "credit for long successes, and less blame for long failures,"
            " keeps worked answers alive",
            {"response_length": 1},
            "length does not move, or moves without a gain in accuracy",
            "MSA-GRPO in POISE",
            ("length_power",),
            code="""\
advantage = length_shaping.length_power(
    advantage, batch.lengths, power=hparams["length_power"]
)""",
        ),
        "overlong_penalty": _M(
            "subtracts a penalty that grows near the longest answer of the"
            " batch",
            "rambling answers cost tokens and run into the limit",
            "a ramp before the limit tells long answers apart, where a cut"
            " gives all of them the same 0",
            {"response_length": -1},
            "length does not fall, or falls together with accuracy",
            "soft overlong punishment in DAPO",
            ("overlong_coef", "overlong_buffer"),
            code="""\
longest = jnp.maximum(jnp.max(batch.lengths), 1.0)
ramp = length_shaping.soft_overlong(
    batch.lengths,
    max_length=longest,
    buffer=hparams["overlong_buffer"] * longest,
)
penalty = -hparams["overlong_coef"] * ramp
rewards = {penalised}""",
        ),
    },
}
