"""Sizes, weights, files in all their forms, and the paper's own table."""

import csv
import json
import pathlib
import sys
import types

import pytest

from poise_jax.tasks import benchmarks, problem_set

SHARED = pathlib.Path(__file__).parents[3] / "shared"
BENCHMARKS = SHARED / "data" / "benchmarks"
TABLE = SHARED / "reference" / "poise_table2.csv"


def write(folder, benchmark, count, suffix=".jsonl"):
  rows = [{"problem": f"{i}+1?", "answer": str(i + 1)} for i in range(count)]
  path = folder / f"{benchmark.file}{suffix}"
  path.write_text("\n".join(map(json.dumps, rows)))
  return path


def test_the_six_sets_are_those_of_the_paper():
  six = benchmarks.MATH6
  assert [b.size for b in six] == [30, 30, 83, 500, 272, 675]
  assert [b.weight for b in six] == [0.2, 0.2, 0.15, 0.15, 0.15, 0.15]
  sampled = [("pass_at_k", 32, 1.0)] * 3
  greedy = [("accuracy", 1, 0.0)] * 3
  protocol = [(b.metric, b.samples, b.temperature) for b in six]
  assert protocol == sampled + greedy


def test_overall_by_hand():
  values = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
  names = [b.name for b in benchmarks.MATH6]
  scores = dict(zip(names, values, strict=True))
  # 0.2 * (10 + 20) + 0.15 * (30 + 40 + 50 + 60) = 6 + 27.
  assert benchmarks.overall(scores) == pytest.approx(33)
  assert benchmarks.overall(scores | {"GSM8K": 99.0}) == pytest.approx(33)


def test_the_papers_table_follows_from_its_own_numbers():
  if not TABLE.is_file():
    pytest.skip("the paper's table is not here")
  columns = [
      "AIME24_pass32", "AIME25_pass32", "AMC_pass32", "MATH500_acc1",
      "Minerva_acc1", "Olympiad_acc1",
  ]  # fmt: skip
  with TABLE.open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 64
  for row in rows:
    scores = {
        b.name: float(row[column])
        for b, column in zip(benchmarks.MATH6, columns, strict=True)
    }
    error = benchmarks.overall(scores) - float(row["Overall"])
    assert abs(error) <= 0.11, row
    for b, column in zip(benchmarks.MATH6, columns, strict=True):
      count = float(row[column]) * b.size / 100
      # Printed to one decimal place: within 0.05 points of a whole count.
      assert abs(count - round(count)) <= 0.06 * b.size / 100 + 1e-9, row


def test_scores_that_have_no_overall():
  scores = {b.name: 1.0 for b in benchmarks.MATH6}
  with pytest.raises(ValueError, match=r"\['AMC'\] are missing; evaluate"):
    benchmarks.overall({k: v for k, v in scores.items() if k != "AMC"})
  with pytest.raises(ValueError, match="finite, got .*Minerva"):
    benchmarks.overall(scores | {"Minerva": float("nan")})


def test_a_folder_or_a_file(tmp_path):
  path = write(tmp_path, benchmarks.AIME24, 30)
  problems = benchmarks.load(benchmarks.AIME24, tmp_path)
  assert len(problems) == 30
  assert problems[3] == problem_set.Problem("aime24/3", "3+1?", "4")
  assert benchmarks.load(benchmarks.AIME24, path) == problems


def test_another_number_of_problems_is_refused(tmp_path):
  write(tmp_path, benchmarks.AMC, 40)
  with pytest.raises(ValueError, match="AMC must have 83 problems, got 40"):
    benchmarks.load(benchmarks.AMC, tmp_path)


def test_a_folder_without_the_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="must hold aime25 with"):
    benchmarks.load(benchmarks.AIME25, tmp_path)


def test_from_hugging_face(monkeypatch):
  asked = []

  def load_dataset(dataset, subset, split):
    asked.append((dataset, subset, split))
    rows = [
        {"id": i, "problem": f"{i}?", "answer": float(i)} for i in range(83)
    ]
    rows[5] |= {"answer": None, "final_answer": ["$1$", "$-2$"]}
    rows[5].pop("answer")
    return rows

  stub = types.SimpleNamespace(load_dataset=load_dataset)
  monkeypatch.setitem(sys.modules, "datasets", stub)
  problems = benchmarks.load(benchmarks.AMC)
  assert asked == [("AI-MO/aimo-validation-amc", None, "train")]
  assert (problems[7].id, problems[7].answer) == ("7", "7")
  assert problems[5].answer == "1, -2"


def test_packages_that_are_missing_are_named(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "datasets", None)
  with pytest.raises(ImportError, match="`pip install datasets`, or use JSONL"):
    benchmarks.load(benchmarks.AIME24)
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  (tmp_path / "aime24.parquet").write_bytes(b"PAR1")
  with pytest.raises(ImportError, match="aime24.parquet needs the package"):
    benchmarks.load(benchmarks.AIME24, tmp_path)


def test_parquet(tmp_path):
  pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
  from pyarrow import parquet

  rows = [{"question": f"{i}?", "answer": str(i)} for i in range(30)]
  table = pyarrow.Table.from_pylist(rows)
  parquet.write_table(table, tmp_path / "aime24.parquet")
  problems = benchmarks.load(benchmarks.AIME24, tmp_path)
  assert problems[2] == problem_set.Problem("aime24/2", "2?", "2")


def test_no_dataset_is_made_up():
  with pytest.raises(ValueError, match="no dataset is known.*math_train"):
    benchmarks.load(benchmarks.MATH_TRAINING)


@pytest.mark.parametrize(
    "benchmark",
    [
        *benchmarks.MATH6,
        pytest.param(benchmarks.GSM8K, marks=pytest.mark.slow),
        pytest.param(benchmarks.MATH_TRAINING, marks=pytest.mark.slow),
    ],
    ids=lambda b: b.name,
)
def test_the_real_files(benchmark):
  if not (BENCHMARKS / f"{benchmark.file}.jsonl").is_file():
    pytest.skip(f"{benchmark.file} is not part of the repository")
  assert len(benchmarks.load(benchmark, BENCHMARKS)) == benchmark.size
