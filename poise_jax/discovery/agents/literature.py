"""What is known of mechanisms from elsewhere, in our own words.

Priors for a proposer, not findings of ours: each says what a paper reports or
what follows by algebra, and what to beware of.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Note(NamedTuple):
  """One mechanism.

  Attributes:
    tags: what it acts on.
    claim: what it does and why that may help.
    caution: where it fails, or what the claim leaves out.
    source: where it is from.
  """

  tags: tuple[str, ...]
  claim: str
  caution: str
  source: str


NOTES: tuple[Note, ...] = (
    Note(
        ("advantage", "scale"),
        "Dividing centred rewards by the spread of their group lets a lone"
        " success in a group of eight weigh about 2.6 instead of 0.9.",
        "It also blows up groups whose spread is noise; a floor on the spread"
        " avoids that, an added constant shrinks all small spreads.",
        "GRPO, arXiv:2402.03300",
    ),
    Note(
        ("advantage", "scale", "aggregation"),
        "Centring without dividing by the spread, and a constant normaliser in"
        " place of the length, remove the preference for very easy and very"
        " hard prompts and for long wrong answers.",
        "Steps get smaller as groups become even; part of any difference is"
        " step size.",
        "Dr.GRPO, arXiv:2503.20783",
    ),
    Note(
        ("baseline",),
        "The mean of the other completions of a prompt is an unbiased baseline;"
        " it equals the centred reward times G/(G-1).",
        "Against plain centring it only changes the length of steps.",
        "RLOO, arXiv:2402.14740",
    ),
    Note(
        ("clip", "aggregation", "filter"),
        "A higher upper clip bound keeps rare tokens growing, averaging over"
        " tokens lets long answers count in full, and groups without contrast"
        " are replaced by others.",
        "Without replacement such groups only dilute the batch; with the"
        " sampling fixed, part of the recipe is out of reach.",
        "DAPO, arXiv:2503.14476",
    ),
    Note(
        ("ratio", "clip"),
        "One importance ratio for a whole completion, its length-normalised"
        " log-ratio, matches the unit that is rewarded and lowers variance.",
        "Clip bounds must be some hundred times tighter than for tokens.",
        "GSPO, arXiv:2507.18071",
    ),
    Note(
        ("clip", "ratio"),
        "Capping the weight of a token and stopping its gradient, instead of"
        " clipping the objective, keeps a gradient on every token.",
        "The cap is an absolute ratio; taken for a distance from 1 it silences"
        " everything.",
        "CISPO, arXiv:2506.13585",
    ),
    Note(
        ("clip", "trust_region"),
        "A smooth gate that falls off with the ratio replaces the hard clip and"
        " has slope 1 on policy.",
        "It can only matter where updates leave the clip range at all: look at"
        " the clip fraction first.",
        "SAPO, arXiv:2511.20347",
    ),
    Note(
        ("advantage", "failures"),
        "Where all completions fail, a fixed negative signal keeps a gradient:"
        " larger for answers that cannot be read, smaller for wrong ones.",
        "Equal negatives point nowhere: probability drifts and answers get"
        " longer; the size is on no common scale with normalised advantages.",
        "FA-GRPO in POISE, arXiv:2603.23951",
    ),
    Note(
        ("routing", "normalisation"),
        "Statistics taken within a regime (solved, failed, mixed groups) or"
        " within the valid answers keep format noise out of correctness.",
        "Hard borders between regimes make cliffs; a baseline that moves"
        " smoothly with the pass rate avoids them.",
        "PR-, CDA- and VM-AV-GRPO in POISE, arXiv:2603.23951",
    ),
    Note(
        ("length", "efficiency"),
        "Reward brevity only among correct answers, and the more the higher the"
        " pass rate of the prompt: be right first, then be short.",
        "Coupled to failures, length pressure shortens the attempts that were"
        " needed; ungated it has made answers longer.",
        "DACE, CAG and DCBE in POISE, arXiv:2603.23951",
    ),
    Note(
        ("advantage", "variance"),
        "Smoothing a pass rate with a beta prior gives all-fail groups a small"
        " push down and all-pass groups one up.",
        "With equal prior counts it shrinks rare successes; only a prior that"
        " expects failure enlarges them. Sums over a group are no longer zero.",
        "algebra; VM-AV-GRPO in POISE, arXiv:2603.23951",
    ),
    Note(
        ("advantage", "scale"),
        "The root of E[r²] - E[r]² is the population spread, under any name.",
        "A change that only renames the spread trains exactly like its parent"
        " wherever floors do not act.",
        "algebra",
    ),
    Note(
        ("kl",),
        "The estimator exp(-x) - 1 + x in the loss descends the opposite"
        " divergence; x²/2 gives the exact gradient of the one wanted.",
        "The plain log-ratio in the loss has no expected gradient at all.",
        "arXiv:2510.01555",
    ),
    Note(
        ("entropy",),
        "A bonus whose coefficient follows a target keeps variety without"
        " pushing once there is enough.",
        "It needs state, reacts a step late, and a target that is too high"
        " slows all learning.",
        "Skywork-OR1, arXiv:2505.22312",
    ),
    Note(
        ("entropy", "clip"),
        "A few tokens with a large covariance of advantage and log-probability"
        " cause most of the loss of entropy; holding those back suffices.",
        "The share is some 2 in 10,000 tokens: in small batches that is none.",
        "Clip-Cov and KL-Cov, arXiv:2505.22617",
    ),
    Note(
        ("mask", "entropy"),
        "Learning only from the fifth of tokens with the highest entropy loses"
        " little: that is where answers branch.",
        "The threshold must be over the whole batch, not a completion.",
        "arXiv:2506.01939",
    ),
    Note(
        ("advantage", "asymmetry"),
        "Pushing wrong answers down, and right ones up only a little, keeps"
        " pass@k at large k.",
        "Alone it is slow on single-answer accuracy.",
        "W-REINFORCE, arXiv:2506.01347",
    ),
    Note(
        ("correction",),
        "Where sampler and trainer disagree, truncated importance weights on"
        " tokens, detached, remove most of the bias.",
        "On one engine both agree, and the weights do nothing.",
        "truncated importance sampling in verl and TRL",
    ),
)


def chosen(
    tags: Collection[str] = (), *, most: int = len(NOTES)
) -> tuple[Note, ...]:
  """The notes on some tags first, then the others, in their order."""
  wanted = set(tags)
  return tuple(sorted(NOTES, key=lambda n: not wanted & set(n.tags))[:most])


def listed(notes: Sequence[Note]) -> str:
  """One line for each note."""
  return "\n".join(
      f"- [{', '.join(n.tags)}] {n.claim} Beware: {n.caution} ({n.source})"
      for n in notes
  )
