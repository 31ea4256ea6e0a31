"""Files of problems as they are found, and what is said of broken ones."""

import collections
import json
import pathlib

import pytest

from poise_jax.tasks import problem_set
from poise_jax.tasks.problem_set import Problem

BENCHMARKS = (
    pathlib.Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
)
GOOD = '{"problem": "1+1?", "answer": "2"}'


@pytest.fixture
def write(tmp_path):
  def write(text, name="set.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path

  return write


def load_one(write, **fields):
  (problem,) = problem_set.load(write(json.dumps(fields)))
  return problem


def test_a_file_of_two_lines(write):
  path = write(
      '{"id": "a/0", "problem": "1+1?", "answer": "2", "level": 3}\n'
      '{"id": "a/1", "problem": "2+2?", "answer": " 4 ", "subject": "sums"}\n'
  )
  assert problem_set.load(path) == (
      Problem("a/0", "1+1?", "2", 3),
      Problem("a/1", "2+2?", "4", None),
  )
  assert problem_set.load(str(path)) == problem_set.load(path)


def test_a_json_list_is_the_same(write):
  records = [
      {"question": "1+1?", "answer": 2, "level": "Level 5"},
      {"question": "2+2?", "solution": "So $\\boxed{4}$.", "unique_id": "x"},
  ]
  lines = write("\n".join(map(json.dumps, records)))
  whole = write(json.dumps(records, indent=2), "set.json")
  assert problem_set.load(whole) == problem_set.load(lines)
  assert problem_set.load(whole) == (
      Problem("set/0", "1+1?", "2", 5),
      Problem("x", "2+2?", "4", None),
  )


@pytest.mark.parametrize("field", ["problem", "question", "prompt"])
def test_names_of_the_prompt(write, field):
  assert load_one(write, **{field: "1+1?", "answer": "2"}).prompt == "1+1?"


@pytest.mark.parametrize(
    "level, expected",
    [
        (3, 3),
        ("3", 3),
        ("Level 4", 4),
        ("level 12", 12),
        ("Level ?", None),
        (None, None),
        ("", None),
    ],
)
def test_ways_to_write_a_level(write, level, expected):
  problem = load_one(write, problem="?", answer="1", level=level)
  assert problem.level == expected


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("1.50", "1.50"),
        ("204", "204"),
        ("1" * 5000, "1" * 5000),
        ('"\\\\frac{1}{2}"', "\\frac{1}{2}"),
        ('"48/2 = 24.\\n48+24 = 72.\\n#### 72"', "72"),
        ('"a #### b"', "a #### b"),
    ],
)
def test_answers_stay_as_they_are_written(write, answer, expected):
  path = write(f'{{"problem": "?", "answer": {answer}}}')
  assert problem_set.load(path)[0].answer == expected


@pytest.mark.parametrize(
    "text, contents",
    [
        ("\\boxed{5}", "5"),
        ("so $\\boxed{\\frac{1}{2^{n}}}$.", "\\frac{1}{2^{n}}"),
        ("$\\boxed{1}$, no, $\\boxed{ 2 }$", "2"),
        ("\\boxed{\\left\\{ 1, 2 \\right.}", "\\left\\{ 1, 2 \\right."),
        ("\\boxed{a \\\\} b", "a \\\\"),
        ("\\boxed\n {7}", "7"),
        ("$x = \\boxed 12$ apples", "12"),
        ("\\fbox{9}", "9"),
        ("\\boxed{}", ""),
        ("\\boxed{5", None),
        ("\\boxed{1} then \\boxed{2", None),
        ("\\boxed 5", None),
        ("\\boxedness{5}", None),
        ("5", None),
    ],
)
def test_what_is_boxed(text, contents):
  assert problem_set.boxed(text) == contents


def test_an_answer_goes_before_a_solution(write):
  problem = load_one(write, problem="?", answer="1", solution="\\boxed{2}")
  assert problem.answer == "1"
  problem = load_one(write, problem="?", answer=None, solution="\\boxed{2}")
  assert problem.answer == "2"


def test_blank_lines_crlf_bom_and_odd_line_ends(write):
  odd = '{"problem": "a\u2028b\x85c", "answer": "1"}'
  text = f"\ufeff{GOOD}\r\n\r\n  \n{odd}"
  assert [p.prompt for p in problem_set.load(write(text))] == [
      "1+1?",
      "a\u2028b\x85c",
  ]


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "not valid JSON.*one complete object"),
        (GOOD + GOOD, "not valid JSON, Extra data"),
        ("[" * 100_000, "not valid JSON, nested too deeply"),
        ('{"problem": "?", "answer": NaN}', "NaN is not JSON"),
        ('"text"', "must be an object.*got str"),
        ("[1]", "must be an object.*got list"),
        ('{"text": "?", "answer": "1"}', r"problem, question.*'text'\].*add"),
        ('{"problem": " ", "answer": "1"}', "problem, question, prompt.*empty"),
        ('{"problem": ["?"], "answer": "1"}', "`problem` must be text.*list"),
        ('{"problem": "?"}', r"`answer`.*`solution`.*\['problem'\]; add"),
        ('{"problem": "?", "answer": ""}', "`answer`.*`solution`.*not empty"),
        ('{"problem": "?", "answer": true}', "`answer` must be text.*bool"),
        ('{"problem": "?", "answer": ["1"]}', "`answer` must be text.*list"),
        ('{"problem": "?", "answer": "x\\n####"}', "`answer`.*after `####`"),
        ('{"problem": "?", "solution": "5"}', "`solution`.*boxed.*`answer`"),
        (
            '{"problem": "?", "solution": "\\\\boxed{5"}',
            "`solution`.*boxed.*closed",
        ),
        (
            '{"problem": "?", "answer": "1", "level": "hard"}',
            "`level` must be like 3.*'hard'; write",
        ),
        (
            '{"problem": "?", "answer": "1", "level": 2.5}',
            "`level` must be like 3.*'2.5'",
        ),
        ('{"problem": "\\ud800", "answer": "1"}', "`problem`.*surrogate"),
    ],
)
def test_a_broken_line_is_named(write, line, message):
  path = write(f"{GOOD}\n\n{line}\n{GOOD}\n")
  with pytest.raises(ValueError, match=rf"set\.jsonl, line 3: .*{message}"):
    problem_set.load(path)


def test_ids_must_be_unique(write):
  line = '{"id": 7, "problem": "?", "answer": "1"}'
  path = write("\n".join([line, GOOD, line.replace("7", '"7"')]))
  with pytest.raises(ValueError, match="line 3: `id`.*'7'.*line 1 too; change"):
    problem_set.load(path)


def test_text_that_is_not_utf8(write):
  path = write(GOOD.encode() + b'\n{"problem": "na\xefve?", "answer": "1"}\n')
  with pytest.raises(ValueError, match="line 2: not UTF-8.*0xef.*save"):
    problem_set.load(path)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("set.jsonl", "", "at least one problem, it is empty"),
        ("set.jsonl", "\n \n", "at least one problem"),
        ("set.json", "", "at least one problem"),
        ("set.json", "[]", "at least one problem"),
        ("set.json", GOOD, "must hold a list of problems, got dict.*put"),
        ("set.json", f"{GOOD}\n{GOOD}", "line 2: not valid JSON.*jsonl"),
        ("set.json", "[NaN]", "not valid JSON, NaN is not"),
        ("set.json", f"[{GOOD},\n\n{{}}]", "item 2: one of the fields"),
        ("set.csv", GOOD, "rename or convert it"),
    ],
)
def test_a_broken_file_is_named(write, name, text, message):
  with pytest.raises(ValueError, match=f"{name}.*{message}"):
    problem_set.load(write(text, name))


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="none at .*set.jsonl"):
    problem_set.load(tmp_path / "set.jsonl")
  (tmp_path / "folder.json").mkdir()
  with pytest.raises(FileNotFoundError, match="must be a file"):
    problem_set.load(tmp_path / "folder.json")


def test_levels_choose_problems(write):
  levels = [1, 3, "Level 5", None, 2, 4]
  rows = [{"problem": "?", "answer": "1", "level": v} for v in levels]
  path = write("\n".join(map(json.dumps, rows)))
  chosen = problem_set.load(path, range(3, 6))
  # Ids count the file's problems, whichever are chosen.
  assert [p.id for p in chosen] == ["set/1", "set/2", "set/5"]
  with pytest.raises(ValueError, match=r"jsonl.*\[7\].*levels \[1, 2, 3, 4,"):
    problem_set.load(path, {7})


def test_subsamples_are_nested_and_depend_on_ids_alone():
  problems = [Problem(f"p/{i}", "?", str(i)) for i in range(100)]
  small = problem_set.subsample(problems, 10, 0)
  large = problem_set.subsample(problems, 50, 0)
  assert len(set(small)) == 10
  assert set(small) < set(large)
  assert list(large) == [p for p in problems if p in large]
  backwards = problem_set.subsample(problems[::-1], 10, 0)
  assert backwards == small[::-1]
  assert problem_set.subsample(problems, 10, 1) != small
  assert problem_set.subsample(problems, 100, 3) == tuple(problems)


def test_subsamples_choose_evenly():
  problems = [Problem(f"p/{i}", "?", "1") for i in range(10)]
  counts = collections.Counter(
      p.id
      for seed in range(2000)
      for p in problem_set.subsample(problems, 1, seed)
  )
  # Binomial(2000, 1/10): five standard deviations are 67.
  assert all(abs(counts[p.id] - 200) < 67 for p in problems)


@pytest.mark.parametrize("n", [0, 4])
def test_subsamples_that_cannot_be(n):
  problems = [Problem(str(i), "?", "1") for i in range(3)]
  with pytest.raises(ValueError, match=f"between 1 and the 3.*got {n}"):
    problem_set.subsample(problems, n, 0)


def benchmark(name):
  path = BENCHMARKS / name
  if not path.is_file():
    pytest.skip(f"{name} is not here; it is not part of the repository")
  return path


@pytest.mark.parametrize(
    "name, count",
    [
        ("aime24", 30),
        ("aime25", 30),
        ("amc23", 40),
        ("amc83", 83),
        ("gsm8k_test", 1319),
        pytest.param("gsm8k_train", 7473, marks=pytest.mark.slow),
        ("math500", 500),
        pytest.param("math_12k_extra_lvl3to5", 3280, marks=pytest.mark.slow),
        pytest.param("math_train_lvl3to5", 5560, marks=pytest.mark.slow),
        ("minerva_math", 272),
        ("olympiadbench", 675),
    ],
)
def test_public_benchmarks(name, count):
  path = benchmark(f"{name}.jsonl")
  problems = problem_set.load(path)
  assert len(problems) == count
  records = [json.loads(s) for s in path.read_text().split("\n") if s]
  for problem, record in zip(problems, records, strict=True):
    assert problem.prompt == record["problem"]
    assert problem.answer == record["answer"].strip()
    assert problem.id == record["id"]
    assert problem.level == record.get("level")


@pytest.mark.slow
def test_the_papers_training_problems():
  path = benchmark("math_train_lvl3to5.jsonl")
  problems = problem_set.load(path, range(3, 6))
  assert len(problem_set.subsample(problems, 5000, 0)) == 5000


def test_levels_of_math500():
  levels = collections.Counter(
      p.level for p in problem_set.load(benchmark("math500.jsonl"), (3, 4, 5))
  )
  assert levels == {3: 105, 4: 128, 5: 134}
