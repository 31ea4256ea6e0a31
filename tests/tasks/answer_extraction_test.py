"""Where answers stand in completions."""

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
