"""Why a score may have moved: rules over what else moved with it.

Each rule names a pattern in the training signals and a reading of it. They
are readings, not causes: every sentence says so.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

# Signal -> (value of the parent, value of the child), means over seeds.
Moves = Mapping[str, tuple[float, float]]

SIGNALS = (
    "overall",
    "pass_at_k",
    "accuracy",
    "valid_rate",
    "response_length",
    "entropy",
    "kl",
    "clip_fraction",
    "grad_norm",
    "frac_groups_all_fail",
    "reward",
    "early_reward",
    "early_length",
)


class Rule(NamedTuple):
  """A pattern and what it may mean.

  Attributes:
    name: short identifier.
    applies: whether the moves show the pattern.
    reading: one sentence.
  """

  name: str
  applies: Callable[[Moves], bool]
  reading: str


def change(moves: Moves, name: str) -> float:
  """Child minus parent; 0 where it is not known."""
  before, after = moves.get(name, (0.0, 0.0))
  return after - before


def ratio(moves: Moves, name: str) -> float:
  """Child over parent; 1 where it is not known or the parent has none."""
  before, after = moves.get(name, (1.0, 1.0))
  return after / before if before > 0 else 1.0


def _nothing_moved(moves: Moves) -> bool:
  signals = ("overall", "entropy", "kl", "response_length", "valid_rate")
  return "overall" in moves and all(change(moves, s) == 0 for s in signals)


RULES: tuple[Rule, ...] = (
    Rule(
        "idle",
        _nothing_moved,
        "No number moved at all: what was changed may never act on this task.",
    ),
    Rule(
        "rambling",
        lambda m: ratio(m, "response_length") >= 1.1
        and change(m, "valid_rate") <= -0.02,
        "Answers got longer and fewer could be parsed: they may run into the"
        " length limit before they close.",
    ),
    Rule(
        "format_over_correctness",
        lambda m: ratio(m, "response_length") <= 0.9
        and change(m, "valid_rate") >= 0.01
        and change(m, "overall") < 0,
        "Answers got shorter and better formed but less often right: the"
        " signal for format may outweigh that for correctness.",
    ),
    Rule(
        "longer_and_better",
        lambda m: ratio(m, "response_length") >= 1.1
        and change(m, "valid_rate") > -0.02
        and change(m, "overall") > 0,
        "Answers got longer without losing their form, and the score rose:"
        " more of them may be worked out step by step.",
    ),
    Rule(
        "format_lost",
        lambda m: change(m, "valid_rate") <= -0.1,
        "Many more answers could not be parsed: nothing may be left that"
        " teaches format.",
    ),
    Rule(
        "entropy_collapse",
        lambda m: ratio(m, "entropy") <= 0.6,
        "Entropy fell well below the parent's: the policy may have committed"
        " early, which costs most where many samples are drawn.",
    ),
    Rule(
        "entropy_excess",
        lambda m: ratio(m, "entropy") >= 1.5 and change(m, "overall") < 0,
        "Entropy stayed well above the parent's while the score fell: the"
        " policy may be learning more slowly.",
    ),
    Rule(
        "larger_steps",
        lambda m: ratio(m, "kl") >= 1.5,
        "The policy moved further from the reference: part of the difference"
        " may be step size, not mechanism.",
    ),
    Rule(
        "smaller_steps",
        lambda m: ratio(m, "kl") <= 0.67,
        "The policy moved less far from the reference: part of the difference"
        " may be a smaller step, not mechanism.",
    ),
    Rule(
        "sooner",
        lambda m: ratio(m, "early_length") >= 1.1
        and 0.9 <= ratio(m, "response_length") <= 1.1,
        "The style of the answers changed sooner but ended alike: a short"
        " budget may reward that where a long one does not.",
    ),
    Rule(
        "faster_not_better",
        lambda m: change(m, "early_reward") > 0.02 and change(m, "reward") <= 0,
        "Reward rose faster early on and ended no higher: the gain may be"
        " speed alone.",
    ),
    Rule(
        "clipping",
        lambda m: ratio(m, "clip_fraction") >= 1.5
        and change(m, "clip_fraction") >= 0.005,
        "More tokens lost their gradient to the clip: updates may be held"
        " back.",
    ),
    Rule(
        "large_gradients",
        lambda m: ratio(m, "grad_norm") >= 2.0,
        "Gradients were at least twice as large: norm clipping may now set"
        " the step.",
    ),
    Rule(
        "accuracy_for_diversity",
        lambda m: change(m, "accuracy") >= 0.02
        and change(m, "pass_at_k") <= -0.02,
        "Greedy accuracy rose while pass@k fell: the policy may have traded"
        " variety for its first answer.",
    ),
    Rule(
        "diversity_for_accuracy",
        lambda m: change(m, "accuracy") <= -0.02
        and change(m, "pass_at_k") >= 0.02,
        "pass@k rose while greedy accuracy fell: the policy may explore more"
        " without making the better answer its first.",
    ),
    Rule(
        "failures_persist",
        lambda m: change(m, "frac_groups_all_fail") >= 0.05,
        "More groups failed as a whole to the end: hard prompts may get less"
        " signal.",
    ),
)


def diagnose(moves: Moves) -> tuple[Rule, ...]:
  """The rules that apply, in fixed order."""
  return tuple(rule for rule in RULES if rule.applies(moves))
