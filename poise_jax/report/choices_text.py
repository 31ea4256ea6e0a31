"""Choices of parents in words: what other rules would have done, and how sure.

Nothing is called better or worse below the least numbers of `parents.review`;
figures are shown all the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import textwrap
from typing import Any

from poise_jax.discovery.parents import replay, review
from poise_jax.evaluation import statistics

METHODS = (
    "Gains are discounted and saturate (-1 to 1): a child that is far ahead at"
    " once is worth about 0.8. They are posterior means by what is known now,"
    " over the root, or over the parent itself; over itself a poor parent gains"
    " easily, by children that merely recover, so only the first is judged."
    " Reweighted: what the choices made led to, weighted by how much more"
    " likely the other rule was to make them than the logged odds. It assumes"
    " that these odds are right, that what a choice leads to does not depend on the other"
    " choices of its round, and it keeps the tree as it was: what the other"
    " rule would have grown in earlier rounds is not there. Hindsight: what came of"
    " all that was ever built on, by the odds of either rule; it assumes that a"
    " node would have led to the same in any round, favours what was built on"
    " more, and says nothing of the odds not covered. Later rounds had less"
    " time to bear fruit under any rule. Intervals are 95 %, by resampling whole"
    " rounds (of predictions: whole nodes), not corrected for the number of"
    " rules."
)
WORTH_HEADS = (
    *("rule", "over the root: reweighted", "effective draws"),
    *("hindsight", "covered", "over itself: reweighted"),
    *("over itself: hindsight", "verdict"),
)
CONCORDANCE_HEADS = ("term", "pairs", "over the root", "over itself")
COVERAGE_HEADS = ("interval", "held the outcome")
FORECAST_HEADS = ("round", "parent", "predicted", "sd", "came", "sd")

Name = Callable[[str], str]


def sentences(found: review.Review) -> list[str]:
  """Says what holds, and what cannot be told."""
  under_way = [t.generation for t in found.turns if not t.finished]
  told = [_rounds(found)]
  if under_way:
    told.append(
        f"Round {under_way[-1]} is under way and counts for nothing yet."
    )
  verdicts = {name: verdict(worth) for name, worth in found.worths.items()}
  for which in ("better", "worse"):
    if listed := [
        f"{name} by {_interval(found.worths[name].importance.regret, True)}"
        for name, said in verdicts.items()
        if said == which
    ]:
      told.append(
          f"By the reweighted estimate {which} than {found.rule}:"
          f" {', '.join(listed)}."
      )
  if listed := [n for n, said in verdicts.items() if said == "open"]:
    told.append(f"No difference from {found.rule} seen: {', '.join(listed)}.")
  for name, worth in found.worths.items():
    if worth.beyond > 0:
      told.append(
          f"{name}: {worth.beyond:.0%} of its odds are on nodes that"
          f" {found.rule} could not have drawn; its estimates are about the"
          " rest."
      )
  return [*told, *_predictions(found)]


def verdict(worth: review.Worth) -> str:
  """Better, worse, open, or why it cannot be told."""
  if worth.importance is None:
    return "no draw in common"
  if not worth.enough:
    return "too little to tell"
  regret = worth.importance.regret
  return "better" if regret.low > 0 else "worse" if regret.high < 0 else "open"


def _rounds(found: review.Review) -> str:
  """How much there is to judge other rules by."""
  if not found.turns:
    return "No parents have been chosen yet."
  begin = (
      f"{len(found.turns)} rounds chosen by {found.rule or 'an unnamed rule'},"
      f" {found.choices} of them finished with more than one node to choose"
      " from"
  )
  if found.choices < review.LEAST_ROUNDS:
    return (
        f"{begin}: too few to say whether another rule would have done better"
        f" (at least {review.LEAST_ROUNDS})."
    )
  if found.worths and not any(w.enough for w in found.worths.values()):
    return (
        f"{begin}: but the other rules have too few draws in common with it to"
        f" be judged (at least {review.LEAST_DRAWS:.0f} effective ones)."
    )
  return f"{begin}."


def _predictions(found: review.Review) -> list[str]:
  """Whether the Gaussian process can be believed."""
  known = found.calibration
  count = len({told.node for told in found.forecasts})
  if known is None or known.nodes < review.LEAST_NODES:
    return [
        f"Predicted gains met an outcome at {count} nodes: too few to say"
        f" whether predictions hold (at least {review.LEAST_NODES})."
    ]
  judged = known.verdict
  rival = "knowing nothing" if judged.prior >= judged.constant else "one mean"
  word = "beat" if judged.trusted else "did not beat"
  return [
      f"Predictions of gain (of {known.nodes} nodes) {word} {rival} by more"
      f" than its error: {judged.advantage:+.2f} nats a node, standard error"
      f" {judged.error:.2f}.",
      "What came was on average"
      f" {_interval(known.bias, True)} more than predicted; 95 % intervals held"
      f" it in {_percent(known.coverage[0.95])} of cases.",
  ]


def heads_of_turns(found: review.Review) -> tuple[str, ...]:
  """The heads of `rows_of_turns`."""
  draws = (f"draw {i + 1}" for i in range(_draws(found)))
  return ("round", "rule", *draws, "odds of the draws made")


def rows_of_turns(found: review.Review, name_of: Name) -> list[tuple[str, ...]]:
  """For each round a row of what was drawn, then one of each other rule.

  These have the most likely draws with their odds, each after the ones before
  in its row; and at the end the odds of what was drawn instead, each after what
  was drawn before.
  """
  rows = []
  for turn in found.turns:
    drawn = [name_of(node) for node in turn.chosen]
    rows.append(_row(found, turn, f"{found.rule}, drawn", drawn, turn.odds))
    for name, best in turn.favourites.items():
      likely = [_favourite(own, name_of) for own in best]
      rows.append(_row(found, turn, name, likely, turn.others[name]))
  return rows


def _row(
    found: review.Review,
    turn: review.Turn,
    rule: str,
    draws: Sequence[str],
    odds: Sequence[float],
) -> tuple[str, ...]:
  blank = ["-"] * (_draws(found) - len(draws))
  chances = ", ".join(f"{chance:.1%}" for chance in odds)
  return (str(turn.generation), rule, *draws, *blank, chances)


def _draws(found: review.Review) -> int:
  """Most draws of any rule in any round."""
  rows = [r for t in found.turns for r in (t.chosen, *t.favourites.values())]
  return max(map(len, rows), default=0)


def _favourite(best: review.Favourite, name_of: Name) -> str:
  if len(best.nodes) > 1:
    return f"any of {len(best.nodes)} ({best.odds:.1%} each)"
  return f"{name_of(best.nodes[0])} ({best.odds:.1%})"


def rows_of_worths(found: review.Review) -> list[tuple[str, ...]]:
  """A row for each rule."""
  rows = []
  for name, w in found.worths.items():
    regret = lambda e, sure=w.enough: _regret(e, sure)
    rows.append(
        (
            name,
            regret(w.importance),
            f"{w.importance.support:.1f}" if w.importance else "-",
            regret(w.hindsight),
            f"{w.hindsight.support:.0%}" if w.hindsight else "-",
            regret(w.importance_own),
            regret(w.hindsight_own),
            verdict(w),
        )
    )
  return rows


def rows_of_concordance(found: review.Review) -> list[tuple[str, ...]]:
  """A row for each term of the choice."""
  enough = _enough_nodes(found)
  share = lambda own: _percent(own.share, enough) if own else "-"
  return [
      (
          term,
          str(own.pairs),
          share(found.concordance.get(term)),
          share(own),
      )
      for term, own in found.concordance_own.items()
  ]


def rows_of_coverage(found: review.Review) -> list[tuple[str, ...]]:
  """A row for each level."""
  if found.calibration is None:
    return []
  enough = _enough_nodes(found)
  return [
      (f"{level:.0%}", _percent(share, enough))
      for level, share in found.calibration.coverage.items()
  ]


def rows_of_forecasts(
    found: review.Review, name_of: Name
) -> list[tuple[str, ...]]:
  """A row for each prediction of which something came."""
  return [
      (
          str(told.generation),
          name_of(told.node),
          f"{told.mean:+.2f}",
          f"{told.variance**0.5:.2f}",
          f"{told.outcome.value:+.2f}",
          f"{told.outcome.variance**0.5:.2f}",
      )
      for told in found.forecasts
  ]


def as_text(found: review.Review, name_of: Name) -> list[str]:
  """Everything for a terminal."""
  lines = [*sentences(found)]
  for title, heads, rows in (
      (
          "Parents drawn, and the most likely ones under each other rule",
          heads_of_turns(found),
          rows_of_turns(found, name_of),
      ),
      ("Gain beyond the rule in charge", WORTH_HEADS, rows_of_worths(found)),
      (
          "Of two nodes that with the higher term led to more (chance: 50 %)",
          CONCORDANCE_HEADS,
          rows_of_concordance(found),
      ),
      (
          "Predicted gains over the parent itself",
          FORECAST_HEADS,
          rows_of_forecasts(found, name_of),
      ),
      ("Coverage of predictions", COVERAGE_HEADS, rows_of_coverage(found)),
  ):
    if rows:
      lines += ["", f"{title}:", *_columns([heads, *rows])]
  return [
      *lines,
      "",
      *textwrap.wrap(f"(?): too little for an interval. {METHODS}"),
  ]


def as_json(found: review.Review) -> dict[str, Any]:
  """Everything for other programs; an estimate counts only if `enough`."""
  return _plain(vars(found)) | {
      "sentences": sentences(found),
      "methods": METHODS,
  }


def _plain(value: Any) -> Any:
  """Named tuples as dicts, all the way down."""
  if hasattr(value, "_asdict"):
    value = value._asdict()
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(item) for item in value]
  return value


def _columns(rows: Iterable[Sequence[str]]) -> list[str]:
  """Lines with cells below each other."""
  rows = list(rows)
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
      "  ".join(f"{c:{w}}" for c, w in zip(r, widths, strict=True)).rstrip()
      for r in rows
  ]


def _enough_nodes(found: review.Review) -> bool:
  known = found.calibration
  return known is not None and known.nodes >= review.LEAST_NODES


def _regret(estimate: replay.Estimate | None, sure: bool) -> str:
  """A difference; with its interval only where that can be trusted."""
  if estimate is None:
    return "-"
  mean = estimate.regret.mean
  return _interval(estimate.regret, True) if sure else f"{mean:+.2f} (?)"


def _interval(found: statistics.Interval, sign: bool = False) -> str:
  form = "+.2f" if sign else ".2f"
  return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _percent(found: statistics.Interval, sure: bool = True) -> str:
  if not sure:
    return f"{found.mean:.0%} (?)"
  return f"{found.mean:.0%} [{found.low:.0%}, {found.high:.0%}]"
