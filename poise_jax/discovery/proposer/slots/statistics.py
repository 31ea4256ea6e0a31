"""From rewards to advantages: what they are compared with, divided by."""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism
_WHOLE = {"subset": ("all",)}
# No penalty has entered the reward, so that it lies in [0, 1].
_PLAIN_REWARD = {
    "format": ("none", "centered_stream", "normalized_stream"),
    "length": ("none", "temper_negatives", "length_power"),
    "kl": ("none", "k3", "k2", "k1", "unbiased_k3", "absolute", "returns"),
}
# Losses with one advantage for each token.
_TOKEN_LEVEL = (
    "symmetric",
    "clip_higher",
    "dual",
    "none",
    "cispo",
    "soft_gate",
    "aspo",
    "policy_gradient",
)

_BASELINES = {
    "group_mean": _M(
        "compares with the mean of the group",
        "other baselines push groups whose answers are all alike",
        "advantages that sum to zero in each group waste no gradient on"
        " prompts that cannot be told apart",
        {"kl": -1},
        "Overall falls: the signal in uniform groups was useful",
        "GRPO",
    ),
    "leave_one_out": _M(
        "compares with the mean of the other completions of the group",
        "a completion that is part of its own baseline biases the gradient",
        "an unbiased baseline enlarges advantages by G/(G-1)",
        {"kl": 1, "advantages/mean_abs": 1},
        "KL and Overall stay as they are: the factor is absorbed elsewhere",
        "RLOO",
    ),
    "batch_mean": _M(
        "compares with the mean of the whole batch",
        "uniform groups carry no signal under a group baseline",
        "failed groups push down and solved groups push up, so every prompt"
        " contributes, at the price of rewarding easy prompts",
        {"entropy": -1, "kl": 1, "advantages/mean_abs": 1},
        "Overall falls while KL grows: easy prompts dominate the gradient",
        "REINFORCE",
    ),
    "beta_prior": _M(
        "compares with a pass rate smoothed by a Beta prior",
        "pass rates of few completions are noisy and often exactly 0 or 1",
        "a smoothed rate never reaches 0 or 1, so failed groups keep a small"
        " negative and solved groups a small positive advantage",
        {"kl": 1},
        "Overall does not rise on the sets where most groups fail",
        "VM-AV-GRPO and CDA-GRPO in POISE",
        ("prior_successes", "prior_failures"),
        {"signal": ("reward", "correctness")},
    ),
    "length_weighted": _M(
        "compares with the mean over the tokens of the group, not over its"
        " completions",
        "the variance of a gradient grows with the length of a completion",
        "long completions weigh more in the baseline, which makes the variance"
        " of the token gradients smallest",
        {"response_length": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "OPO",
    ),
    "anchor": _M(
        "compares with a mix of the mean of the group and that of the batch",
        "a group baseline is noisy, a batch baseline rewards easy prompts",
        "a mix takes some of the noise without silencing uniform groups",
        {"entropy": -1, "kl": 1},
        "Overall falls while KL grows: easy prompts dominate the gradient",
        "SA-GRPO in POISE, where it regressed",
        ("anchor_mix",),
    ),
    "history": _M(
        "compares with a mix of the mean of the group and the pass rate of"
        " prompts like it before this batch",
        "the mean of few completions is noisy, and silent where all agree",
        "what was known before lets a solved group say that it improved, and a"
        " failed one that it got worse",
        {"kl": 1, "advantages/mean_abs": 1},
        "Overall does not rise on the sets where most groups fail",
        "",
        ("history_mix",),
        {"signal": ("reward", "correctness")},
    ),
    "pass_at_k": _M(
        "credits completions for the sets of k that they are drawn into",
        "rewarding single answers narrows the policy to one way",
        "a set of k needs one success: prompts that are half solved matter"
        " less, rare successes more",
        {"entropy": 1},
        "pass@k does not rise, or greedy accuracy falls by more",
        "pass@k training",
        ("pass_k",),
        _PLAIN_REWARD
        | {"signal": ("correctness",), "scale": ("none",), "subset": ("all",)},
    ),
}

_SCALES = {
    "none": _M(
        "leaves the difference unscaled",
        "dividing by the group deviation favours very easy and very hard"
        " prompts",
        "unscaled differences weigh prompts by how much they can teach",
        {"kl": -1, "advantages/mean_abs": -1},
        "Overall falls on the hardest sets: rare successes needed the weight",
        "Dr.GRPO",
    ),
    "group_std": _M(
        "divides by the root mean square deviation of the group",
        "a rare success is a small difference from the baseline",
        "scaling by the group amplifies a lone success among failures",
        {"kl": 1, "advantages/mean_abs": 1},
        "pass@k on the hardest sets does not rise",
        "GRPO",
        ("epsilon",),
    ),
    "sample_std": _M(
        "divides by the sample deviation of the group",
        "the population deviation is too small for few completions",
        "the sample form takes that bias out, and shortens all steps by"
        " sqrt((G-1)/G)",
        {"kl": -1, "advantages/mean_abs": -1},
        "scores equal those of the population form",
        "defaults of TRL, verl and tunix",
        ("epsilon",),
        _WHOLE | {"baseline": ("group_mean",)},
    ),
    "damped_std": _M(
        "divides by the deviation of the group plus a damping",
        "groups that hardly differ are amplified to full advantages",
        "damping keeps small differences, as of format alone, a small signal",
        {"kl": -1, "advantages/mean_abs": -1},
        "scores equal those without the damping",
        "RF-GRPO in POISE",
        ("damping",),
    ),
    "analytic": _M(
        "divides by the standard deviation of the outcomes, with a floor",
        "an additive epsilon shrinks advantages where successes are rare",
        "a floor bounds the advantage without shrinking it above the floor",
        {"kl": 1},
        "scores equal those of plain scaling by the group",
        "AV-GRPO in POISE",
        ("sigma_floor",),
    ),
    "bernoulli": _M(
        "divides by the deviation of a coin with the smoothed pass rate, with"
        " a floor",
        "the measured deviation is 0 just where most is to be learnt",
        "the deviation of a smoothed rate stays away from 0, so that uniform"
        " groups keep advantages of a sensible size",
        {"kl": 1},
        "Overall does not rise on the sets where most groups fail",
        "VM-AV-GRPO and CDA-GRPO in POISE",
        ("sigma_floor",),
        {"baseline": ("beta_prior",)},
    ),
    "anchored": _M(
        "divides by the deviation of correctness where there is one, else by"
        " that of the reward",
        "format and length in the reward enlarge the deviation, and so shrink"
        " what correctness says",
        "in mixed groups the scale is that of correctness alone",
        {"advantages/mean_abs": 1},
        "scores equal those of scaling by the reward",
        "MSA-GRPO in POISE",
        ("epsilon",),
        _WHOLE,
    ),
    "batch_rms": _M(
        "divides by the root mean square difference of the batch",
        "group deviations of few completions are noisy divisors",
        "one divisor for the batch keeps the step size steady and the"
        " relative weight of prompts unbiased",
        {"kl": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "BN-GRPO in POISE",
        ("epsilon",),
    ),
    "batch_std": _M(
        "divides by the sample deviation of all advantages of the batch",
        "group deviations of few completions are noisy divisors",
        "one divisor for the batch keeps the step size steady",
        {"kl": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "REINFORCE++ with baseline",
        ("epsilon",),
        _WHOLE,
    ),
    "batch_spread": _M(
        "divides by the deviation of the rewards of the batch",
        "a divisor that ignores how prompts differ swings with their mix",
        "with the spread between prompts in the divisor, batches of easy and"
        " of hard prompts take steps of one size",
        {"kl": -1, "advantages/mean_abs": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "Lite PPO",
        ("epsilon",),
        _WHOLE,
    ),
    "active_rms": _M(
        "divides by the root mean square difference of the groups whose"
        " rewards differ",
        "uniform groups shrink the deviation of a batch as more are solved",
        "a divisor of the informative groups alone keeps the step size while"
        " prompts become solved",
        {"kl": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "ScaleRL",
        ("epsilon",),
        _WHOLE,
    ),
    "active": _M(
        "multiplies by the share of completions whose group teaches"
        " something, turned over",
        "groups of equal rewards take part in the mean and shrink the step",
        "the mean is over the informative groups, however many are solved",
        {"kl": 1, "advantages/mean_abs": 1},
        "Overall and KL stay as they are: the factor is absorbed elsewhere",
        "GPG",
        (),
        _WHOLE,
    ),
    "mean": _M(
        "divides by the mean reward of the group",
        "the deviation hardly tells a rare success from a common one",
        "a success among G failures weighs G - 1: the gradient of the log of"
        " the pass rate instead of the pass rate",
        {"kl": 1, "advantages/mean_abs": 1},
        "pass@k on the hardest sets does not rise",
        "MaxRL",
        ("epsilon",),
        _PLAIN_REWARD
        | {
            "signal": ("reward", "correctness"),
            "subset": ("all",),
            "baseline": ("group_mean",),
        },
    ),
    "fixed": _M(
        "divides by a constant",
        "adaptive scales change the step size from batch to batch",
        "a constant keeps advantages comparable over the whole run",
        {"kl": -1},
        "Overall falls: the constant does not suit all stages of training",
        "SA-GRPO in POISE, where it regressed",
        ("sigma_fixed",),
    ),
    "token_whitened": _M(
        "standardises over all tokens of the batch",
        "an average over completions lets short answers set the scale",
        "what every token weighs is known, whatever the lengths",
        {"response_length": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "REINFORCE++",
        ("whiten_epsilon",),
        {
            "clip": _TOKEN_LEVEL,
            "trust_region": (
                "none",
                "total_variation",
                "bernoulli_kl",
                "clip_cov",
                "kl_cov",
            ),
        },
    ),
}

SLOTS: mechanism.Slots = {"baseline": _BASELINES, "scale": _SCALES}
