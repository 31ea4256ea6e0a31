"""The members of the catalogue in terms of the slots."""

from collections.abc import Mapping

_Parts = tuple[Mapping[str, str], Mapping[str, float]]

# Choices and constants that differ from those of `grpo`, and from the usual.
_PENALTY = {"format": "penalty"}
_BOUND = {"advantage_clip": "bounded"}
_HIGHER = {"clip": "clip_higher"}
_SAMPLE = {"scale": "sample_std"}
_PLAIN = {"clip": "policy_gradient"}
_VALID_ONLY = {
    "subset": "valid",
    "baseline": "beta_prior",
    "scale": "bernoulli",
    "length": "temper_negatives",
    **_BOUND,
}
_VALID_ONLY_CONSTANTS = {
    "invalid_advantage": -3.5,
    "sigma_floor": 0.1,
    "advantage_limit": 3.0,
}
_LIMIT = {"advantage_limit": 3.0}
_NARROW = {"clip_eps": 3e-4, "clip_eps_high": 4e-4}
_CAP_20 = {"ratio_cap": 20.0}
_CONTROL = {"entropy_coef": 0.001}

NAMED: Mapping[str, _Parts] = {
    "grpo": ({}, {}),
    "grpo_poise": ({"kl": "k3"}, {"kl_coef": 0.001}),
    "grpo_deepseek": (
        {"kl": "k3", "aggregation": "seq_mean"},
        {"kl_coef": 0.04},
    ),
    "grpo_r1": (
        {"kl": "k3", "aggregation": "seq_mean"},
        {"kl_coef": 0.001, "clip_eps": 10.0},
    ),
    "grpo_trl": (_SAMPLE, {"epsilon": 1e-4}),
    "grpo_verl": (_SAMPLE | {"clip": "dual"}, {"dual_clip": 3.0}),
    "grpo_tunix": (
        _SAMPLE | {"kl": "k1", "aggregation": "seq_mean"},
        {"kl_coef": 0.04},
    ),
    "dr_grpo": ({"scale": "none", "aggregation": "constant_norm"}, {}),
    "dapo": (_HIGHER, {}),
    "grpo_format_penalty": (_PENALTY, {"format_penalty": 1.0}),
    "reinforce_baseline": (
        _PLAIN | {"baseline": "batch_mean", "scale": "none"},
        {},
    ),
    "rloo_sequence": (
        _PLAIN
        | {
            "baseline": "leave_one_out",
            "scale": "none",
            "kl": "in_reward_now",
            "aggregation": "seq_sum_mean",
        },
        {"kl_coef": 0.05},
    ),
    "opo": (_PLAIN | {"baseline": "length_weighted", "scale": "none"}, {}),
    "gpg": (_PLAIN | {"scale": "active", "aggregation": "seq_mean"}, {}),
    "rloo": ({"scale": "none", "baseline": "leave_one_out"}, {}),
    "lite_ppo": ({"scale": "batch_spread"}, {"epsilon": 1e-4}),
    "vl_norm": ({"scale": "none", "aggregation": "length_power_norm"}, {}),
    "passk": (_HIGHER | {"baseline": "pass_at_k"}, {}),
    "maxrl": ({"scale": "mean"}, {}),
    "gdpo": (
        {"signal": "components", "scale": "batch_spread"},
        {"other_weight": 1.0, "epsilon": 1e-4},
    ),
    "reinforce_pp": (
        {"baseline": "batch_mean", "scale": "token_whitened", "kl": "returns"},
        {"kl_coef": 1e-3},
    ),
    "reinforce_pp_baseline": (
        {"scale": "batch_std", "kl": "k2"},
        {"kl_coef": 1e-3},
    ),
    "cispo": ({"clip": "cispo"}, {"ratio_cap": 5.0}),
    "scalerl": (
        {
            "clip": "cispo",
            "scale": "active_rms",
            "anchor": "sampler",
            "filter": "active_groups",
            "aggregation": "token_mean_prompt",
        },
        {"ratio_cap": 5.0},
    ),
    "sapo": ({"clip": "soft_gate", "aggregation": "seq_mean"}, {}),
    "aspo": ({"clip": "aspo"}, {"clip_eps_high": 0.2, "dual_clip": 3.0}),
    "intellect2": ({"clip": "dual"}, {"dual_clip": 4.0}),
    "dppo_tv": (
        {"clip": "cispo", "trust_region": "total_variation"},
        _CAP_20 | {"variation_low": 0.2, "variation_high": 0.2},
    ),
    "dppo_kl": (
        {"clip": "cispo", "trust_region": "bernoulli_kl"},
        _CAP_20 | {"divergence_limit": 0.2},
    ),
    "clip_cov": (
        {"trust_region": "clip_cov"},
        {"cov_low": 1.0, "cov_high": 5.0, "cov_fraction": 2e-4},
    ),
    "kl_cov": (
        {"clip": "none", "trust_region": "kl_cov"},
        {"cov_fraction": 2e-4},
    ),
    "gspo": (
        _HIGHER | {"ratio": "sequence", "aggregation": "seq_mean"},
        _NARROW,
    ),
    "gspo_token": (
        _HIGHER | {"ratio": "sequence_token", "aggregation": "seq_mean"},
        _NARROW,
    ),
    "gmpo": (
        {"clip": "geometric", "aggregation": "seq_mean"},
        {"clip_eps": 0.4, "clip_eps_high": 0.4},
    ),
    "luspo": (
        _HIGHER | {"ratio": "sequence", "aggregation": "seq_sum_mean"},
        {"clip_eps": 2e-3, "clip_eps_high": 2.5e-3},
    ),
    "vespo": ({"clip": "smooth_weight", "anchor": "sampler"}, {}),
    "rloo_trl": (
        {
            "baseline": "leave_one_out",
            "scale": "none",
            "kl": "in_reward",
            "ratio": "product",
            "aggregation": "seq_mean",
        },
        {"kl_coef": 0.05},
    ),
    "tpo": (
        {
            "clip": "target",
            "scale": "analytic",
            "aggregation": "token_mean_prompt",
        },
        {"sigma_floor": 1e-6},
    ),
    "gvpo": (
        {
            "clip": "regression",
            "scale": "none",
            "aggregation": "token_mean_prompt",
        },
        {},
    ),
    "grpo_tis": ({"correction": "truncated_token"}, {}),
    "grpo_mis": ({"correction": "sequence_mask"}, {"sampler_cap": 3.0}),
    "icepop": ({"correction": "icepop"}, {"sampler_high": 5.0}),
    "deepseek_v32": (
        {
            "scale": "none",
            "trust_region": "stale_negatives",
            "kl": "unbiased_k3",
            "aggregation": "seq_mean",
        },
        {"stale_limit": 0.5, "kl_coef": 0.001},
    ),
    "high_entropy_grpo": (
        _HIGHER | {"filter": "high_entropy"},
        {"entropy_fraction": 0.2},
    ),
    "overlong_filtered_grpo": ({"filter": "untruncated"}, {}),
    "grpo_adaptive_entropy": (
        {"entropy": "stepped"},
        {
            "entropy_start": 0.0,
            "entropy_step": 0.005,
            "entropy_coef_max": 1.0,
            "entropy_target": 0.2,
        },
    ),
    "grpo_adaptive_kl": (
        {"kl": "k3", "kl_control": "adaptive"},
        {"kl_coef": 0.001, "kl_horizon": 10000.0},
    ),
    "bn_grpo": (_BOUND | {"scale": "batch_rms"}, _LIMIT),
    "av_grpo": (
        _PENALTY | {"scale": "analytic"},
        {"format_penalty": 1.0, "sigma_floor": 0.1},
    ),
    "vm_av_grpo": (_VALID_ONLY, _VALID_ONLY_CONSTANTS),
    "vm_av_grpo_entropy": (
        _VALID_ONLY | {"entropy": "proportional"},
        _VALID_ONLY_CONSTANTS | _CONTROL,
    ),
    "msa_grpo": (
        _PENALTY
        | {
            "scale": "anchored",
            "gating": "downweight_uniform",
            "length": "length_power",
        },
        {"format_penalty": 1.0, "uniform_weight": 0.5},
    ),
    "sa_grpo": ({"baseline": "anchor", "scale": "fixed"}, {}),
    "fa_grpo": (
        _BOUND | {"failures": "fixed_negatives"},
        _LIMIT | {"failure_valid": -0.5, "failure_invalid": -2.0},
    ),
    "gla_grpo": (
        _BOUND | {"failures": "damped"},
        _LIMIT | {"failure_damping": 0.0},
    ),
    "pr_grpo": (
        {"failures": "constant_push", "gating": "damp_solved"},
        {"failure_push": -0.5},
    ),
    "cda_grpo": (
        {
            "signal": "correctness",
            "format": "normalized_stream",
            "baseline": "beta_prior",
            "scale": "bernoulli",
            "efficiency": "z_score",
        },
        {
            "prior_failures": 0.5,
            "sigma_floor": 0.1,
            "format_weight": 0.2,
            "efficiency_power": 0.0,
        },
    ),
    "dfr_grpo": (
        _BOUND
        | {
            "signal": "correctness",
            "format": "normalized_stream",
            "failures": "entropy_signal",
        },
        _LIMIT | {"format_weight": 0.2},
    ),
    "rf_grpo": (
        _PENALTY
        | _BOUND
        | {"scale": "damped_std", "kl": "k3", "kl_control": "failed_only"},
        _LIMIT | {"format_penalty": 0.1, "damping": 0.1, "kl_coef": 0.001},
    ),
    "dace": (
        {
            "gating": "difficulty_weight",
            "efficiency": "z_score",
            "entropy": "annealed",
        },
        _CONTROL,
    ),
    "cag": (
        {"efficiency": "over_length"},
        {"efficiency_coef": 0.5, "efficiency_power": 2.0},
    ),
    "dcbe": (
        {"efficiency": "relative", "entropy": "proportional"},
        _CONTROL | {"efficiency_coef": 0.5, "efficiency_power": 2.0},
    ),
}
