import dataclasses
import datetime
import json
import math

import pytest

from poise_jax.archive import records
from poise_jax.discovery import reflection, yardstick
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.proposer import genome as genomes

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
GRPO = {"genome": genomes.to_json(genomes.named("grpo"))}
DAPO = {
    "genome": genomes.to_json(genomes.named("dapo")),
    "operator": "mutate",
    "prediction": {"overall": 1, "entropy": 1},
}


def _run(
    seed,
    overall,
    *,
    entropy=0.3,
    length=20.0,
    valid=0.9,
    outcome=None,
    budget="standard",
):
  diverged = outcome is not None
  metrics = {
      "overall": float(overall),
      "pass_at_k/products4": overall / 100,
      "accuracy/sums2": overall / 100 + 0.1,
      "valid_rate": valid,
      "response_length": length,
  }
  return records.Evaluation(
      id=f"e{seed}-{overall}",
      candidate_id="c",
      key={},
      seed=seed,
      budget=budget,
      split="search",
      outcome="diverged" if diverged else "scored",
      reason=outcome or "",
      metrics={} if diverged else metrics,
      curve={"entropy": [0.7, 0.6, 0.5, entropy], "reward": [0.1, 0.2]},
      started_at=WHEN,
      finished_at=WHEN,
  )


def _evidence(name, overalls, mechanisms=None, **fields):
  runs = [_run(seed, x, **fields) for seed, x in enumerate(overalls)]
  return reflection.Evidence(f"id-{name}", name, mechanisms, runs)


ROOT = _evidence("grpo", [60.0, 61.0, 62.0, 63.0], GRPO)


def test_difference_with_interval_by_hand():
  # Differences 2, 4, 3, 3: mean 3, sd sqrt(2/3), t_3 = 3.182446:
  # half width 3.182446 * 0.816497 / 2 = 1.299228.
  child = _evidence("dapo", [62.0, 65.0, 65.0, 66.0], DAPO, entropy=0.4)
  text, data = reflection.reflect(child, ROOT, ROOT)
  own = data["versus"]["id-grpo"]
  assert own["mean"] == 3 and own["seeds"] == 4
  assert own["low"] == pytest.approx(3 - 1.299228, abs=1e-4)
  assert own["high"] == pytest.approx(3 + 1.299228, abs=1e-4)
  assert "Overall against grpo: +3.00 [+1.70, +4.30] over 4 common" in text
  assert "clip from symmetric to clip_higher" in text
  assert "products4 +3.0" in text and "sums2 +3.0" in text
  assert "entropy 0.300 to 0.400" in text
  assert data["suggestion"] == "keep" and "keep" in text
  assert data["prediction"] == {"overall": "confirmed", "entropy": "confirmed"}
  assert data["sets"]["accuracy/sums2"]["mean"] == pytest.approx(3.0)


def test_one_or_two_seeds_make_no_claim():
  for count in (1, 2):
    child = _evidence("dapo", [90.0, 91.0][:count], DAPO)
    text, data = reflection.reflect(child, ROOT, ROOT)
    assert "no claim" in text
    assert data["suggestion"] == "undecided"
    assert data["prediction"]["overall"] == "open, points the predicted way"
    assert data["prediction"]["entropy"] == "open, did not move"
  # Even where a prior gives an interval.
  text, data = reflection.reflect(
      child, ROOT, ROOT, prior_variance=1.0, prior_dof=30.0
  )
  assert data["versus"]["id-grpo"]["low"] > 0
  assert data["suggestion"] == "undecided" and "no claim" in text


def test_worse_is_dropped_and_contradicts():
  child = _evidence("dapo", [50.0, 51.5, 52.0, 53.0], DAPO)
  _, data = reflection.reflect(child, ROOT, ROOT)
  assert data["suggestion"] == "drop"
  assert data["prediction"]["overall"] == "contradicted"


def test_prior_widens_an_agreement_by_chance():
  child = _evidence("dapo", [63.0, 64.0, 65.0], DAPO)
  _, alone = reflection.reflect(child, ROOT, ROOT)
  _, moderated = reflection.reflect(
      child, ROOT, ROOT, prior_variance=16.0, prior_dof=20.0
  )
  assert alone["suggestion"] == "keep"  # three differences of exactly 3
  # s² = 20 * 16 / 22, t_22 = 2.073873: half width 4.5666.
  half = 2.073873 * math.sqrt(20 * 16 / 22 / 3)
  assert moderated["versus"]["id-grpo"]["low"] == pytest.approx(
      3 - half, abs=1e-3
  )
  assert moderated["suggestion"] == "undecided"


def test_only_common_seeds_of_one_budget_count():
  runs = [_run(0, 70.0), _run(1, 71.0), _run(9, 99.0)]
  child = reflection.Evidence("id-x", "x", None, runs)
  text, data = reflection.reflect(child, ROOT, ROOT)
  assert data["seeds"] == [0, 1]
  assert data["versus"]["id-grpo"]["mean"] == 10
  assert data["changed"] is None and "no description of both" in text


def test_the_preferred_budget_goes_before_more_seeds():
  cheap = [_run(s, 50.0, budget="quarter") for s in range(4)]
  parent = reflection.Evidence("id-grpo", "grpo", GRPO, [*cheap, _run(0, 60.0)])
  child = reflection.Evidence("id-x", "x", None, [*cheap, _run(0, 61.0)])
  _, data = reflection.reflect(child, parent, parent, prefer="standard")
  assert (data["budget"], data["seeds"]) == ("standard", [0])
  assert data["versus"]["id-grpo"]["mean"] == 1.0
  _, data = reflection.reflect(child, parent, parent)
  assert (data["budget"], data["seeds"]) == ("quarter", [0, 1, 2, 3])
  assert data["versus"]["id-grpo"]["mean"] == 0.0


def test_parent_and_root_are_both_compared():
  parent = _evidence("dapo", [64.0, 65.0, 66.0], DAPO)
  child = _evidence("x", [63.0, 64.0, 65.5], GRPO)
  text, data = reflection.reflect(child, parent, ROOT)
  assert data["versus"]["id-dapo"]["mean"] == pytest.approx(-2.5 / 3, abs=1e-4)
  assert data["versus"]["id-grpo"]["mean"] == pytest.approx(9.5 / 3, abs=1e-4)
  assert text.index("against dapo:") < text.index("Overall against grpo:")


def test_divergence_is_reflected_on():
  runs = [_run(0, 0, outcome="non-finite loss at step 3")]
  child = reflection.Evidence("id-x", "x", DAPO, runs)
  text, data = reflection.reflect(child, ROOT, ROOT)
  assert data["suggestion"] == "drop"
  assert "1 of 1 run diverged: non-finite loss at step 3." in text
  assert "drop as unstable" in text
  assert data["prediction"]["overall"] == "not measured"


def test_root_is_its_own_reference():
  text, data = reflection.reflect(ROOT, None, ROOT)
  assert data["suggestion"] == "keep" and data["versus"] == {}
  assert text.startswith("grpo is the root")
  assert "Overall 61.50 in 4 runs" in text


def test_data_is_json_and_text_is_repeatable():
  child = _evidence("dapo", [62.0, 65.0], DAPO, valid=0.7, length=30.0)
  first = reflection.reflect(child, ROOT, ROOT)
  records.canonical_json(first[1])
  assert first == reflection.reflect(child, ROOT, ROOT)
  assert "rambling" in first[1]["readings"]
  assert "longer and fewer could be parsed" in first[0]


def test_rejection_names_the_fault():
  finding = {
      "level": "contract",
      "rule": "no-import",
      "message": "line 3 imports os.",
      "hint": "Use what is in scope.",
  }
  text, data = reflection.reflect_rejected([finding])
  assert "[no-import] line 3 imports os. Use what is in scope." in text
  assert json.dumps(data) == '{"suggestion": "drop", "rules": ["no-import"]}'
  empty, _ = reflection.reflect_rejected([])
  assert "No reason was recorded" in empty


def test_a_break_down_on_a_cheap_rung_is_named_and_drops():
  smoke = dataclasses.replace(_run(0, 0.0, budget="smoke"), metrics={})
  reason = "non-finite loss at step 3"
  lost = _run(0, 0, outcome=reason, budget="quarter")
  child = reflection.Evidence("id-x", "x", DAPO, [smoke, lost])
  parent = reflection.Evidence("id-grpo", "grpo", GRPO, [smoke, _run(0, 60.0)])
  text, data = reflection.reflect(child, parent, parent, prefer="standard")
  assert f"1 of 2 runs diverged: {reason} (quarter budget)." in text
  assert "Signals (smoke budget), from parent to child:" in text
  assert data["suggestion"] == "drop" and data["diverged"] == [reason]
  assert text.endswith("Suggestion: drop as unstable.")


def test_a_collapse_is_a_break_down_but_for_the_root():
  """As in the race, which drops it at once whatever it scored."""
  far = {"kl": [0.1, 5.0, 5.0, 5.0]}
  runs = [_run(seed, x) for seed, x in enumerate((64.0, 65.0, 66.0))]
  runs[2] = dataclasses.replace(runs[2], curve=far)
  child = reflection.Evidence("id-x", "x", DAPO, runs)
  text, data = reflection.reflect(child, ROOT, ROOT)
  assert "1 of 3 runs broke down: KL of 5 nats a token, above 3." in text
  assert data["suggestion"] == "drop" and "drop as unstable" in text
  text, data = reflection.reflect(child, None, child)
  assert data["suggestion"] == "keep" and "broke down" not in text


@pytest.fixture
def shorter(make):
  """Shorter without losing accuracy: two tokens are worth a point."""
  objective = objectives.Objective(
      (objectives.Term("response_length", "min"),),
      (objectives.Constraint("overall", ">=", 1.0, relative=True),),
  )
  root = {"overall": 61.5, "response_length": 20.0}
  worth = worths.Worth(objective, root, {"response_length": 2.0})
  return yardstick.Yardstick(worth, {"c": make.candidate(0, "c")})


def test_what_counts_is_the_objective(shorter):
  same = (60.0, 61.0, 62.0, 63.0)
  child = _evidence("x", same, DAPO, length=12.0)
  assert reflection.reflect(child, ROOT, ROOT)[1]["suggestion"] == "undecided"
  text, data = reflection.reflect(child, ROOT, ROOT, yardstick=shorter)
  assert data["suggestion"] == "keep"
  # 40 % shorter: 8 tokens are 4 points. Overall is told beside it.
  assert data["objective"]["versus"]["id-grpo"]["mean"] == 4.0
  assert data["versus"]["id-grpo"]["mean"] == 0.0
  for said in (
      "Wanted: lower response_length (weight 1); keep overall >= 1 x root.",
      "Objective against grpo: +4.00 [+4.00, +4.00] over 4 common seeds"
      " (standard budget, search split), Overall +0.00 [+0.00, +0.00].",
      "overall >= 1 x root by +0.00 [+0.00, +0.00] with a margin of 1.23"
      " (kept).",
  ):
    assert said in text
  longer = _evidence("x", [x + 2 for x in same], DAPO, length=24.0)
  assert reflection.reflect(longer, ROOT, ROOT)[1]["suggestion"] == "keep"
  _, data = reflection.reflect(longer, ROOT, ROOT, yardstick=shorter)
  assert data["suggestion"] == "drop"
  assert data["objective"]["versus"]["id-grpo"]["mean"] == -2.0
  records.canonical_json(data)


@pytest.mark.parametrize(
    ("losses", "expected", "standing"),
    [
        ((5, 5, 5, 5), "drop", "missed"),
        ((4, 0, 4, 0), "undecided", "open"),  # -2 on average, of 1.23
        ((2, 0, 2, 0), "keep", "open"),
    ],
)
def test_a_limit_that_is_missed_is_no_gain(shorter, losses, expected, standing):
  scores = [60.0 + seed - loss for seed, loss in enumerate(losses)]
  child = _evidence("x", scores, DAPO, length=2.0)
  text, data = reflection.reflect(child, ROOT, ROOT, yardstick=shorter)
  assert data["suggestion"] == expected
  (limit,) = data["objective"]["limits"].values()
  assert limit["standing"] == standing and limit["margin"] == 1.23
  open_limit = "open is whether it keeps overall >= 1 x root" in text
  assert open_limit == (expected == "keep")


def test_a_parent_that_misses_a_limit_is_no_yardstick(shorter):
  parent = _evidence("parent", (50.0, 51.0, 52.0, 53.0), DAPO, length=4.0)
  child = _evidence("x", (60.0, 61.0, 62.0, 63.0), GRPO, length=12.0)
  text, data = reflection.reflect(child, parent, ROOT, yardstick=shorter)
  assert data["objective"]["versus"]["id-parent"]["mean"] == -4.0
  assert data["objective"]["judged_against"] == "id-grpo"
  assert data["suggestion"] == "keep"
  assert "parent misses a limit itself" in text
