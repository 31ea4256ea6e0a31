"""Problems as files have them, a real tokenizer, and graders made by hand."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pytest
import tokenizers

from poise_jax.rollout import chat, generate, prompt_batches, text_tokenizer
from poise_jax.tasks import problem_set
from poise_jax.tasks.problem_set import Problem
from poise_jax.training import history, math_environment, prompts

BENCHMARKS = (
    pathlib.Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
)
NONE, QWEN = chat.TEMPLATES["none"], chat.TEMPLATES["qwen_math"]
PROBLEMS = (
    Problem("m/0", "1+1?", "2", 3),
    Problem("m/1", "What is 2+2?", "4", 5),
    Problem("m/2", "3?", "3", None),
    Problem("m/3", "1-1?", "0", 3),
)
END = 256


class Grade(NamedTuple):
  correct: bool
  format_valid: bool


def grade(texts, answers):
  """What stands behind = must be the answer."""
  return [
      Grade(text.partition("=")[2] == answer, "=" in text)
      for text, answer in zip(texts, answers, strict=True)
  ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """A tokenizer of single bytes; 256 ends and 257 fills up."""
  directory = tmp_path_factory.mktemp("policy")
  symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens(["</s>", "<pad>"])
  tokenizer.save(str(directory / "tokenizer.json"))
  config = {"eos_token": "</s>", "pad_token": "<pad>"}
  config["tokenizer_class"] = "PreTrainedTokenizerFast"
  (directory / "tokenizer_config.json").write_text(json.dumps(config))
  return directory


@pytest.fixture(scope="module")
def words(directory):
  return text_tokenizer.load(directory)


@pytest.fixture
def make(words):
  def make(problems=PROBLEMS, template=NONE, grade_fn=grade, **options):
    options = {"seed": 0, "prompt_buckets": (8, 16, 256)} | options
    return math_environment.math_environment(
        words, template, problems, grade_fn, **options
    )

  return make


@pytest.fixture
def completions(words):
  def completions(*texts, width=12):
    """Texts that end in ... are cut off there; the others end."""
    tokens = np.full((len(texts), width), 257, np.int32)
    mask = np.zeros((len(texts), width), np.float32)
    finished = np.array([not t.endswith("...") for t in texts], np.float32)
    for row, text in enumerate(texts):
      (ids,) = words.encode([text.removesuffix("...")])
      ids = [*ids, END] if finished[row] else ids
      tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
    return generate.Completions(tokens, mask * -0.5, mask, finished)

  return completions


def test_prompts_in_epochs(make):
  task = make(multiple_of=2)
  taken, position = task.source(prompts.START, 4)
  assert sorted(taken, key=lambda p: p.id) == list(PROBLEMS)
  assert position == (1, 0)
  assert task.source(prompts.START, 4)[0] == taken
  assert make(seed=1).source(position, 4)[0] != taken


def test_prompts_are_as_wide_as_the_batch_needs(make, words):
  task = make()
  short = task.encode([PROBLEMS[2], PROBLEMS[0]])
  assert isinstance(short, prompt_batches.Prompts)
  assert short.tokens.shape == (2, 8)
  np.testing.assert_array_equal(short.starts, [6, 4])
  (ids,) = words.encode(["1+1?"])
  np.testing.assert_array_equal(short.tokens[1], [257] * 4 + ids)
  assert task.encode(PROBLEMS).tokens.shape == (4, 16)


def test_the_prompt_is_what_the_policy_reads(make, words):
  task = make(template=QWEN)
  prompt = task.prompt_of(PROBLEMS[1])
  assert "<|im_start|>user\nWhat is 2+2?<|im_end|>" in prompt
  tokens, starts = task.encode([PROBLEMS[1]])
  np.testing.assert_array_equal(
      tokens[0, starts[0] :], words.encode([prompt])[0]
  )


def test_grades_by_hand(make, completions):
  # Two problems, three completions of each; answers are 2 and 4.
  written = ["I say =2", "=4", "2", "=4...", "=4", "=2"]
  grades = make().grade(PROBLEMS[:2], completions(*written))
  np.testing.assert_array_equal(grades.correct, [[1, 0, 0], [0, 1, 0]])
  np.testing.assert_array_equal(grades.format_valid, [[1, 1, 0], [0, 1, 1]])
  np.testing.assert_array_equal(grades.truncated, [[0, 0, 0], [1, 0, 0]])
  # End-of-text counts.
  np.testing.assert_array_equal(grades.lengths, [[9, 3, 2], [2, 3, 3]])
  assert {value.dtype for value in grades} == {np.dtype(np.float32)}


def test_the_grader_sees_finished_texts_alone(make, completions):
  seen = []

  def spy(texts, answers):
    seen.append((list(texts), list(answers)))
    return grade(texts, answers)

  written = completions("=2...", "a=2", "=4", "=4...")
  make(grade_fn=spy).grade(PROBLEMS[:2], written)
  assert seen == [(["a=2", "=4"], ["2", "4"])]
  task = make(grade_fn=spy, grade_truncated=True)
  grades = task.grade(PROBLEMS[:2], written)
  assert seen[1] == (["=2", "a=2", "=4", "=4"], ["2", "2", "4", "4"])
  np.testing.assert_array_equal(grades.correct, 1)
  np.testing.assert_array_equal(grades.truncated, [[1, 0], [0, 1]])


def test_nothing_to_grade(make, completions):
  def refuse(texts, answers):
    raise AssertionError("called without texts")

  grades = make(grade_fn=refuse).grade(PROBLEMS[:2], completions("...", "x..."))
  np.testing.assert_array_equal(grades.correct, [[0], [0]])
  np.testing.assert_array_equal(grades.format_valid, [[0], [0]])
  np.testing.assert_array_equal(grades.lengths, [[0], [1]])


def test_a_grader_that_skips_texts(make, completions):
  task = make(grade_fn=lambda texts, answers: grade(texts, answers)[1:])
  with pytest.raises(ValueError, match="verdict on each of 2 texts, got 1"):
    task.grade(PROBLEMS[:2], completions("=2", "=4"))


def test_each_problem_has_its_pass_rate(make):
  task, backwards = make(), make(PROBLEMS[::-1])
  buckets = task.buckets(PROBLEMS)
  assert sorted(buckets.tolist()) == [0, 1, 2, 3]
  assert task.bucket_count == 4
  # The order of the file does not matter.
  np.testing.assert_array_equal(buckets, backwards.buckets(PROBLEMS))
  counts = history.add(
      history.empty(task.bucket_count),
      task.buckets(PROBLEMS[1:2]),
      np.array([[1.0, 1.0, 0.0]], np.float32),
  )
  np.testing.assert_allclose(
      history.pass_rate(counts, buckets), [0.5, 3 / 5, 0.5, 0.5]
  )


def test_many_problems_share_buckets():
  problems = [Problem(f"p/{i}", "?", "1") for i in range(4000)]
  buckets = math_environment.by_problem(problems, limit=40)
  assert buckets.count == 40
  places = [buckets.of(p) for p in problems]
  # The first eight bytes of SHA-256 of "p/0" are 271602d098a6743a, says sha256sum.
  assert places[0] == 0x271602D098A6743A % 40
  counts = np.bincount(places, minlength=40)
  # Binomial(4000, 1/40): five standard deviations are 49.
  assert len(counts) == 40 and abs(counts - 100).max() < 50
  exact = math_environment.by_problem(problems, limit=4000)
  assert exact.count == len({exact.of(p) for p in problems}) == 4000


def test_levels_share_a_pass_rate(make):
  task = make(histories=math_environment.by_level(PROBLEMS))
  assert task.bucket_count == 3
  assert task.buckets(PROBLEMS).tolist() == [0, 1, 2, 0]
  known = math_environment.by_level(PROBLEMS[:2])
  assert known.count == 2


def test_overlong_problems_are_dropped_and_counted(words, make):
  within = lambda limit: math_environment.within(limit, words, NONE, PROBLEMS)
  assert within(4) == ((PROBLEMS[0], PROBLEMS[2], PROBLEMS[3]), 1)
  assert within(12) == (PROBLEMS, 0)
  with pytest.raises(ValueError, match="`limit`.*all 4.*more than 1 tokens"):
    within(1)
  make(within(4)[0], prompt_buckets=(4,))
  with pytest.raises(ValueError, match="'m/1' must fit.*4 tokens, got 12"):
    make(prompt_buckets=(4,))


@pytest.mark.parametrize(
    "problems, message",
    [
        ((), "at least one problem"),
        ((*PROBLEMS, PROBLEMS[1]), "unique ids, got 'm/1' twice"),
        ((PROBLEMS[0], Problem("x", " ", "1")), "problem 'x': .*blank"),
        (
            (PROBLEMS[0], Problem("x", "\ud800", "1")),
            "problem 'x': .*surrogate",
        ),
        (
            (Problem("x", "<pad>?", "1"),),
            "problem 'x': .*special token '<pad>'",
        ),
    ],
)
def test_problems_that_cannot_be_posed(make, problems, message):
  with pytest.raises(ValueError, match=message):
    make(problems, template=QWEN)


def test_histories_of_nothing():
  with pytest.raises(ValueError, match="at least one problem"):
    math_environment.by_level(())
  for problems, limit in (((), 5), (PROBLEMS, 0)):
    with pytest.raises(ValueError, match="must be at least 1"):
      math_environment.by_problem(problems, limit)


def test_real_problems(words):
  path = BENCHMARKS / "math500.jsonl"
  if not path.is_file():
    pytest.skip(f"{path.name} is not here; it is not part of the repository")
  problems = problem_set.load(path, range(3, 6))
  # Bytes, and 151 of them are in the template.
  chosen, dropped = math_environment.within(1024, words, QWEN, problems)
  lengths = [len(QWEN.render(p.prompt).encode()) for p in problems]
  assert dropped == sum(length > 1024 for length in lengths) > 0
  task = math_environment.math_environment(words, QWEN, chosen, grade, seed=1)
  batch, _ = task.source(prompts.START, 64)
  tokens, starts = task.encode(batch)
  assert tokens.shape == (64, 1024)
  for problem, row, start in zip(batch, tokens, starts, strict=True):
    (text,) = words.decode(row[None, start:], np.array([1024 - start]))
    assert text == task.prompt_of(problem)
  assert sorted(task.buckets(chosen).tolist()) == list(range(len(chosen)))


@pytest.mark.slow
def test_processes_agree_on_grades(directory):
  source = """
    import sys
    import jax
    import numpy as np
    from poise_jax import sharding
    from poise_jax.rollout import chat, generate, text_tokenizer
    from poise_jax.tasks import problem_set
    from poise_jax.training import math_environment

    sharding.start_processes(sys.argv[1], 2, int(sys.argv[2]))

    class Grade:
      def __init__(self, correct):
        self.correct, self.format_valid = correct, True

    def grade(texts, answers):
      print("graded", texts, answers)
      return [Grade(text == answer) for text, answer in zip(texts, answers)]

    words = text_tokenizer.load(sys.argv[3])
    problems = [problem_set.Problem(c, c, c) for c in "1234"]
    task = math_environment.math_environment(
        words, chat.TEMPLATES["none"], problems, grade, seed=0)
    tokens = np.array([[*words.encode([c])[0], 256] for c in "1294"], np.int32)
    ones = np.ones((4, 2), np.float32)
    found = generate.Completions(tokens, -ones, ones, np.ones(4, np.float32))
    mesh = sharding.make_mesh(sharding.MeshConfig(data=2))
    grades = task.grade(problems, sharding.place(mesh, found))
    print("correct", grades.correct[:, 0].tolist())
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  children = [
      subprocess.Popen(
          [sys.executable, "-c", textwrap.dedent(source), address, str(i)]
          + [str(directory)],
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
          env=environment,
      )
      for i in range(2)
  ]
  try:
    ends = [child.communicate(timeout=200) for child in children]
  finally:
    for child in children:
      child.kill()
  assert [child.returncode for child in children] == [0, 0], ends
  verdicts = "correct [1.0, 1.0, 0.0, 1.0]"
  texts = "graded ['1', '2', '9', '4'] ['1', '2', '3', '4']"
  # The library that connects them says so.
  said = [
      [line for line in output.splitlines() if "[Gloo]" not in line]
      for output, _ in ends
  ]
  assert said == [[texts, verdicts], [verdicts]]
