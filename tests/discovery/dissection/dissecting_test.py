"""A winner with a planted inert term, taken apart by real trials."""

import pytest

from poise_jax.discovery import admission
from poise_jax.discovery.dissection import dissecting, explanation
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering

# GRPO with a bonus for entropy, and a term that has no gradient.
PLANTED = """\
HPARAMS = {"bonus": 0.05, "unread": 1.0}
NEUTRAL = {"bonus": 0.0}


def init(hparams):
  return {}


def loss(hparams, state, batch):
  mask = batch.completion_mask
  advantage = advantages.group_normalized(batch.rewards, epsilon=1e-6)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  tokens = surrogates.clipped(
      ratio, advantage, clip_eps_low=0.2, clip_eps_high=0.2
  )
  tokens -= hparams["bonus"] * batch.entropy
  # Moves no policy.
  tokens += jnp.mean(batch.lengths)
  return aggregation.token_mean(tokens, mask), state, {}
"""
SCORE = lambda candidate, run: run.metrics["overall"]


def _rendered(genome, name):
  return rendering.render(
      genome,
      name=name,
      parents=(),
      rationale="r",
      prediction="p",
      falsifier="f",
  )


@pytest.fixture
def admitted():
  """Admits GRPO as the root, and a winner."""

  def admitted(campaign, source, genome=None):
    root = genomes.named("grpo")
    drafts = [
        ("grpo", "root", _rendered(root, "grpo"), root),
        ("winner", "generated", source, genome),
    ]
    made = [
        campaign.admit(
            index,
            admission.Draft(
                name=name,
                role=role,
                generation=index,
                parents=(),
                source=text,
                mechanisms={"genome": genomes.to_json(own)} if own else {},
                rationale="r",
            ),
        )
        for index, (name, role, text, own) in enumerate(drafts)
    ]
    assert all(candidate.accepted for candidate in made)
    return made[1]

  return admitted


def _plan(**changes):
  values = dict(budget="tiny", pairs=4, effect_pairs=2, ablation_trials=48)
  return explanation.Plan(**(values | changes))


def _means(campaign, **changes):
  return explanation.Means(campaign, SCORE, _plan(**changes))


def test_a_planted_inert_term_goes_and_what_acts_is_judged(campaigns, admitted):
  campaign = campaigns()
  winner = admitted(campaign, PLANTED)
  # Two steps differ by far less than the margin: the bonus is not needed.
  found = dissecting.dissect(_means(campaign, margin=1000.0), winner, 2)
  effects = {e["words"]: e for e in found["effects"]}
  (inert,) = (e for w, e in effects.items() if w.endswith(
      "without `tokens += jnp.mean(batch.lengths)`"
  ))  # fmt: skip
  assert (inert["status"], inert["kept"]) == ("idle", False)
  bonus = effects["bonus = 0.05 instead of 0"]
  assert (bonus["status"], bonus["kept"]) == ("unsupported", False)
  assert bonus["on_winner"]["low"] < bonus["on_winner"]["high"]
  assert "batch.lengths" not in found["core"]
  assert "unread" not in found["core"]
  assert found["margin"] == 1000.0
  assert found["sentences"][0].startswith(
      "Taken apart at budget tiny, base embedded: a part goes if the loss"
      " without it is shown to be below 1e+03 points, which 4 pairs can show"
  )
  assert found["confirmed"]["verdict"] == "not worse"
  assert len(found["confirmed"]["differences"]) == 4
  core = next(c for c in campaign.candidates if c.id == found["core_id"])
  assert core.source == found["core"]
  # All that was looked at is kept, and told from what the search measured.
  variants = campaign.candidates[2:]
  assert found["variants"] == len(variants) > 3
  assert {v.role for v in variants} == {"variant"}
  assert [v.index for v in variants] == list(range(2, 2 + len(variants)))
  runs = campaign.archive.evaluations(campaign.id)
  assert {run.budget for run in runs} == {"explain:tiny"}
  assert {(run.split, run.seed < 2100) for run in runs} == {
      ("search", True),
      ("confirm", False),
  }
  assert campaign.at_home(winner) == []
  assert found["trainings"] <= len(runs) <= 48


@pytest.mark.slow
def test_where_nothing_may_be_lost_only_what_is_idle_goes(campaigns, admitted):
  campaign = campaigns()
  winner = admitted(campaign, PLANTED)
  found = dissecting.dissect(_means(campaign, margin=1e-6), winner, 2)
  assert "batch.lengths" not in found["core"]
  assert 'hparams["bonus"] * batch.entropy' in found["core"]
  assert "Moves no policy" not in found["core"]
  # It is proven to train as the winner does, so nothing had to confirm that.
  assert found["confirmed"] is None


def test_mechanisms_are_set_back_to_those_of_the_root(campaigns, admitted):
  campaign = campaigns()
  root = genomes.named("grpo")
  child = genomes.edited(root, {"scale": "none"})
  winner = admitted(campaign, _rendered(child, "winner"), child)
  means = _means(campaign, margin=1000.0, effect_pairs=0)
  found = dissecting.dissect(means, winner, 2)
  (effect,) = found["effects"]
  assert (effect["kind"], effect["name"]) == ("mechanism", "scale")
  # It is not needed, which leaves the root.
  assert found["reduced"].splitlines()[-20:] == (
      campaign.candidates[0].source.splitlines()[-20:]
  )
  assert found["trainings"] == 16


def test_the_gate_is_asked_no_more_often_than_planned(campaigns, admitted):
  campaign = campaigns()
  winner = admitted(campaign, PLANTED)
  means = _means(campaign, max_variants=1, ablation_trials=1)
  found = dissecting.dissect(means, winner, 2)
  assert found["variants"] == 1
  assert len(campaign.candidates) == 3
  reasons = {trial["reason"] for trial in found["trials"]}
  assert "1 programs were examined already" in reasons


def test_variants_must_have_room(campaigns, admitted):
  campaign = campaigns()
  winner = admitted(campaign, PLANTED)
  with pytest.raises(ValueError, match="`first` must leave room for the var"):
    dissecting.dissect(_means(campaign), winner, 1)
