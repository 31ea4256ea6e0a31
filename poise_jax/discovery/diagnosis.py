"""What moved in training, and why a score may have moved with it.

Each rule names a pattern in the training signals and a reading of it. They
are readings, not causes: every sentence says so.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from poise_jax.discovery.evidence import pairing

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

_SHOWN = {
    "valid_rate": ("valid rate", "{:.2f}"),
    "response_length": ("response length", "{:.1f}"),
    "entropy": ("entropy", "{:.3f}"),
    "kl": ("KL to the reference", "{:.4f}"),
    "clip_fraction": ("clipped tokens", "{:.4f}"),
}


def moved(pairs: pairing.Pairs | None) -> Moves:
  """What moved on common seeds, with the mean over sets of either kind.

  Args:
    pairs: runs of the child and of the parent; nothing moved without.
  """
  if pairs is None:
    return {}
  moves = {}
  for name in SIGNALS:
    both = pairing.mean_signals(pairs, name)
    if both is not None:
      moves[name] = both
  for kind in ("pass_at_k", "accuracy"):
    names = [n for n in pairs.ours[0].metrics if n.startswith(f"{kind}/")]
    known = [pairing.mean_signals(pairs, n) for n in names]
    known = [both for both in known if both is not None]
    if known:
      before, after = (sum(x) / len(known) for x in zip(*known, strict=True))
      moves[kind] = (before, after)
  return moves


def words(moves: Moves, where: str = "") -> str:
  """Before and after of the training signals in a sentence.

  Args:
    moves: empty for no sentence.
    where: what to say of the runs, such as their budget.
  """
  each = [
      f"{name} {form.format(moves[key][0])} to {form.format(moves[key][1])}"
      for key, (name, form) in _SHOWN.items()
      if key in moves
  ]
  told = f"Signals{where}, from parent to child"
  return f"{told}: {', '.join(each)}." if each else ""


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
        "Answers got longer without losing their form, and Overall rose:"
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
        "Entropy stayed well above the parent's while Overall fell: the"
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
