"""The constants on the way from rewards to advantages."""

from collections.abc import Mapping

from poise_jax.discovery.proposer.slots import constant

_C = constant.Constant
_SHORTER = {"response_length": -1}
_LONGER = {"response_length": 1}
_VALID = {"valid_rate": 1}
_UNSURE, _SURE = {"entropy": 1}, {"entropy": -1}
_NEAR, _FAR = {"kl": -1}, {"kl": 1}
_SMALL = {"kl": -1, "advantages/mean_abs": -1}
_LARGE = {"kl": 1, "advantages/mean_abs": 1}

# Defaults are chosen to act: with 0/1 rewards and groups of eight the deviation
# of a mixed group is at least 0.33 and a normalised advantage at most 2.65, so
# a floor of 0.1 or a bound of 3 would change nothing.
CONSTANTS: Mapping[str, constant.Constant] = {
    # Rewards and streams.
    "correct_weight": _C("the weight of correctness", 0.1, 10.0, 1.0, _LARGE),
    "other_weight": _C(
        "the weight of the other streams", 0.01, 10.0, 0.3, _VALID
    ),
    "format_penalty": _C(
        "the penalty for unparsable answers",
        0.02,
        2.0,
        0.3,
        {"valid_rate": 1, "response_length": -1},
        neutral=0.0,
    ),
    "format_weight": _C(
        "the weight of the format stream", 0.02, 2.0, 0.3, _VALID, neutral=0.0
    ),
    "invalid_advantage": _C(
        "the advantage of unparsable answers",
        -5.0,
        -0.05,
        -1.0,
        {"valid_rate": -1},
        log=False,
    ),
    "length_low": _C(
        "the harshness towards short failures",
        0.1,
        1.0,
        0.5,
        _SHORTER,
        neutral=1.0,
    ),
    "length_high": _C(
        "the leniency towards long failures",
        1.0,
        8.0,
        2.0,
        _LONGER,
        neutral=1.0,
    ),
    "length_power": _C(
        "the power of the length",
        -1.5,
        1.5,
        0.25,
        _LONGER,
        log=False,
        neutral=0.0,
    ),
    "overlong_coef": _C(
        "the penalty near the length limit",
        0.02,
        2.0,
        0.3,
        _SHORTER,
        neutral=0.0,
    ),
    "overlong_buffer": _C(
        "the part of the length in which the penalty grows",
        0.05,
        1.0,
        0.3,
        _SHORTER,
    ),
    "efficiency_coef": _C(
        "the weight of brevity", 0.01, 2.0, 0.2, _SHORTER, neutral=0.0
    ),
    "efficiency_power": _C(
        "the power of the pass rate that gates brevity",
        0.0,
        4.0,
        1.0,
        _LONGER,
        log=False,
    ),
    # Statistics.
    "prior_successes": _C(
        "the optimism of the baseline", 0.05, 10.0, 1.0, _UNSURE, neutral=1e-12
    ),
    "prior_failures": _C(
        "the pessimism of the baseline",
        0.05,
        10.0,
        1.0,
        _SURE,
        neutral=1e-12,
    ),
    "anchor_mix": _C(
        "the part of the group in the baseline",
        0.0,
        1.0,
        0.5,
        _NEAR,
        log=False,
        neutral=1.0,
    ),
    "history_mix": _C(
        "the part of the past in the baseline",
        0.0,
        1.0,
        0.3,
        _FAR,
        log=False,
        neutral=0.0,
    ),
    "pass_k": _C("the size of the sets", 1.0, 6.0, 4.0, _UNSURE, log=False),
    "epsilon": _C(
        "what keeps a divisor from 0", 1e-8, 1e-3, 1e-6, _NEAR, step=0.0
    ),
    "whiten_epsilon": _C(
        "what keeps a variance from 0", 1e-10, 1e-3, 1e-8, _NEAR, step=0.0
    ),
    "damping": _C("the damping of the scale", 0.01, 2.0, 0.2, _SMALL),
    "sigma_floor": _C(
        "the floor under the scale",
        1e-6,
        1.0,
        0.4,
        _SMALL,
        step=0.06,
    ),
    "sigma_fixed": _C(
        "the constant scale",
        0.1,
        2.0,
        0.5,
        _SMALL,
        neutral=1.0,
    ),
    "advantage_limit": _C(
        "the bound on the advantage",
        0.5,
        10.0,
        2.0,
        _LARGE,
        neutral=1e6,
    ),
    # Groups.
    "failure_valid": _C(
        "the advantage of parsable answers in failed groups",
        -2.0,
        -0.02,
        -0.2,
        _SURE,
        log=False,
    ),
    "failure_invalid": _C(
        "the advantage of unparsable answers in failed groups",
        -4.0,
        -0.05,
        -0.8,
        {"valid_rate": -1},
        log=False,
    ),
    "failure_push": _C(
        "the advantage of failed groups",
        -2.0,
        -0.02,
        -0.2,
        _SURE,
        log=False,
    ),
    "failure_damping": _C(
        "the weight of failed groups",
        0.0,
        1.0,
        0.3,
        _VALID,
        log=False,
        neutral=1.0,
    ),
    "failure_kappa": _C(
        "the weight of the entropy of failures",
        -1.0,
        1.0,
        0.25,
        _UNSURE,
        log=False,
        neutral=0.0,
    ),
    "solved_weight": _C(
        "the weight of solved groups",
        0.0,
        1.0,
        0.0,
        _FAR,
        log=False,
        neutral=1.0,
    ),
    "uniform_weight": _C(
        "the weight of uniform groups",
        0.0,
        1.0,
        0.3,
        _FAR,
        log=False,
        neutral=1.0,
    ),
    "difficulty_gain": _C(
        "the extra weight of hard prompts",
        0.1,
        4.0,
        1.0,
        _LARGE,
        neutral=0.0,
    ),
}
