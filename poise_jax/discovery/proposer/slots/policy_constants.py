"""The constants on the way from advantages to the loss."""

from collections.abc import Mapping

from poise_jax.discovery.proposer.slots import constant

_C = constant.Constant
_SHORTER = {"response_length": -1}
_UNSURE, _SURE = {"entropy": 1}, {"entropy": -1}
_NEAR, _FAR = {"kl": -1}, {"kl": 1}
# Ratios, or what stands for none at all.
_ALL_RATIOS = 1e9

CONSTANTS: Mapping[str, constant.Constant] = {
    # Ranges are wide, for tokens and for whole completions.
    "clip_eps": _C("the clip range", 1e-4, 10.0, 0.2, _FAR, step=0.05),
    # Neutral at the value of clip_eps; `neutral` knows.
    "clip_eps_high": _C(
        "the upper clip range",
        1e-4,
        10.0,
        0.28,
        {"entropy": 1, "kl": 1},
        step=0.05,
    ),
    "dual_clip": _C(
        "the bound on bad tokens", 1.2, 10.0, 2.0, _FAR, neutral=_ALL_RATIOS
    ),
    "ratio_cap": _C("the cap on the importance weight", 1.0, 30.0, 3.0, _FAR),
    "tau_positive": _C("how fast good tokens fade", 0.2, 10.0, 1.0, _NEAR),
    "tau_negative": _C("how fast bad tokens fade", 0.2, 10.0, 1.05, _NEAR),
    "weight_k_pos": _C(
        "how fast good completions fade below 1", 0.1, 10.0, 2.0, _NEAR
    ),
    "weight_rate_pos": _C(
        "how fast good completions fade above 1", 0.1, 10.0, 3.0, _NEAR
    ),
    "weight_k_neg": _C(
        "how fast bad completions fade below 1", 0.1, 10.0, 3.0, _NEAR
    ),
    "weight_rate_neg": _C(
        "how fast bad completions fade above 1", 0.1, 10.0, 2.0, _NEAR
    ),
    "regression_beta": _C("the pull to the old policy", 0.01, 2.0, 0.1, _NEAR),
    "target_eta": _C("the temperature of the target", 0.1, 10.0, 1.0, _NEAR),
    "variation_low": _C(
        "how much probability a bad token may lose",
        0.005,
        1.0,
        0.1,
        _FAR,
        neutral=1.0,
    ),
    "variation_high": _C(
        "how much probability a good token may gain",
        0.005,
        1.0,
        0.1,
        _FAR,
        neutral=1.0,
    ),
    "divergence_limit": _C(
        "the divergence that may still grow", 1e-3, 1.0, 0.05, _FAR, neutral=1e6
    ),
    "stale_limit": _C(
        "the divergence at which failures are ignored",
        0.005,
        2.0,
        0.1,
        _FAR,
        neutral=1e6,
    ),
    "cov_low": _C(
        "the least covariance that is held back",
        0.05,
        3.0,
        0.5,
        _SURE,
    ),
    "cov_high": _C(
        "the largest covariance that is held back", 3.0, 50.0, 5.0, _UNSURE
    ),
    "cov_fraction": _C(
        "the part of the tokens that is held back", 1e-4, 0.2, 0.02, _UNSURE
    ),
    "cov_penalty": _C(
        "the pull on tokens of large covariance",
        0.01,
        3.0,
        1.0,
        _UNSURE,
        neutral=0.0,
    ),
    # Sampling.
    "sampler_cap": _C(
        "the cap on the weight of the sampler", 1.0, 10.0, 2.0, _FAR
    ),
    "sampler_low": _C(
        "the least weight that is kept", 0.05, 0.95, 0.5, _NEAR, log=False
    ),
    "sampler_high": _C(
        "the largest weight that is kept", 1.05, 10.0, 2.0, _FAR
    ),
    "filter_low": _C(
        "the least mean weight that is kept",
        0.5,
        0.999,
        0.95,
        _NEAR,
        log=False,
        neutral=0.0,
    ),
    "filter_high": _C(
        "the largest mean weight that is kept",
        1.001,
        2.0,
        1.05,
        _FAR,
        neutral=_ALL_RATIOS,
    ),
    "staleness_decay": _C(
        "how fast completions fade with age", 0.02, 2.0, 0.3, _NEAR, neutral=0.0
    ),
    "entropy_fraction": _C(
        "the part of the tokens that is learnt from",
        0.05,
        1.0,
        0.3,
        _SURE,
        log=False,
        neutral=1.0,
    ),
    # The default is the completion budget of the embedded task.
    "length_constant": _C(
        "the constant length divisor", 8.0, 65536.0, 31.0, _NEAR, step=0.05
    ),
    "length_decay": _C(
        "how fast weight falls with length",
        0.0,
        2.0,
        0.75,
        _SHORTER,
        log=False,
        neutral=0.0,
    ),
    # Regularisers.
    "kl_coef": _C(
        "the pull towards the reference", 1e-4, 0.3, 0.01, _NEAR, neutral=0.0
    ),
    "kl_elsewhere": _C(
        "the part of the pull where some succeed",
        0.0,
        1.0,
        0.0,
        _NEAR,
        log=False,
        neutral=1.0,
    ),
    "kl_target": _C("the distance that is aimed at", 0.003, 1.0, 0.1, _FAR),
    "kl_horizon": _C(
        "how slowly the pull adapts", 10.0, 1e5, 300.0, _NEAR, neutral=1e12
    ),
    "entropy_coef": _C(
        "the bonus for entropy", 1e-5, 0.05, 0.003, _UNSURE, neutral=0.0
    ),
    "entropy_rate": _C(
        "how fast the bonus adapts", 0.005, 2.0, 0.05, _UNSURE, neutral=0.0
    ),
    "entropy_coef_max": _C(
        "the largest bonus for entropy", 1e-3, 1.0, 0.1, _UNSURE
    ),
    "entropy_target": _C(
        "the entropy that is aimed at", 0.02, 3.0, 0.3, _UNSURE
    ),
    "entropy_target_start": _C(
        "the entropy that is aimed at first", 0.02, 3.0, 0.4, _UNSURE
    ),
    "entropy_target_end": _C(
        "the entropy that is aimed at last", 0.02, 3.0, 0.2, _UNSURE
    ),
    "entropy_start": _C(
        "the bonus for entropy at first",
        0.0,
        0.05,
        0.01,
        _UNSURE,
        log=False,
        neutral=0.0,
    ),
    "entropy_step": _C(
        "by how much the bonus moves", 1e-5, 0.05, 2e-4, _UNSURE, neutral=0.0
    ),
}
