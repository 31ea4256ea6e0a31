"""Where answers stand in completions."""

import time

import pytest

from poise_jax.tasks import answer_extraction


@pytest.mark.parametrize(
    "completion, answer, closed",
    [
        (r"\boxed{5}", "5", True),
        (r"so $\boxed{\frac{1}{2^{n}}}$.", r"\frac{1}{2^{n}}", True),
        (r"\boxed{1}. Wrong. Thus \boxed{2}", "2", True),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", True),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right.", True),
        (r"\fbox{9}", "9", True),
        ("\\boxed\n {7}", "7", True),
        (r"$\boxed 12$ apples", "12", True),
        (r"\boxed{\boxed{3}}", "{3}", True),
        (r"$\boxed{1}$ and $\boxed{2}$", "1,2", True),
        (r"$\boxed{4}$, $\boxed{4}$", "4", True),
        (r"\boxed{}", None, False),
        (r"\boxed{12", "12", False),
        (r"\boxed{1} then \boxed{2", "2", False),
        ("The answer is 12.", "12", False),
        ("The final answer is: $\\frac{1}{2}$. I hope it is correct.",
         r"\frac{1}{2}", False),
        ("The answer is 5. Or: the answer is 6.", "6", False),
        ("**Answer:** 42", "42", False),
        ("Answer: (B)", "(B)", False),
        ("48/2 = 24\n#### 72", "72", False),
        ("The answer is $2$ and $3$.", "2,3", False),
        ("The answer is $8$%.", "8%", False),
        ("42", "42", False),
        (r"\frac{1}{2}", r"\frac{1}{2}", False),
        ("x^2 + 1", "x^2 + 1", False),
        ("We get 3 and then 1,234.", "1,234", False),
        ("We find that $x = 3 = y$", "y", False),
        ("She has 3 apples and 4.5 pears", "4.5", False),
        ("", None, False),
        ("no idea whatsoever about any of it", None, False),
    ],
)  # fmt: skip
def test_where_the_answer_is(completion, answer, closed):
  assert answer_extraction.extract(completion) == (answer, closed)


def test_only_the_end_of_a_long_text_is_read():
  text = r"\boxed{1}" + " word" * 10_000 + " The answer is 2."
  assert answer_extraction.extract(text).answer == "2"


@pytest.mark.parametrize(
    "answer, bare",
    [
        (r"\boxed{7}", "7"),
        ("The answer is 7.", "7"),
        (r"We see that it must be $\frac{1}{2}$", r"\frac{1}{2}"),
        (r"\text{Navin}", r"\text{Navin}"),
        ("$7$", "$7$"),
    ],
)
def test_sentences_around_an_answer(answer, bare):
  assert answer_extraction.unwrap(answer) == bare


def test_long_runs_take_no_time():
  size = 20_000
  lines = "\n" * 2000
  texts = [
      *(run * (size // len(run)) for run in (
          " ", "\n", "$", ".", ",", "{", "\\boxed{", "\\boxed{1}", "x", "1,",
          "answer ", "answer: .", "\\(", "\\a{", "$ ", "$1 ",
      )),
      "answer" + " " * size,
      "answer" + " " * size + "5",
      "answer to " + " \n" * (size // 2),
      rf"\boxed{{1}}{lines},{lines}! \boxed{{2}}",
      rf"\boxed{{1}}{'$' * 5000},{'$' * 5000}! \boxed{{2}}",
      f"The answer is $1${'. ' * 200},{'$ ' * 200} $2$",
  ]  # fmt: skip
  begin = time.process_time()
  for text in texts:
    answer_extraction.extract(text)
    answer_extraction.unwrap(text)
  # Each of the first two patterns alone would take minutes.
  assert time.process_time() - begin < 20


def test_runs_of_space_change_nothing():
  spaces = " " * 3000
  for text, answer in (
      (rf"\boxed{{1}}{spaces},{spaces}\boxed{{2}}", "1,2"),
      (f"answer{spaces}is{spaces}5", "5"),
      (f"The answer is:\n{spaces}\n7\n{spaces}\n", "7"),
  ):
    assert answer_extraction.extract(text).answer == answer
  assert answer_extraction.unwrap(f"answer{spaces}: 5") == "5"


def test_boxes_far_apart_are_no_list():
  text = r"\boxed{1}" + "$." * 41 + r", \boxed{2}"
  assert answer_extraction.extract(text).answer == "2"
