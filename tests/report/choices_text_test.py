import json

import pytest

from poise_jax.discovery.parents import (
    calibration,
    potential,
    replay,
    review,
    trust,
)
from poise_jax.evaluation import statistics
from poise_jax.report import choices_text

NAMES = {"r": "grpo", "a": "better"}
_interval = statistics.Interval


def _worth(low, mean, high, *, enough=True, beyond=0.0):
  regret = _interval(mean, low, high)
  estimate = replay.Estimate(
      _interval(0.3, 0.2, 0.4), _interval(0.1, 0.0, 0.2), regret, 12.0
  )
  return review.Worth(estimate, estimate, None, None, beyond, enough)


def _calibration(nodes, trusted):
  verdict = trust.Verdict(nodes, -1.0, -1.5, -1.25, 0.25, 0.1, trusted)
  coverage = {level: _interval(level, 0.0, 1.0) for level in calibration.LEVELS}
  bias = _interval(0.125, 0.05, 0.25)
  return calibration.Calibration(2 * nodes, nodes, coverage, bias, verdict)


def _review(worths, *, choices=12, nodes=12, trusted=True, finished=True):
  table = {name: (review.Favourite(("r", "a"), 0.5),) for name in worths}
  turn = review.Turn(
      2,
      2,
      ("a", "r"),
      (0.75, 1.0),
      finished,
      table,
      dict.fromkeys(worths, (0.5, 1.0)),
  )
  told = [
      calibration.Forecast(
          f"n{i}", 2, 0.25, 0.04, (0.0, 0.25), potential.Gain(-0.5, 0.01)
      )
      for i in range(nodes)
  ]
  share = {"score": calibration.Concordance(9, _interval(0.75, 0.5, 0.9))}
  known = _calibration(nodes, trusted) if nodes > 1 else None
  return review.Review(
      "c0ffee", "epistemic", [turn], choices, worths, told, known, share, share
  )


def test_a_rule_is_better_only_by_its_interval():
  found = _review(
      {
          "greedy": _worth(0.1, 0.2, 0.3),
          "uniform": _worth(-0.3, -0.2, -0.1, beyond=0.25),
          "best_of_n": _worth(-0.1, 0.0, 0.1),
          "pareto_alone": _worth(0.1, 0.2, 0.3, enough=False),
          "potential_alone": review.Worth(None, None, None, None, 0.0, False),
      }
  )
  said = choices_text.sentences(found)
  assert (
      "estimate better than epistemic: greedy by +0.20 [+0.10, +0.30]."
      in said[1]
  )
  assert "worse than epistemic: uniform by -0.20 [-0.30, -0.10]." in said[2]
  assert said[3] == "No difference from epistemic seen: best_of_n."
  assert said[4].startswith("uniform: 25% of its odds are on nodes that")
  verdicts = [row[-1] for row in choices_text.rows_of_worths(found)]
  assert verdicts[3:] == ["too little to tell", "no draw in common"]


def test_too_little_is_said_and_has_no_interval():
  worths = {"greedy": _worth(0.1, 0.2, 0.3, enough=False)}
  few = _review(worths, choices=2, nodes=3, finished=False)
  said = choices_text.sentences(few)
  assert "2 of them finished" in said[0] and "too few to say" in said[0]
  assert said[1] == "Round 2 is under way and counts for nothing yet."
  assert "at 3 nodes: too few to say whether predictions hold" in said[2]
  text = "\n".join(choices_text.as_text(few, str))
  assert "estimate better" not in text and "too little to tell" in text
  assert choices_text.rows_of_worths(few)[0][1] == "+0.20 (?)"
  assert choices_text.rows_of_concordance(few)[0][2:] == ("75% (?)", "75% (?)")
  apart = choices_text.sentences(_review(worths))
  assert "too few draws in common" in apart[0]


@pytest.mark.parametrize(
    "trusted, words",
    [(True, "beat one mean"), (False, "did not beat one mean")],
)
def test_predictions_are_judged_against_their_rival(trusted, words):
  *_, judged, bias = choices_text.sentences(_review({}, trusted=trusted))
  assert f"(of 12 nodes) {words}" in judged
  assert "+0.25 nats a node, standard error 0.10" in judged
  assert "+0.12 [+0.05, +0.25] more than predicted" in bias
  assert "held it in 95% [0%, 100%]" in bias


def test_rows_beside_each_other():
  found = _review({"uniform": _worth(-0.1, 0.0, 0.1)})
  assert choices_text.heads_of_turns(found) == (
      *("round", "rule", "draw 1", "draw 2", "odds of the draws made"),
  )
  assert choices_text.rows_of_turns(found, NAMES.get) == [
      ("2", "epistemic, drawn", "better", "grpo", "75.0%, 100.0%"),
      ("2", "uniform", "any of 2 (50.0% each)", "-", "50.0%, 100.0%"),
  ]
  assert choices_text.rows_of_forecasts(found, str)[0] == (
      *("2", "n0", "+0.25", "0.20", "-0.50", "0.10"),
  )
  assert choices_text.rows_of_coverage(found)[2] == ("95%", "95% [0%, 100%]")
  columns = choices_text.as_text(found, lambda node: NAMES.get(node, node))
  heads = next(line for line in columns if line.startswith("round  rule"))
  drawn = next(line for line in columns if "epistemic, drawn" in line)
  assert heads.index("draw 1") == drawn.index("better")


def test_other_programs_get_all_of_it():
  found = _review({"greedy": _worth(0.1, 0.2, 0.3)})
  told = json.loads(json.dumps(choices_text.as_json(found), allow_nan=False))
  assert told["worths"]["greedy"]["importance"]["regret"] == {
      "mean": 0.2,
      "low": 0.1,
      "high": 0.3,
  }
  assert told["worths"]["greedy"]["enough"] is True
  assert told["calibration"]["coverage"]["0.95"]["high"] == 1.0
  assert told["turns"][0]["favourites"]["greedy"][0]["nodes"] == ["r", "a"]
  assert told["sentences"] and "assumes" in told["methods"]


def test_nothing_chosen_yet():
  empty = review.Review("c", "", [], 0, {}, [], None, {}, {})
  assert choices_text.sentences(empty)[0] == "No parents have been chosen yet."
  assert choices_text.rows_of_turns(empty, str) == []
  assert choices_text.as_text(empty, str)
