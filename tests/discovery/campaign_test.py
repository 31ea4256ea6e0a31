"""Single steps of a search: entering, admitting, evaluating, once each."""

import dataclasses

import jax
import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import (
    artifact,
    findings,
    fingerprint,
    verification,
)
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery import admission
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import progress as progress_lib
from poise_jax.tasks import arithmetic

SEARCH = arithmetic.Split.SEARCH


class Noting(progress_lib.Silent):
  """Keeps what it is told."""

  def __init__(self):
    self.stages, self.steps, self.bests = [], 0, []

  def stage(self, candidate, stage):
    self.stages.append((candidate, stage))

  def advance(self, units):
    self.steps += units

  def best(self, candidate, interval):
    self.bests.append((candidate, interval.mean))


class TestEnter:
  config = {"seed": 1, "budget": "tiny", "weights": {"a": 0.5, "b": [1, 2]}}

  def test_the_same_configuration_is_the_same_campaign(self, opened):
    archive = opened("a")
    first = campaign_lib.enter(archive, "one", self.config)
    reordered = dict(reversed(self.config.items()))
    assert campaign_lib.enter(archive, "one", reordered) == first
    (stored,) = archive.campaigns()
    assert (stored.id, stored.name) == (first, "one")
    assert stored.config == self.config

  @pytest.mark.parametrize(
      ("change", "words"),
      [
          ({"seed": 2}, r"seed \(archive: 1, now: 2\);"),
          ({"more": 3}, r"more \(archive: None, now: 3\);"),
          (
              {"weights": {"a": 0.25, "b": [1, 2]}},
              r"weights.a \(archive: 0.5, now: 0.25\);",
          ),
      ],
      ids=["changed", "added", "nested"],
  )
  def test_another_configuration_of_that_name_is_refused(
      self, opened, change, words
  ):
    archive = opened("a")
    first = campaign_lib.enter(archive, "one", self.config)
    with pytest.raises(campaign_lib.ResumeError, match=words) as caught:
      campaign_lib.enter(archive, "one", self.config | change)
    assert "use another --workdir or --config.name" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [c.id for c in archive.campaigns()] == [first]
    other = campaign_lib.enter(archive, "two", self.config | change)
    assert other != first


@pytest.fixture
def progress():
  return Noting()


@pytest.fixture
def made(campaigns, progress):
  """Makes a campaign in the archive of this name."""
  return lambda name, workers=2: campaigns(
      name, progress=progress, workers=workers
  )


def _draft(name, source=None, parents=(), role="generated"):
  return admission.Draft(
      name=name,
      role=role,
      generation=0,
      parents=parents,
      source=source or catalog.source(name),
      mechanisms={"operator": "none"},
      rationale="to see",
  )


def test_an_admitted_draft_is_stored_with_its_program(made):
  campaign = made("a")
  assert campaign.candidates == [] and campaign.stored(0) is None
  root = campaign.admit(0, _draft("grpo", role="root"))
  child = campaign.admit(1, _draft("dapo", parents=(root.id,)))
  assert (root.id, child.id) == (f"{campaign.id}-000", f"{campaign.id}-001")
  assert root.accepted and root.findings == ()
  assert "f32[P,G,T]" in root.jaxpr and "\nreturn " in root.canonical
  assert len(root.canonical_sha256) == len(root.structure_sha256) == 64
  assert root.nearest[0]["words"].startswith("equals grpo ")
  assert [m["name"] for m in root.nearest][0] == "grpo"
  assert root.intrinsic["gradient_scale"] == pytest.approx(1.0, abs=1e-3)
  assert child.intrinsic["flops"] > 0 and child.intrinsic["bits"] > 0
  taken = fingerprint.from_bytes(root.fingerprint)
  assert fingerprint.distance(taken, fingerprint.from_bytes(child.fingerprint))
  assert root.artifact_sha256 == artifact.sha256(root.artifact)
  assert root.hparams == catalog.describe("grpo").defaults
  assert child.parents == (root.id,)
  assert campaign.candidates == [root, child] == made("a").candidates
  # The second time nothing is verified, not even looked at.
  assert campaign.admit(0, _draft("rloo")) == root


def test_a_refused_draft_is_stored_with_its_reason(made):
  campaign = made("a")
  refused = campaign.admit(0, _draft("bad", "import os"))
  assert not refused.accepted
  assert refused.artifact is None and refused.artifact_sha256 is None
  assert refused.hparams == {} and refused.source == "import os"
  assert refused.fingerprint is None and refused.canonical_sha256 is None
  assert refused.nearest == () and refused.intrinsic == {}
  assert refused.findings[0]["rule"] == "construct"
  assert made("a").stored(0) == refused


def test_a_twin_is_refused_but_another_constant_is_no_twin(made):
  campaign = made("a")
  source = catalog.source("grpo")
  campaign.admit(0, _draft("grpo"))
  twin = campaign.admit(1, _draft("copy", source + "\n# another text\n"))
  assert not twin.accepted and twin.artifact_sha256 is None
  assert twin.findings[-1]["rule"] == "twin"
  assert twin.findings[-1]["message"].endswith("same program as grpo")
  assert (twin.twin_of, twin.artifact) == (campaign.candidates[0].id, None)
  tuned = source.replace('"clip_eps_high": 0.2', '"clip_eps_high": 0.3')
  assert tuned != source
  assert campaign.admit(2, _draft("tuned", tuned)).accepted


def test_a_canary_need_not_learn_but_a_candidate_must(made):
  campaign = made("a")
  canary = campaign.admit(0, _draft("sign_flipped", role="canary"))
  assert canary.accepted
  generated = campaign.admit(1, _draft("other", catalog.source("sign_flipped")))
  assert not generated.accepted and generated.twin_of is None
  assert [f["rule"] for f in generated.findings] == ["bandit"]


def test_neutral_is_checked_against_the_first_parent(made):
  campaign = made("a")
  root = campaign.admit(0, _draft("grpo", role="root"))
  source = catalog.source("grpo").replace(
      "def init", 'NEUTRAL = {"kl_coef": 0.5}\n\n\ndef init', 1
  )
  child = campaign.admit(1, _draft("claim", source, (root.id,)))
  assert ("declared", "neutral") in [
      (f["level"], f["rule"]) for f in child.findings
  ]


def test_what_the_machine_could_not_tell_is_not_stored(made, monkeypatch):
  verdict = verification.Verdict(
      False,
      (findings.contract("machine", "too busy", "again"),),
      conclusive=False,
  )
  monkeypatch.setattr(verification, "verify", lambda *_, **__: verdict)
  campaign = made("a")
  with pytest.raises(jail_lib.JailError, match="too busy"):
    campaign.admit(0, _draft("grpo"))
  assert campaign.candidates == []


def test_half_a_surrogate_pair_is_stored_as_a_question_mark(made):
  refused = made("a").admit(0, _draft("odd", "x = '\ud800'"))
  assert refused.source == "x = '?'" and not refused.accepted


def test_a_loss_of_fixed_group_size_is_made_for_this_budget(made, tiny, wanted):
  # Pairs within a group: cannot be traced with a group of unknown size.
  source = """HPARAMS = {}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  pairs = jnp.reshape(batch.rewards, (-1, 2))
  best = jnp.max(pairs, axis=1, keepdims=True)
  score = jnp.reshape(pairs - best, jnp.shape(batch.rewards))
  values = -batch.logprobs * score[..., None]
  return aggregation.token_mean(values, batch.completion_mask), state, {}
"""
  campaign = made("a")
  candidate = campaign.admit(0, _draft("pairs", source))
  assert candidate.accepted, candidate.findings
  shapes = artifact.read(candidate.artifact).metadata.shapes
  assert shapes["G"] == tiny.train.group_size == 4
  campaign.measure(wanted([candidate], 1))
  (run,) = campaign.evaluations(candidate)
  assert run.outcome == "scored"


def test_every_accepted_candidate_gets_every_seed_once(
    made, progress, laboratory, tiny, wanted
):
  campaign = made("a")
  names = ("grpo", "dapo")
  accepted = [campaign.admit(i, _draft(name)) for i, name in enumerate(names)]
  refused = campaign.admit(2, _draft("bad", "import os"))
  campaign.measure(wanted([*accepted, refused], 2))
  for candidate in accepted:
    runs = campaign.evaluations(candidate)
    assert [run.seed for run in runs] == [0, 1]
    for run in runs:
      assert run.key == laboratory.key(candidate, SEARCH, run.seed)
      assert (run.budget, run.split) == ("tiny", "search")
      assert run.started_at <= run.finished_at
  assert campaign.evaluations(refused) == []
  assert progress.steps == 2 * 2 * tiny.train.steps
  # Seed by seed.
  trials = [c for c, stage in progress.stages if stage.startswith("train")]
  assert sorted(trials[:2]) == sorted(trials[2:]) == ["dapo", "grpo"]
  before = campaign.archive.digest(campaign.id)
  progress.stages.clear()
  made("a").measure(wanted([*accepted, refused], 2))
  assert progress.stages == []
  assert campaign.archive.digest(campaign.id) == before


def test_the_best_so_far_is_no_canary(made, progress, wanted):
  campaign = made("a", workers=1)
  planted = [
      campaign.admit(0, _draft("zero_gradient", role="canary")),
      campaign.admit(1, _draft("grpo", role="root")),
  ]
  campaign.measure(wanted(planted, 1))
  assert {name for name, _ in progress.bests} == {"grpo"}
  (run,) = campaign.evaluations(planted[1])
  assert progress.bests[-1] == ("grpo", run.metrics["overall"])


def test_a_diverged_trial_is_stored_and_counted_to_its_end(
    made, progress, laboratory, tiny, monkeypatch, wanted
):
  source = catalog.source("grpo").replace(
      "  return loss, state, metrics",
      # As it is in a run of two steps, and on no probe.
      "  second = (batch.step == 1) & (batch.progress == 0.5)\n"
      "  late = jnp.where(second, jnp.inf, 1.0)\n"
      "  return loss * late, state, metrics",
  )
  assert "late" in source
  campaign = made("a")
  candidate = campaign.admit(0, _draft("late", source))
  assert candidate.accepted, candidate.findings
  campaign.measure(wanted([candidate], 1))
  (run,) = campaign.evaluations(candidate)
  assert (run.outcome, run.metrics) == ("diverged", {})
  assert run.reason == "non-finite loss at step 1"
  assert progress.steps == tiny.train.steps
  assert progress.bests == []


@pytest.mark.parametrize("role", ["generated", "variant"])
def test_a_proposed_loss_that_cannot_be_run_has_diverged(
    made, progress, tiny, laboratory, monkeypatch, wanted, role
):
  def run(algorithm, split, seed, on_step):
    raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: at 0x7f0012")

  monkeypatch.setattr(laboratory, "run", run)
  campaign = made("a")
  candidate = campaign.admit(0, _draft("grpo", role=role))
  campaign.measure(wanted([candidate], 1))
  (run,) = campaign.evaluations(candidate)
  assert (run.outcome, run.metrics, run.curve) == ("diverged", {}, {})
  assert run.reason.endswith("size of training: JaxRuntimeError")
  assert progress.steps == tiny.train.steps


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("generated", "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
        ("root", "INVALID_ARGUMENT: of our own making"),
    ],
)
def test_a_fault_of_the_machine_or_of_ours_is_no_result(
    made, laboratory, monkeypatch, wanted, role, message
):
  def run(algorithm, split, seed, on_step):
    raise jax.errors.JaxRuntimeError(message)

  monkeypatch.setattr(laboratory, "run", run)
  campaign = made("a")
  candidate = campaign.admit(0, _draft("grpo", role=role))
  with pytest.raises(jax.errors.JaxRuntimeError, match=message[:16]):
    campaign.measure(wanted([candidate], 1))
  assert campaign.evaluations(candidate) == []


def test_a_conclusion_is_drawn_once(made):
  campaign = made("a")
  drawn = campaign.decide("plan", "trials", lambda: {"b": (1, 2), "a": 3})
  assert drawn == {"a": 3, "b": [1, 2]}
  again = made("a").decide("plan", "trials", lambda: pytest.fail("again"))
  assert again == drawn and list(again) == ["a", "b"]
  assert made("a").decide("plan", "cost", lambda: {"c": 4}) == {"c": 4}


def test_workers_do_not_change_what_is_stored(made, wanted):
  digests = set()
  for workers in (1, 3):
    campaign = made(f"workers{workers}", workers)
    names = ("grpo", "dapo")
    drafts = [campaign.admit(i, _draft(n)) for i, n in enumerate(names)]
    campaign.measure(wanted(drafts, 2))
    digests.add(campaign.archive.digest(campaign.id))
  assert len(digests) == 1


def test_notes_are_kept(made):
  campaign = made("a")
  root = campaign.admit(0, _draft("grpo"))
  assert campaign.noted() == set()
  campaign.note(root, "It stood.", {"overall": 1.0})
  assert made("a").noted() == {root.id}


def test_the_search_goes_on_with_what_a_resumed_one_would_read(made):
  draft = _draft("grpo")
  mechanisms = {"z": [1, 2], "a": {"y": 0.5, "b": (3,)}}
  draft = dataclasses.replace(draft, mechanisms=mechanisms)
  admitted = made("a").admit(0, draft)
  read = made("a").stored(0)
  # Equal to the order of keys and the kind of sequences.
  assert repr(admitted) == repr(read)
  assert list(admitted.mechanisms) == ["a", "z"]
