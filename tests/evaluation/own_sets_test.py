"""Files of one's own, what they are called and how they count."""

import json
import sys
import types

import pytest

from poise_jax.evaluation import own_sets, problem_sets
from poise_jax.tasks import arithmetic, grading_pool, problem_set


@pytest.fixture
def file(tmp_path):
  rows = [{"problem": f"{i}+1?", "answer": str(i + 1)} for i in range(3)]
  path = tmp_path / "mine.v1.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))
  return path


def test_a_file_as_a_set(file):
  (own,) = own_sets.parse([str(file)], ["pass@4"], ["0.25"])
  assert own == ("mine.v1", str(file), "pass_at_k", 4, 0.25)
  with grading_pool.GradingPool(1) as pool:
    sources = problem_sets.Sources(None, arithmetic.Split.SEARCH, pool, (own,))
    found = problem_sets.load("mine.v1", sources)
    grades = found.grade([r"\boxed{2/2}", "5"], ["1", "4"], [True, True])
  assert [g.correct for g in grades] == [True, False]
  assert (found.samples, found.temperature, found.weight) == (4, 1.0, 0.25)
  assert found.problems[1] == problem_set.Problem("mine.v1/1", "1+1?", "2")
  (greedy,) = own_sets.parse([str(file)])
  assert (greedy.metric, greedy.samples, greedy.weight) == ("accuracy", 1, 0.0)


def test_one_each():
  found = own_sets.parse(
      ["a.jsonl", "b/c.parquet", "me/d[main/train]"],
      ["accuracy", "pass@2", "pass@8"],
      ["0.5"],
  )
  assert [own.name for own in found] == ["a", "c", "d"]
  assert [own.samples for own in found] == [1, 2, 8]
  assert [own.weight for own in found] == [0.5] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([["a.txt"]], "must be a file that ends in .jsonl.*got 'a.txt'"),
        ([["x y.jsonl"]], "letters, digits.*got 'x y'; rename it"),
        ([["a.jsonl", "b/A.json"]], "different names.*got a more than once"),
        ([["a.jsonl"], ["pass@0"]], "accuracy or pass@K.*got 'pass@0'"),
        ([["a.jsonl"], ["mean"]], "accuracy or pass@K.*got 'mean'"),
        ([["a.jsonl"], ["accuracy"], ["2"]], "from 0 to 1, got '2'"),
        ([["a.jsonl"], ["accuracy"], ["nan"]], "from 0 to 1, got 'nan'"),
        ([["a.jsonl"], ["accuracy"] * 2], "one each, got 2 for 1 sets"),
    ],
)
def test_what_cannot_be(arguments, message):
  with pytest.raises(ValueError, match=message):
    own_sets.parse(*arguments)


def test_names_that_are_taken():
  own = own_sets.parse(["amc.jsonl", "math6.jsonl", "mine.jsonl"])
  with pytest.raises(ValueError, match="got amc, math6; rename the files"):
    problem_sets.check_own(own)


def test_files_that_cannot_be_read(tmp_path):
  read = lambda name: own_sets.read(own_sets.parse([str(tmp_path / name)])[0])
  with pytest.raises(
      FileNotFoundError, match="a file of problems at .*a.jsonl"
  ):
    read("a.jsonl")
  (tmp_path / "b.jsonl").write_text('{"problem": "1?"}\n')
  with pytest.raises(ValueError, match="b.jsonl, line 1.*`answer`"):
    read("b.jsonl")
  (tmp_path / "c.jsonl").write_text("")
  with pytest.raises(ValueError, match="c.jsonl"):
    read("c.jsonl")


def test_parquet(tmp_path):
  pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
  from pyarrow import parquet

  rows = [{"problem": f"{i}?", "answer": str(i)} for i in range(5)]
  path = tmp_path / "mine.parquet"
  parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  assert own_sets.read(own_sets.parse([str(path)])[0])[2].answer == "2"
  path.write_bytes(b"PAR1")
  with pytest.raises(ValueError, match="not a file of parquet"):
    own_sets.read(own_sets.parse([str(path)])[0])


def test_a_dataset(monkeypatch):
  asked = []

  def load_dataset(dataset, subset, split):
    asked.append((dataset, subset, split))
    return [{"question": "2+2?", "answer": 4.0}, {"question": "?", "answer": 1}]

  stub = types.SimpleNamespace(load_dataset=load_dataset)
  monkeypatch.setitem(sys.modules, "datasets", stub)
  (own,) = own_sets.parse(["me/sums[main/train]"])
  assert [p.answer for p in own_sets.read(own)] == ["4", "1"]
  assert set(asked) == {("me/sums", "main", "train")}
  monkeypatch.setitem(sys.modules, "datasets", None)
  with pytest.raises(ImportError, match="`pip install datasets`, or use a"):
    own_sets.read(own)
