"""Stored completions with wrong verdicts, graded again by real processes."""

import pytest

from poise_jax.evaluation import measures, provenance, regrading, results
from poise_jax.tasks import grading_pool


@pytest.fixture(scope="module")
def pool():
  with grading_pool.GradingPool(1, seconds=20.0) as pool:
    yield pool


def _completion(stored, text, correct, answer, valid=True):
  return stored.completion(correct, text, answer=answer, format_valid=valid)


@pytest.fixture
def old(stored):
  """One verdict is right, one is wrong, one was not made in time."""
  right = _completion(stored, r"\boxed{8/2}", True, "8/2")
  missed = _completion(stored, r"\boxed{\frac{16}{4}}", False, r"\frac{16}{4}")
  late = _completion(stored, r"\boxed{x+4-x}", False, "x+4-x")
  late = late._replace(timed_out=True)
  records = [
      stored.record(0, 0, completions=(right, missed)),
      stored.record(1, 0, completions=(late, right)),
  ]
  return {"AMC": stored.results([0, 0], samples=2, records=records)}


def test_verdicts_change_and_completions_do_not(old, pool, tmp_path):
  told = []
  found = regrading.regrade(old, tmp_path, pool, lambda *x: told.append(x))
  assert told == [("AMC", 4, True)]
  assert [(c.id, c.sample) for c in found["AMC"]] == [
      ("set/0", 1),
      ("set/1", 0),
  ]
  new = results.read(tmp_path / "AMC.jsonl")
  assert list(measures.measure(new.records.values()).hits) == [2, 2]
  texts = lambda r: [c.text for x in r.records.values() for c in x.completions]
  assert texts(new) == texts(old["AMC"])
  assert new.machine == old["AMC"].machine
  assert new.header["code"] == old["AMC"].header["code"]
  assert new.header["graded"] == provenance.code()
  assert [p.name for p in tmp_path.iterdir()] == ["AMC.jsonl"]
  # Again, it is there.
  before = (tmp_path / "AMC.jsonl").read_bytes()
  again = regrading.regrade(old, tmp_path, pool, lambda *x: told.append(x))
  assert again == found and told[-1] == ("AMC", 4, False)
  assert (tmp_path / "AMC.jsonl").read_bytes() == before


def test_what_changed_in_words(old, pool, tmp_path):
  found = regrading.regrade(old, tmp_path, pool)
  assert regrading.lines(found) == [
      "AMC: 2 verdicts changed, 2 to right and 0 to wrong.",
      r"  set/0, sample 1, reference 4: \frac{16}{4} (wrong) -> \frac{16}{4}"
      " (right)",
      "  set/1, sample 0, reference 4: x+4-x (not graded in time) -> x+4-x"
      " (right)",
  ]
  assert regrading.lines(found, most=1)[-1] == (
      "  and 1 more, in regraded.json"
  )
  first = regrading.as_json(found)["AMC"][0]
  assert first["before"] == {
      "answer": r"\frac{16}{4}",
      "correct": False,
      "format_valid": True,
      "timed_out": False,
  }
  assert first["after"]["correct"]


def test_machines_are_kept(old, pool, tmp_path):
  gpu = {"backend": "gpu"}
  result = old["AMC"]._replace(continued=(gpu,))
  regrading.regrade({"AMC": result}, tmp_path, pool)
  found = results.read(tmp_path / "AMC.jsonl")
  assert found.machines == (result.machine, gpu)


def test_embedded_sets_have_a_grader_of_their_own(stored, pool, tmp_path):
  cut = stored.completion(True, r"\boxed{4}", answer="4", finished=False)
  records = [stored.record(0, 0, completions=(cut,))]
  old = {"sums2": stored.results([0], name="sums2", records=records)}
  (change,) = regrading.regrade(old, tmp_path, pool)["sums2"]
  assert not change.after.correct  # it did not come to its end


def test_other_results_are_never_written_over(old, pool, tmp_path):
  path = tmp_path / "AMC.jsonl"
  with results.open_writer(path, old["AMC"].header, {}) as writer:
    writer.append(list(old["AMC"].records.values()))
  before = path.read_bytes()
  with pytest.raises(FileExistsError, match="other results.*graded"):
    regrading.regrade(old, tmp_path, pool)
  assert path.read_bytes() == before


def test_a_failure_leaves_nothing(old, tmp_path):
  with grading_pool.GradingPool(1) as closed:
    pass
  with pytest.raises(RuntimeError, match="closed"):
    regrading.regrade(old, tmp_path / "new", closed)
  assert not (tmp_path / "new").exists()
