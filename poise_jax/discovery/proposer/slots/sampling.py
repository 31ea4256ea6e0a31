"""Which policy drew the tokens, which of them count, and for how much."""

from poise_jax.discovery.proposer.slots import mechanism

_M = mechanism.Mechanism
_TRAINER = {"anchor": ("old",)}

_ANCHORS = {
    "old": _M(
        "takes the ratio to the policy before the update, as the trainer"
        " scores it",
        "log-probabilities of the sampler carry the noise of its kernels",
        "both sides of the ratio come from one program, so that it is 1 where"
        " nothing changed",
        {"kl": -1},
        "Overall and KL stay as they are",
        "GRPO",
    ),
    "sampler": _M(
        "takes the ratio to the policy that drew the tokens, as its sampler"
        " reports it",
        "the sampler is not quite the policy that the trainer scores",
        "one ratio corrects for staleness and for the mismatch",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "ScaleRL, VESPO",
        needs={"correction": ("none",)},
    ),
}

_SAMPLER_WEIGHT = """\
weight = corrections.{atom}(
    batch.old_logprobs,
    batch.sampler_logprobs,
    mask,
    {arguments},
)
token_loss = weight * token_loss"""


def _correction(atom: str, **arguments: str) -> str:
  """Code that multiplies a weight of the sampler in."""
  named = [f'{name}=hparams["{key}"]' for name, key in arguments.items()]
  return _SAMPLER_WEIGHT.format(atom=atom, arguments=",\n    ".join(named))


_CORRECTIONS = {
    "none": _M(
        "does not correct for the sampler",
        "weights add noise where sampler and trainer agree",
        "without them every token counts as drawn",
        {"kl": 1},
        "Overall falls or varies more over seeds",
        "GRPO",
    ),
    "truncated_token": _M(
        "weighs tokens by how much likelier the trainer finds them, up to a"
        " cap",
        "tokens that the trained policy would hardly draw get full weight",
        "importance weights take the bias of the sampler out; the cap bounds"
        " their variance",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "TIS",
        ("sampler_cap",),
        _TRAINER,
        _correction("truncated_token", cap="sampler_cap"),
    ),
    "truncated_sequence": _M(
        "weighs completions by how much likelier the trainer finds them, up"
        " to a cap",
        "weights of single tokens leave a bias in what the completion says",
        "the weight of the whole completion is exact below the cap",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "TIS",
        ("sampler_cap",),
        _TRAINER,
        _correction("truncated_sequence", cap="sampler_cap"),
    ),
    "icepop": _M(
        "drops tokens on which sampler and trainer disagree",
        "a capped weight still lets a token of large mismatch teach",
        "dropped on both sides, such tokens cannot mislead",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "IcePop",
        ("sampler_low", "sampler_high"),
        _TRAINER,
        _correction("icepop", low="sampler_low", high="sampler_high"),
    ),
    "sequence_mask": _M(
        "drops completions of a large weight and weighs the others",
        "a capped weight still lets a completion of large mismatch teach",
        "such completions are left out as a whole",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "MIS",
        ("sampler_cap",),
        _TRAINER,
        _correction("sequence_mask", cap="sampler_cap"),
    ),
    "geometric_filter": _M(
        "drops completions whose mean weight is out of bounds, without"
        " weighing the others",
        "a product of weights drops nearly all long completions",
        "the mean does not grow stricter with length",
        {"kl": -1},
        "scores equal those without it: sampler and trainer agree",
        "sequence filters in verl",
        ("filter_low", "filter_high"),
        _TRAINER,
        _correction("geometric_filter", low="filter_low", high="filter_high"),
    ),
    "staleness": _M(
        "lets the weight of a completion fade with its age in updates",
        "old completions say little of what the policy does now",
        "a weight that fades needs no ratio, and so adds no noise",
        {"kl": -1},
        "scores equal those without it: no completion is old",
        "",
        ("staleness_decay",),
        {},
        """\
weight = jnp.exp(-hparams["staleness_decay"] * batch.staleness)
token_loss = weight[..., None] * token_loss""",
    ),
}

_FILTERS = {
    "all": _M(
        "learns from every token",
        "what is left out cannot teach",
        "every token of the batch carries some signal",
        {"kl": 1},
        "Overall falls: what was left out had misled",
        "GRPO",
    ),
    "untruncated": _M(
        "learns nothing from completions cut off by the length limit",
        "the reward of what was cut off says little about its tokens",
        "neither numerator nor denominator sees them, while the baseline does",
        {"response_length": 1},
        "answers get longer without a gain in accuracy",
        "overlong filtering in DAPO",
        code="mask = masks.apply(mask, masks.untruncated(batch.truncated))",
    ),
    "valid": _M(
        "learns nothing from unparsable completions",
        "the tokens of an unparsable answer share one blame",
        "what is blamed is wrong reasoning, not its wrapping",
        {"valid_rate": -1},
        "the valid rate falls by more than correctness gains",
        code=(
            "mask = masks.apply(mask,"
            " masks.valid_completions(batch.format_valid))"
        ),
    ),
    "active_groups": _M(
        "leaves groups of equal rewards out of numerator and denominator",
        "groups that teach nothing shrink the step as more are solved",
        "the mean is over prompts that hold a contrast",
        {"kl": 1},
        "Overall and KL stay as they are: the factor is absorbed elsewhere",
        "ScaleRL",
        code="mask = masks.apply(mask, masks.nonzero_spread(batch.rewards))",
    ),
    "mixed_groups": _M(
        "learns from groups with both right and wrong answers alone",
        "groups that are all right or all wrong say nothing of correctness",
        "the mean is over prompts at the edge of what the policy can do",
        {"kl": 1},
        "Overall falls on the sets where most groups fail",
        "dynamic sampling in DAPO",
        code="mask = masks.apply(mask, masks.mixed_groups(batch.correct))",
    ),
    "high_entropy": _M(
        "learns from the tokens at which the policy was least sure",
        "most tokens follow from those before, and dilute the gradient",
        "the few tokens at which a derivation forks get all of the gradient",
        {"entropy": 1},
        "entropy does not stay higher, or Overall falls while it does",
        "the 80/20 rule",
        ("entropy_fraction",),
        code="""\
mask = masks.high_entropy(
    batch.entropy, mask, fraction=hparams["entropy_fraction"]
)""",
    ),
}

_AGGREGATIONS = {
    "token_mean": _M(
        "averages over all tokens of the batch",
        "averages by completion shrink the tokens of long answers",
        "every token weighs alike, so long answers teach in full",
        {"response_length": 1},
        "length and Overall stay as they are",
        "DAPO",
        code="loss = aggregation.token_mean(token_loss, mask)",
    ),
    "token_mean_prompt": _M(
        "averages over the tokens of each prompt, then over prompts",
        "prompts with long answers dominate an average over all tokens",
        "prompts weigh alike while tokens within a prompt still do",
        {"response_length": -1},
        "scores equal those of averaging over all tokens",
        "DAPO as printed, ScaleRL",
        code="loss = aggregation.token_mean_prompt(token_loss, mask)",
    ),
    "seq_mean": _M(
        "averages within each completion, then over completions",
        "long completions dominate an average over all tokens",
        "completions weigh alike, so short successes count in full and long"
        " failures are blamed less by token",
        {"response_length": 1},
        "length and Overall stay as they are",
        "GRPO",
        code="loss = aggregation.seq_mean(token_loss, mask)",
    ),
    "seq_sum_mean": _M(
        "sums over each completion, then averages over completions",
        "normalising by length changes which gradient is estimated",
        "the plain policy gradient of whole sequences, without length bias",
        {"kl": 1},
        "length and Overall stay as they are",
        "RLOO",
        code="loss = aggregation.seq_sum_mean(token_loss, mask)",
    ),
    "constant_norm": _M(
        "sums over tokens and divides by a constant length",
        "dividing by the actual length rewards long failures",
        "a constant divisor removes the length bias in every batch",
        {"response_length": -1},
        "length and Overall stay as they are",
        "Dr.GRPO",
        ("length_constant",),
        code="""\
loss = aggregation.constant_norm(
    token_loss, mask, length_constant=hparams["length_constant"]
)""",
    ),
    "length_power_norm": _M(
        "weighs completions by a power of their length inside their group",
        "the variance of a summed gradient grows with the length",
        "less weight on long completions gives the mean of least variance",
        {"response_length": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "VL Norm",
        ("length_decay", "length_constant"),
        code="""\
loss = aggregation.length_power_norm(
    token_loss,
    mask,
    alpha=hparams["length_decay"],
    length_constant=hparams["length_constant"],
)""",
    ),
}

SLOTS: mechanism.Slots = {
    "anchor": _ANCHORS,
    "correction": _CORRECTIONS,
    "filter": _FILTERS,
    "aggregation": _AGGREGATIONS,
}
