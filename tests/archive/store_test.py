import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from poise_jax.archive import records, store

LATER = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def archive(tmp_path):
  with store.Archive.open(tmp_path / "archive.db", create=True) as archive:
    yield archive


def fill(archive, make):
  """Stores a small campaign, in an order other than that of reading."""
  archive.add_campaign(make.campaign())
  for index in (0, 2, 1):
    archive.add_candidate(make.candidate(index))
  both = ("c0ffee-002", "c0ffee-001")
  archive.add_candidate(make.candidate(3, parents=both, artifact=None))
  for index, seed in ((2, 1), (0, 1), (2, 0), (0, 0)):
    archive.add_evaluation(make.evaluation(index, seed))
  for index in (2, 0):
    archive.add_reflection(make.reflection(index))
  for generation in (2, 1):
    archive.add_selection(make.selection(generation))
  archive.add_decision(make.decision("c0ffee-002", stage="plan"))
  for subject in ("c0ffee-002", "c0ffee-001"):
    archive.add_decision(make.decision(subject))


def test_records_come_back_as_they_were_in_order(archive, make):
  fill(archive, make)
  assert archive.campaigns() == [make.campaign()]
  assert archive.campaign("c0ffee") == make.campaign()
  both = ("c0ffee-002", "c0ffee-001")
  assert archive.candidates("c0ffee") == [
      *(make.candidate(index) for index in (0, 1, 2)),
      make.candidate(3, parents=both, artifact=None),
  ]
  assert archive.evaluations("c0ffee") == [
      make.evaluation(index, seed)
      for index, seed in ((0, 0), (0, 1), (2, 0), (2, 1))
  ]
  assert archive.evaluations("c0ffee", "c0ffee-002") == [
      make.evaluation(2, 0),
      make.evaluation(2, 1),
  ]
  assert archive.reflections("c0ffee") == [
      make.reflection(0),
      make.reflection(2),
  ]
  assert archive.selections("c0ffee") == [make.selection(1), make.selection(2)]
  confirmations = [make.decision("c0ffee-001"), make.decision("c0ffee-002")]
  assert archive.decisions("c0ffee", "confirmation") == confirmations
  second = archive.decision("c0ffee", "confirmation", "c0ffee-002")
  assert second == confirmations[1]
  assert archive.decision("c0ffee", "confirmation", "c0ffee-003") is None
  assert archive.decision("c0ffee", "sealed", "c0ffee-002") is None
  plan = make.decision("c0ffee-002", stage="plan")
  assert archive.decisions("c0ffee") == [*confirmations, plan]


def test_a_record_survives_reopening(tmp_path, make):
  path = tmp_path / "archive.db"
  with store.Archive.open(path, create=True) as archive:
    fill(archive, make)
    digest = archive.digest("c0ffee")
  with store.Archive.open(path, create=False) as archive:
    assert archive.candidates("c0ffee")[1] == make.candidate(1)
    assert archive.digest("c0ffee") == digest


def test_evaluations_of_one_seed_are_ordered_by_budget_and_split(archive, make):
  archive.add_campaign(make.campaign())
  archive.add_candidate(make.candidate(0))
  places = [("standard", "search"), ("quick", "search"), ("quick", "confirm")]
  for i, (budget, split) in enumerate(places):
    run = make.evaluation(0, id=str(i), budget=budget, split=split)
    archive.add_evaluation(run)
  found = archive.evaluations("c0ffee")
  assert [(run.budget, run.split) for run in found] == places[::-1]


def test_unknown_ids(archive, make):
  archive.add_campaign(make.campaign())
  assert archive.evaluation("nothing") is None
  assert archive.candidates("nothing") == []
  with pytest.raises(store.ArchiveError, match="nothing .*one of c0ffee"):
    archive.campaign("nothing")


def test_campaigns_are_kept_apart_oldest_first(archive, make):
  archive.add_campaign(make.campaign(id="late", created_at=LATER))
  fill(archive, make)
  archive.add_candidate(make.candidate(0, id="late-000", campaign_id="late"))
  archive.add_evaluation(
      make.evaluation(0, id="other", candidate_id="late-000")
  )
  assert [campaign.id for campaign in archive.campaigns()] == ["c0ffee", "late"]
  assert [c.id for c in archive.candidates("late")] == ["late-000"]
  assert [run.id for run in archive.evaluations("late")] == ["other"]
  assert archive.reflections("late") == []
  assert len(archive.evaluations("c0ffee")) == 4


def test_adding_again_changes_nothing(archive, make):
  fill(archive, make)
  digest = archive.digest("c0ffee")
  archive.add_campaign(make.campaign(created_at=LATER))
  archive.add_candidate(make.candidate(1, created_at=LATER))
  archive.add_evaluation(make.evaluation(2, 1, finished_at=LATER))
  archive.add_reflection(make.reflection(2, created_at=LATER))
  archive.add_selection(make.selection(1, created_at=LATER))
  archive.add_decision(make.decision("c0ffee-001", created_at=LATER))
  assert archive.digest("c0ffee") == digest
  assert archive.campaign("c0ffee").created_at == make.time
  assert len(archive.candidates("c0ffee")) == 4


def test_adding_something_else_under_an_id_is_refused(archive, make):
  fill(archive, make)
  digest = archive.digest("c0ffee")
  changed = [
      (archive.add_campaign, make.campaign(name="other")),
      (archive.add_candidate, make.candidate(1, rationale="other")),
      (archive.add_candidate, make.candidate(1, parents=())),
      (archive.add_candidate, make.candidate(1, artifact=b"other")),
      (archive.add_evaluation, make.evaluation(2, 1, metrics={})),
      (archive.add_reflection, make.reflection(2, text="other")),
      (archive.add_selection, make.selection(1, parents=())),
      (archive.add_decision, make.decision("c0ffee-001", data={})),
  ]
  for add, record in changed:
    with pytest.raises(
        store.ArchiveError, match="already stored with different content"
    ):
      add(record)
  assert archive.digest("c0ffee") == digest


def test_references_must_exist(archive, make):
  missing = "is not in .*: add it before what refers to it"
  with pytest.raises(store.ArchiveError, match=f"campaign c0ffee {missing}"):
    archive.add_candidate(make.candidate(0))
  with pytest.raises(store.ArchiveError, match=f"campaign c0ffee {missing}"):
    archive.add_decision(make.decision("any"))
  archive.add_campaign(make.campaign())
  for add, record in (
      (archive.add_candidate, make.candidate(1)),
      (archive.add_evaluation, make.evaluation(0)),
      (archive.add_reflection, make.reflection(0)),
      (archive.add_selection, make.selection(1)),
      (archive.add_selection, make.selection(1, parents=())),
  ):
    expected = f"candidate c0ffee-000 {missing}"
    with pytest.raises(store.ArchiveError, match=expected):
      add(record)
  assert archive.candidates("c0ffee") == []
  assert archive.selections("c0ffee") == []


def test_index_and_name_are_unique_in_a_campaign(archive, make):
  fill(archive, make)
  for record in (
      make.candidate(1, id="c0ffee-009", name="new"),
      make.candidate(9, name="algorithm_1"),
  ):
    with pytest.raises(store.ArchiveError, match="repeats the index or name"):
      archive.add_candidate(record)
  twice = ("c0ffee-000", "c0ffee-000")
  with pytest.raises(store.ArchiveError, match="or a parent"):
    archive.add_candidate(make.candidate(9, parents=twice))
  assert len(archive.candidates("c0ffee")) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_values_that_json_lacks_are_refused(archive, make, value):
  archive.add_campaign(make.campaign())
  archive.add_candidate(make.candidate(0))
  with pytest.raises(store.ArchiveError, match="e-0-0 cannot be stored"):
    archive.add_evaluation(make.evaluation(0, key={"overall": value}))
  with pytest.raises(store.ArchiveError, match="campaign x cannot be stored"):
    archive.add_campaign(make.campaign(id="x", config={"a": [value]}))
  assert archive.evaluations("c0ffee") == []


def test_a_time_without_zone_is_refused(archive, make):
  time = datetime.datetime(2026, 1, 1)
  with pytest.raises(store.ArchiveError, match="has no zone"):
    archive.add_campaign(make.campaign(created_at=time))


def test_text_that_utf8_lacks_is_refused(archive, make):
  with pytest.raises(store.ArchiveError, match="surrogates"):
    archive.add_campaign(make.campaign(name="\ud800"))


def test_what_is_known_without_training_is_kept(archive, make):
  archive.add_campaign(make.campaign())
  root = make.candidate(
      0,
      jaxpr="{ lambda ; }",
      canonical="return a",
      canonical_sha256="1" * 64,
      structure_sha256="2" * 64,
      fingerprint=b"\x00\xff",
      intrinsic={"flops": 12.0, "bits": 3, "gradient_variance": None},
      nearest=({"name": "grpo", "words": "equals grpo", "distance": 0.0},),
  )
  twin = make.candidate(1, twin_of=root.id, accepted=False)
  with pytest.raises(store.ArchiveError, match="candidate c0ffee-000"):
    archive.add_candidate(make.candidate(1, parents=(), twin_of=root.id))
  archive.add_candidate(root)
  archive.add_candidate(twin)
  assert archive.candidates("c0ffee") == [root, twin]
  assert store.content(root)["fingerprint"] == records.sha256(b"\x00\xff")


def test_content_leaves_out_clocks_and_artifact_bytes(make):
  content = store.content(make.candidate(1))
  names = {field.name for field in dataclasses.fields(records.Candidate)}
  assert set(content) == names - {"created_at"}
  # SHA-256 of the bytes 00 ff 01, by hashlib alone.
  assert content["artifact"] == (
      "47ffa3ea45a70b8a41c2c0825df323c00a8b7a01c1ea06083cc41dddcc001123"
  )


def test_digest_depends_on_every_record_and_on_no_clock(tmp_path, make):
  def digest(name, change=lambda archive: None, when=make.time):
    make.time = when
    with store.Archive.open(tmp_path / name, create=True) as archive:
      fill(archive, make)
      change(archive)
      return archive.digest("c0ffee")

  base = digest("base")
  assert digest("same") == base
  others = [
      digest("1", lambda a: a.add_candidate(make.candidate(4))),
      digest("2", lambda a: a.add_evaluation(make.evaluation(1))),
      digest("3", lambda a: a.add_reflection(make.reflection(1))),
      digest("4", lambda a: a.add_selection(make.selection(3))),
      digest("5", lambda a: a.add_decision(make.decision("new"))),
  ]
  assert len({base, *others}) == 6


WRITER = """
import datetime, sys
from poise_jax.archive import records, store
time = records.now()
archive = store.Archive.open(sys.argv[1], create=True)
archive.add_campaign(records.Campaign("c", "c", {}, time))
archive.add_candidate(records.Candidate(
    "c-000", "c", 0, "root", "root", 0, (), "s", "h", {}, "", True, (),
    b"a" * 5000, "h", {}, time))
for seed in range(100_000):
  archive.add_evaluation(records.Evaluation(
      str(seed), "c-000", {"seed": seed}, seed, "quick", "search", "scored",
      "", {"overall": seed / 7}, {"reward": [0.5] * 200}, time, time))
  print(seed, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 40])
def test_what_was_acknowledged_survives_kill_9(tmp_path, acknowledged):
  path = tmp_path / "archive.db"
  with subprocess.Popen(
      [sys.executable, "-c", textwrap.dedent(WRITER), str(path)],
      stdout=subprocess.PIPE,
      text=True,
  ) as child:
    seen = [int(child.stdout.readline()) for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    seen += [int(line) for line in child.stdout if line.endswith("\n")]
  for create in (False, True):
    with store.Archive.open(path, create=create) as archive:
      found = {run.seed: run for run in archive.evaluations("c")}
      # The one being written may be there or not.
      assert set(seen) <= set(found) <= {*seen, seen[-1] + 1}
      assert found[seen[-1]].metrics == {"overall": seen[-1] / 7}
      assert archive.candidates("c")[0].artifact == b"a" * 5000


def test_readers_see_whole_records_while_a_writer_writes(archive, make):
  archive.add_campaign(make.campaign())
  archive.add_candidate(make.candidate(0))
  counts, errors = [], []

  def read():
    try:
      while not counts or counts[-1] < 60:
        counts.append(len(archive.evaluations("c0ffee")))
        archive.digest("c0ffee")
    except Exception as error:  # An exception in a thread is lost otherwise.
      errors.append(error)

  readers = [threading.Thread(target=read) for _ in range(2)]
  for reader in readers:
    reader.start()
  for seed in range(60):
    archive.add_evaluation(make.evaluation(0, seed))
  for reader in readers:
    reader.join(timeout=30)
    assert not reader.is_alive()
  assert not errors
  assert counts[-1] == 60


def test_two_writers_of_the_same_records_agree(tmp_path, make):
  path = tmp_path / "archive.db"
  errors = []

  def write():
    try:
      with store.Archive.open(path, create=True) as archive:
        fill(archive, make)
    except Exception as error:
      errors.append(error)

  writers = [threading.Thread(target=write) for _ in range(3)]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
  assert not errors
  with store.Archive.open(path, create=False) as archive:
    assert len(archive.evaluations("c0ffee")) == 4
