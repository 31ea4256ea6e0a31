"""Reviews of campaigns made by hand, with choices as the search makes them."""

import dataclasses
import datetime

import numpy as np
import pytest

from poise_jax.archive import records, store
from poise_jax.discovery import leaderboard
from poise_jax.discovery.parents import (
    acquisition,
    nodes,
    policies,
    replay,
    review,
    rules,
)

TIME = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
WEIGHTS = acquisition.Weights(uniform_share=0.5)


def fill(archive, make, rounds, rule="epistemic"):
  """Grows a campaign of two parents and two children a round."""
  rng = np.random.default_rng(5)
  config = {
      "budget": "quick",
      "parents": 2,
      "children": 2,
      "weights": dataclasses.asdict(WEIGHTS),
  }
  archive.add_campaign(make.campaign(config=config))
  tree = [nodes.Node("c0ffee-000", (), 50.0, 1, {})]

  def enter(index, overall, **fields):
    archive.add_candidate(make.candidate(index, f"loss {index}", **fields))
    archive.add_evaluation(make.evaluation(index, 0, overall))
    note = records.Reflection(f"c0ffee-{index:03d}", "It ran.", {}, TIME)
    archive.add_reflection(note)

  enter(0, 50.0, role="root", generation=0)
  for generation in range(1, rounds + 1):
    choice = rules.named(rule)(
        tree,
        count=2,
        weights=WEIGHTS,
        rng=np.random.default_rng([3, generation]),
    )
    archive.add_decision(
        records.Decision(
            "c0ffee", "selection", f"round {generation:03d}", choice.log, TIME
        )
    )
    archive.add_selection(
        records.Selection(
            "c0ffee", generation, choice.parents, choice.terms, TIME
        )
    )
    for i in range(2):
      index = 2 * generation - 1 + i
      above = int(choice.parents[i % len(choice.parents)][-3:])
      overall = tree[above].overall + float(rng.normal(0.0, 3.0))
      enter(index, overall, parents=(above,), generation=generation)
      made = f"c0ffee-{index:03d}"
      tree.append(nodes.Node(made, (f"c0ffee-{above:03d}",), overall, 1, {}))
  return archive


@pytest.fixture
def grown(tmp_path, make):
  """Makes such a campaign in an archive of its own."""
  opened = []

  def grow(rounds, rule="epistemic"):
    path = tmp_path / f"{rounds}-{rule}.db"
    archive = store.Archive.open(path, create=True)
    opened.append(archive)
    return fill(archive, make, rounds, rule)

  yield grow
  for archive in opened:
    archive.close()


def _review(archive, asked=(), **changes):
  read = {
      "selections": archive.selections("c0ffee"),
      "decisions": archive.decisions("c0ffee"),
      "reflections": archive.reflections("c0ffee"),
  }
  campaign = archive.campaign("c0ffee")
  runs = leaderboard.counted(campaign, archive.evaluations("c0ffee"))
  return review.of(
      campaign,
      archive.candidates("c0ffee"),
      runs,
      asked=asked,
      **(read | changes),
  )


def test_each_round_is_told_beside_what_others_would_have_drawn(grown):
  archive = grown(4)
  found = _review(archive)
  assert found.rule == "epistemic"
  assert list(found.worths) == ["greedy", "uniform", "best_of_n"]
  stored = archive.selections("c0ffee")
  assert [turn.nodes for turn in found.turns] == [1, 3, 5, 7]
  for turn, selection in zip(found.turns, stored, strict=True):
    assert turn.chosen == selection.parents
    assert turn.odds == tuple(
        selection.terms[node][f"propensity_{i + 1}"]
        for i, node in enumerate(selection.parents)
    )
    ranked = sorted(
        selection.terms, key=lambda node: -selection.terms[node]["shrunken"]
    )
    greedy = turn.favourites["greedy"]
    assert [best.nodes for best in greedy] == [(n,) for n in ranked[:2]]
  # Half of the odds is even: over 7, then over the 6 that are left.
  odds = [best.odds for best in found.turns[3].favourites["greedy"]]
  assert odds == pytest.approx([0.5 + 0.5 / 7, 0.5 + 0.5 / 6])
  first = found.turns[3].favourites["uniform"][0]
  assert (len(first.nodes), first.odds) == (7, pytest.approx(1 / 7))
  (only,) = found.turns[3].favourites["best_of_n"]
  assert only == (("c0ffee-000",), 1.0)
  assert found.turns[3].others["uniform"] == pytest.approx((1 / 7, 1 / 6))


def test_the_rule_in_charge_gains_nothing_over_itself(grown):
  worth = _review(grown(4), ["epistemic"]).worths["epistemic"]
  for estimate in worth[:4]:
    assert estimate.regret == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
  # Five draws of the first round with a choice on, and one of the first.
  assert worth.importance.support == pytest.approx(6.0)
  assert worth.beyond == 0.0


def test_few_rounds_are_too_few(grown):
  few = _review(grown(4), ["epistemic", "uniform"])
  assert few.choices == 3
  assert not any(worth.enough for worth in few.worths.values())
  many = _review(grown(13), ["epistemic", "best_of_n"])
  assert many.choices == 12 >= review.LEAST_ROUNDS
  assert many.worths["epistemic"].enough
  # One draw in ten is of the root.
  assert many.worths["best_of_n"].importance.support < review.LEAST_DRAWS
  assert not many.worths["best_of_n"].enough
  assert many.calibration.nodes >= review.LEAST_NODES
  assert set(many.concordance) == {
      *("pareto", "performance", "diversity", "potential"),
      *("gp_mean", "score"),
  }


def test_a_round_under_way_counts_for_nothing(grown):
  archive = grown(4)
  noted = archive.reflections("c0ffee")[:-1]
  running = _review(archive, reflections=noted)
  assert [turn.finished for turn in running.turns] == [True] * 3 + [False]
  assert running.choices == 2
  assert {told.generation for told in running.forecasts} <= {2, 3}
  race = records.Decision("c0ffee", "race", "c0ffee-001", {}, TIME)
  decisions = [*archive.decisions("c0ffee"), race]
  over = _review(archive, reflections=noted, decisions=decisions)
  assert over.choices == 3


def test_what_the_logged_rule_could_not_draw_is_said(grown):
  found = _review(grown(3, "best_of_n"), ["uniform", "greedy"])
  assert found.rule == "best_of_n"
  # It draws the root once: of 3, then of 5 nodes.
  uniform = found.worths["uniform"]
  assert uniform.beyond == pytest.approx((2 / 3 + 4 / 5) / 2)
  # Weights of 1/3 and 1/5.
  assert uniform.importance.support == pytest.approx(32 / 17)


def test_only_what_was_stored_can_be_reviewed(grown):
  archive = grown(2)
  with pytest.raises(ValueError, match="`rule` must be one of .*'gredy'"):
    _review(archive, ["gredy"])
  stranger = dataclasses.replace(
      archive.selections("c0ffee")[0], terms={"elsewhere": {"score": 1.0}}
  )
  with pytest.raises(ValueError, match="round 1 has .*elsewhere"):
    _review(archive, selections=[stranger])
  assert _review(archive, selections=[]).turns == []


def test_names():
  everything = review.names(["all"], "epistemic")
  assert everything == [*replay.alternatives(acquisition.Weights())]
  assert review.names(["greedy", "greedy"], "greedy") == ["greedy"]
  assert review.names([], "uniform") == ["epistemic", "greedy", "best_of_n"]


def test_favourites_stop_where_the_rule_does():
  terms = {"shrunken": np.asarray([1.0, 3.0, 2.0])}
  table = acquisition.Table(("a", "b", "c"), ("a", "b", "c"), 0, terms)
  likely = review.favourites(table, WEIGHTS, policies.greedy, 5)
  assert [best.nodes for best in likely] == [("b",), ("c",), ("a",)]
  root = review.favourites(table, WEIGHTS, policies.best_of_n, 5)
  assert root == ((("a",), 1.0),)
