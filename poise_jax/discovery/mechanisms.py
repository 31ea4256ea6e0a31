"""What each mechanism is for: bottleneck, hypothesis, prediction, falsifier.

The offline proposer states with every candidate why it might help and what
would refute it; this table is where it takes the statements from. They are
hypotheses. The predicted signs are what reflection holds against the outcome.

Papers: POISE https://arxiv.org/abs/2603.23951, GRPO (DeepSeekMath)
https://arxiv.org/abs/2402.03300, Dr.GRPO https://arxiv.org/abs/2503.20783,
RLOO https://arxiv.org/abs/2402.14740, DAPO https://arxiv.org/abs/2503.14476,
GSPO https://arxiv.org/abs/2507.18071, dual clip
https://arxiv.org/abs/1912.09729.
"""

from collections.abc import Mapping
from typing import NamedTuple

Effects = Mapping[str, int]


class Mechanism(NamedTuple):
  """Why one choice in one slot might help.

  Attributes:
    words: what it does, as a phrase that follows "it" or a slot name.
    bottleneck: the weakness it answers.
    hypothesis: how it changes advantages or gradients, and why that helps.
    effects: metric -> +1 or -1, the expected change against the parent.
    falsifier: what would show that the hypothesis is wrong.
    source: where the idea is described, empty if common practice.
  """

  words: str
  bottleneck: str
  hypothesis: str
  effects: Effects
  falsifier: str
  source: str = ""


MECHANISMS: Mapping[tuple[str, str], Mechanism] = {
    ("validity", "none"): Mechanism(
        "treats an unparsable answer like any wrong one",
        "format terms can drown the correctness signal",
        "without them every gradient step serves correctness",
        {"response_length": 1},
        "the valid rate falls by more than correctness gains",
    ),
    ("validity", "valid_only"): Mechanism(
        "takes statistics over parsable answers and gives the others a fixed"
        " negative advantage",
        "unparsable answers distort the baseline of the parsable ones",
        "a baseline of comparable answers, with format taught separately,"
        " gives sparse successes a cleaner contrast",
        {"valid_rate": 1},
        "the valid rate does not rise, or answers get short and wrong",
        "VM-AV-GRPO in POISE",
    ),
    ("validity", "format_penalty"): Mechanism(
        "subtracts a penalty from the reward of an unparsable answer",
        "groups without a success give no gradient at all",
        "a reward difference inside failed groups teaches format early",
        {"valid_rate": 1, "response_length": -1},
        "the valid rate does not rise, or Overall falls while it does",
        "AV-GRPO in POISE",
    ),
    ("validity", "format_stream"): Mechanism(
        "adds a separate, centred advantage for parsable answers",
        "one scalar reward mixes format with correctness before scaling",
        "a stream of its own teaches format without touching the scale of"
        " the correctness advantage",
        {"valid_rate": 1},
        "the valid rate does not rise, or Overall falls while it does",
        "DFR-GRPO and CDA-GRPO in POISE",
    ),
    ("baseline", "group_mean"): Mechanism(
        "compares with the mean of the group",
        "other baselines push groups whose answers are all alike",
        "advantages that sum to zero in each group waste no gradient on"
        " prompts that cannot be told apart",
        {"kl": -1},
        "Overall falls: the signal in uniform groups was useful",
        "GRPO",
    ),
    ("baseline", "leave_one_out"): Mechanism(
        "compares with the mean of the other completions of the group",
        "a completion that is part of its own baseline biases the gradient",
        "an unbiased baseline enlarges advantages by G/(G-1)",
        {"kl": 1},
        "KL and Overall stay as they are: the factor is absorbed elsewhere",
        "RLOO",
    ),
    ("baseline", "batch_mean"): Mechanism(
        "compares with the mean of the whole batch",
        "uniform groups carry no signal under a group baseline",
        "failed groups push down and solved groups push up, so every prompt"
        " contributes, at the price of rewarding easy prompts",
        {"entropy": -1, "kl": 1},
        "Overall falls while KL grows: easy prompts dominate the gradient",
    ),
    ("baseline", "beta_prior"): Mechanism(
        "compares with a pass rate smoothed by a Beta prior",
        "pass rates of few completions are noisy and often exactly 0 or 1",
        "a smoothed rate never reaches 0 or 1, so failed groups keep a small"
        " negative and solved groups a small positive advantage",
        {"kl": 1},
        "Overall does not rise on the sets where most groups fail",
        "VM-AV-GRPO and CDA-GRPO in POISE",
    ),
    ("scale", "none"): Mechanism(
        "leaves the difference unscaled",
        "dividing by the group deviation favours very easy and very hard"
        " prompts",
        "unscaled differences weigh prompts by how much they can teach",
        {"kl": -1},
        "Overall falls on the hardest sets: rare successes needed the weight",
        "Dr.GRPO",
    ),
    ("scale", "group_std"): Mechanism(
        "divides by the root mean square deviation of the group",
        "a rare success is a small difference from the baseline",
        "scaling by the group amplifies a lone success among failures",
        {"kl": 1},
        "pass@k on the hardest sets does not rise",
        "GRPO",
    ),
    ("scale", "batch_rms"): Mechanism(
        "divides by the root mean square difference of the batch",
        "group deviations of few completions are noisy divisors",
        "one divisor for the batch keeps the step size steady and the"
        " relative weight of prompts unbiased",
        {"kl": -1},
        "the spread over seeds does not shrink and Overall does not rise",
        "BN-GRPO in POISE",
    ),
    ("scale", "analytic"): Mechanism(
        "divides by the standard deviation of the outcomes, with a floor",
        "an additive epsilon shrinks advantages where successes are rare",
        "a floor bounds the advantage without shrinking it above the floor",
        {"kl": 1},
        "scores equal those of plain scaling by the group",
        "AV-GRPO in POISE",
    ),
    ("scale", "fixed"): Mechanism(
        "divides by a constant",
        "adaptive scales change the step size from batch to batch",
        "a constant keeps advantages comparable over the whole run",
        {"kl": -1},
        "Overall falls: the constant does not suit all stages of training",
        "SA-GRPO in POISE, where it regressed",
    ),
    ("failures", "none"): Mechanism(
        "adds nothing for groups where every completion fails",
        "uniform negatives point nowhere and cause drift",
        "leaving such groups alone spends the gradient on contrasts",
        {"kl": -1},
        "Overall falls on the sets where most groups fail",
        "GRPO",
    ),
    ("failures", "fixed_negatives"): Mechanism(
        "gives fixed negatives where every completion fails, larger for"
        " unparsable ones",
        "groups without a success give no direction to move away from",
        "a constant push away from failures, graded by format, keeps"
        " exploration going where nothing works yet",
        {"entropy": 1, "valid_rate": 1},
        "entropy does not stay higher, or Overall falls: undirected repulsion",
        "FA-GRPO in POISE",
    ),
    ("failures", "damped"): Mechanism(
        "damps the advantages of groups where every completion fails",
        "early on most groups fail and their signal dominates the batch",
        "damping leaves room for the few groups that hold a contrast",
        {"response_length": 1},
        "Overall does not rise although failed groups weigh less",
        "DFR-GRPO in POISE names the fault this answers",
    ),
    ("gating", "none"): Mechanism(
        "weighs all groups alike",
        "weights by group state add variance and a constant to tune",
        "equal weights keep the gradient an average over prompts",
        {"kl": -1},
        "Overall falls: the weighting was doing useful work",
    ),
    ("gating", "silence_solved"): Mechanism(
        "silences groups where every completion succeeds",
        "prompts already solved keep pushing the policy",
        "silence prevents a rich-get-richer drift on easy prompts",
        {"entropy": 1, "kl": -1},
        "entropy does not stay higher, or greedy accuracy falls",
        "PR-GRPO in POISE",
    ),
    ("gating", "downweight_uniform"): Mechanism(
        "gives uniform groups, all failed or all solved, a smaller weight",
        "uniform groups hold no contrast between their completions",
        "a smaller weight keeps their signal without letting it dominate",
        {"kl": -1},
        "Overall does not rise although mixed groups weigh relatively more",
        "MSA-GRPO in POISE",
    ),
    ("gating", "difficulty_weight"): Mechanism(
        "weighs a group by 1 + gain x (1 - pass rate)",
        "easy prompts dominate the gradient once they are being solved",
        "weight on hard prompts turns rare successes into larger steps",
        {"kl": 1},
        "pass@k on the two hardest sets does not rise",
        "DACE in POISE",
    ),
    ("length", "none"): Mechanism(
        "ignores the length of a completion",
        "length terms pull against correctness where reasoning needs room",
        "without them length follows correctness alone",
        {"response_length": 1},
        "length stays and Overall falls: the term did not cost correctness",
    ),
    ("length", "correct_efficiency"): Mechanism(
        "rewards brevity among correct completions, gated by the pass rate",
        "equally correct answers of different length are treated alike",
        "first be correct, then be short: the term only ranks successes and"
        " fades where the prompt is hard",
        {"response_length": -1},
        "length does not fall, or falls together with accuracy",
        "DACE in POISE",
    ),
    ("length", "overlength_penalty"): Mechanism(
        "penalises correct completions longer than their correct peers, gated"
        " by the squared pass rate",
        "rewarding brevity invites answers that are too short to be right",
        "a penalty alone curbs rambling without a prize for shortness",
        {"response_length": -1},
        "length does not fall, or falls together with accuracy",
        "CAG in POISE",
    ),
    ("length", "temper_negatives"): Mechanism(
        "divides negative advantages by relative length",
        "a long attempt that fails is blamed like a short guess",
        "a lenient view of long failures lets worked answers survive until"
        " they become correct",
        {"response_length": 1},
        "length does not rise, or rises without a gain in accuracy",
        "VM-AV-GRPO in POISE",
    ),
    ("ratio", "token"): Mechanism(
        "compares old and new policy token by token",
        "a ratio of whole sequences hides which token moved",
        "clipping by token stops single tokens from running away",
        {"kl": -1},
        "Overall and KL stay as they are",
        "GRPO",
    ),
    ("ratio", "sequence"): Mechanism(
        "compares old and new policy by the mean ratio of the sequence",
        "token ratios are noisy while the reward belongs to the sequence",
        "one ratio for a completion gives all its tokens the same weight",
        {"kl": 1},
        "the spread over seeds does not shrink and Overall does not rise",
        "GSPO",
    ),
    ("clip", "symmetric"): Mechanism(
        "clips the ratio alike on both sides",
        "uneven or missing bounds let some tokens move too far",
        "equal bounds keep several updates on one batch trustworthy",
        {"kl": -1},
        "Overall falls while KL stays: the bound only slowed learning",
        "GRPO",
    ),
    ("clip", "clip_higher"): Mechanism(
        "lets the ratio rise further than it may fall",
        "a rare good token hits the upper bound before it becomes likely",
        "more room above keeps low-probability tokens growing and entropy up",
        {"entropy": 1},
        "entropy does not stay higher or the clip fraction does not change",
        "DAPO",
    ),
    ("clip", "dual"): Mechanism(
        "also bounds the loss where a bad token became far more likely",
        "a negative advantage with a large ratio has unbounded loss",
        "the second bound removes rare, very large gradients",
        {"kl": -1},
        "scores equal those without it: such ratios do not occur",
        "dual-clip PPO",
    ),
    ("clip", "none"): Mechanism(
        "does not clip the ratio",
        "clipping throws away gradient where the policy moves fastest",
        "every token keeps its gradient, so learning is faster while updates"
        " stay small",
        {"kl": 1, "entropy": -1},
        "Overall falls or varies more over seeds while KL grows",
    ),
    ("aggregation", "token_mean"): Mechanism(
        "averages over all tokens of the batch",
        "averages by completion shrink the tokens of long answers",
        "every token weighs alike, so long answers teach in full",
        {"response_length": 1},
        "length and Overall stay as they are",
        "DAPO",
    ),
    ("aggregation", "token_mean_prompt"): Mechanism(
        "averages over the tokens of each prompt, then over prompts",
        "prompts with long answers dominate an average over all tokens",
        "prompts weigh alike while tokens within a prompt still do",
        {"response_length": -1},
        "scores equal those of averaging over all tokens",
        "DAPO",
    ),
    ("aggregation", "seq_mean"): Mechanism(
        "averages within each completion, then over completions",
        "long completions dominate an average over all tokens",
        "completions weigh alike, so short successes count in full and long"
        " failures are blamed less by token",
        {"response_length": 1},
        "length and Overall stay as they are",
        "GRPO",
    ),
    ("aggregation", "seq_sum_mean"): Mechanism(
        "sums over each completion, then averages over completions",
        "normalising by length changes which gradient is estimated",
        "the plain policy gradient of whole sequences, without length bias",
        {"kl": 1},
        "length and Overall stay as they are",
        "RLOO",
    ),
    ("aggregation", "constant_norm"): Mechanism(
        "sums over tokens and divides by a constant length",
        "dividing by the actual length rewards long failures",
        "a constant divisor removes the length bias in every batch",
        {"response_length": -1},
        "length and Overall stay as they are",
        "Dr.GRPO",
    ),
    ("kl", "none"): Mechanism(
        "has no penalty on the distance to the reference policy",
        "the penalty holds back a policy that has far to go",
        "without it the reward alone decides how far the policy moves",
        {"kl": 1},
        "KL does not grow, or grows without a gain in Overall",
        "DAPO",
    ),
    ("kl", "k3"): Mechanism(
        "penalises the distance to the reference policy",
        "the policy drifts away from what it could already do",
        "a pull towards the reference preserves its skills and entropy",
        {"kl": -1},
        "KL does not fall, or Overall falls with it",
        "GRPO",
    ),
    ("entropy", "none"): Mechanism(
        "has no reward for entropy",
        "an entropy bonus keeps noise in answers that are already right",
        "without it the policy may commit to what works",
        {"entropy": -1},
        "entropy does not fall, or falls without a gain in accuracy",
        "GRPO",
    ),
    ("entropy", "bonus"): Mechanism(
        "adds a bonus for the entropy of each token",
        "the policy commits before it has found the better way to answer",
        "a bonus keeps alternatives alive, which sampling many answers needs",
        {"entropy": 1},
        "entropy does not stay higher, or pass@k does not rise",
        "BN-GRPO in POISE",
    ),
    ("advantage_clip", "none"): Mechanism(
        "does not bound the advantage",
        "a bound flattens exactly the rare successes that matter most",
        "unbounded advantages keep the full contrast of a lone success",
        {"kl": 1},
        "scores equal those with the bound: it never acted",
    ),
    ("advantage_clip", "bounded"): Mechanism(
        "bounds the advantage on both sides",
        "a single outlier can dominate the gradient of a batch",
        "a bound steadies the step size at the price of some contrast",
        {"kl": -1},
        "scores equal those without the bound: it never acted",
        "BN-GRPO in POISE",
    ),
}
