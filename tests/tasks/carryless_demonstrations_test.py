"""Each style of demonstration, by hand; the teacher's gaps, by counting."""

import numpy as np
import pytest

from poise_jax.tasks import arithmetic, carryless
from poise_jax.tasks import carryless_demonstrations as teaching

PROBLEM = carryless.make_problem(482, "*+", (7, 5))  # 864, 319


def _tokens(text):
  # `\boxed{` is one symbol, and end-of-text takes one more.
  return len(text.replace("\\boxed{", "[")) + 1


@pytest.mark.parametrize(
    "style, text",
    [
        (teaching.worked, "*7864+5319\\boxed{319}"),
        (teaching.checked, "*7864=864+5319=319\\boxed{319}"),
        (teaching.direct, "\\boxed{319}"),
        (teaching.unclosed, "*7864+5319\\boxed{319"),
        (teaching.bare, "319"),
        (teaching.unanswered, "*7864+5319"),
    ],
)
def test_styles_written_by_hand(style, text):
  rng = np.random.default_rng(0)
  assert style(PROBLEM, teaching.flawless(), rng) == text


@pytest.mark.parametrize(
    "style, fitting", [(teaching.worked, 4), (teaching.checked, 2)]
)
def test_the_length_limit_bites(style, fitting):
  rng = np.random.default_rng(0)
  for count in range(1, carryless.MAX_OPERATIONS + 1):
    problem = carryless.make_problem(482, "*" * count, (7,) * count)
    tokens = _tokens(style(problem, teaching.flawless(), rng))
    assert (tokens <= carryless.COMPLETION_LENGTH) == (count <= fitting)


def test_each_fact_is_known_with_its_own_confidence():
  teacher = teaching.make_teacher(0, 0.1, 0.7)
  rng = np.random.default_rng(3)
  problem = carryless.make_problem(482, "*", (7,))
  texts = [teaching.bare(problem, teacher, rng) for _ in range(4000)]
  for place, (digit, right) in enumerate(zip("482", "864", strict=True)):
    fact = int(digit), 7
    written = np.array([int(text[place]) for text in texts])
    sure = teacher.confidence[fact]
    usual = (int(right) + teacher.offset[fact]) % 10
    assert 0.1 <= sure <= 0.7
    assert np.mean(written == int(right)) == pytest.approx(
        sure + (1 - sure) * 0.2 / 10, abs=0.03
    )
    # The usual mistake, and its part of those drawn from all ten digits.
    share = (1 - sure) * (0.8 + 0.2 / 10)
    assert np.mean(written == usual) == pytest.approx(share, abs=0.03)


def test_sums_are_known_without_fault():
  rng = np.random.default_rng(4)
  teacher = teaching.make_teacher(0, 0.1, 0.7)
  problem = carryless.make_problem(482, "+-+", (7, 9, 3))
  assert teaching.bare(problem, teacher, rng) == problem.answer


def test_a_second_look_mends_half_of_the_wrong_digits():
  teacher = teaching.make_teacher(0, 0.1, 0.7)
  teacher = teacher._replace(confidence=np.zeros((10, 10)))
  rng = np.random.default_rng(5)
  problem = carryless.make_problem(482, "*", (7,))
  answers = [
      teaching.checked(problem, teacher, rng)[-4:-1] for _ in range(2000)
  ]
  right = np.array([list(x) for x in answers]) == list("864")
  # One failure in fifty is right at once, for it may be any digit.
  assert right.mean() == pytest.approx(0.51, abs=0.03)


def test_teachers_have_gaps_of_their_own():
  make = lambda seed: teaching.make_teacher(seed, 0.25, 0.85)
  first, again, other = map(make, (0, 0, 1))
  np.testing.assert_array_equal(first.confidence, again.confidence)
  assert np.mean(first.confidence == other.confidence) == 0
  assert first.offset.min() >= 1 and first.offset.max() <= 9
  assert 0.25 <= first.confidence.min() < first.confidence.max() <= 0.85


def test_a_less_sure_teacher_has_the_same_gaps():
  better = teaching.make_teacher(0, 0.25, 0.85)
  worse = teaching.make_teacher(0, 0.10, 0.70)
  np.testing.assert_allclose(better.confidence - worse.confidence, 0.15)
  np.testing.assert_array_equal(better.offset, worse.offset)


@pytest.mark.parametrize("least, most", [(-0.1, 0.5), (0.5, 0.4), (0.5, 1.1)])
def test_confidence_is_a_probability(least, most):
  with pytest.raises(ValueError, match="`least` and `most`"):
    teaching.make_teacher(0, least, most)


@pytest.mark.parametrize("mixture", [teaching.MIXTURE, teaching.SECOND_MIXTURE])
def test_mixtures_sum_to_one(mixture):
  assert sum(mixture.values()) == pytest.approx(1)


def test_shares_are_respected():
  rng = np.random.default_rng(0)
  mixture = {teaching.direct: 0.25, teaching.bare: 0.75}
  texts = [
      teaching.demonstrate(PROBLEM, mixture, teaching.flawless(), rng)
      for _ in range(2000)
  ]
  assert texts.count("319") / 2000 == pytest.approx(0.75, abs=0.04)


def test_shares_that_do_not_sum_to_one_are_refused():
  with pytest.raises(ValueError, match="sum to 1"):
    teaching.demonstrate(
        PROBLEM,
        {teaching.direct: 0.5},
        teaching.flawless(),
        np.random.default_rng(0),
    )


@pytest.mark.parametrize(
    "text, style",
    [
        ("*7864+5319\\boxed{319}", "worked"),
        ("*7000+5111\\boxed{999}", "worked"),  # wrong, in the same form
        ("*7864=864+5319=319\\boxed{319}", "checked"),
        ("\\boxed{319}", "other"),
        ("*7864+5319\\boxed{319", "other"),
        ("+5319*7864\\boxed{319}", "other"),
        ("*7864+5319=319\\boxed{319}", "other"),
        ("*7864\\boxed{319}", "other"),
        ("", "other"),
    ],
)
def test_styles_are_told_by_their_form(text, style):
  assert teaching.style_of(PROBLEM, text) == style


def test_demonstrations_are_told_as_what_they_are():
  rng = np.random.default_rng(6)
  teacher = teaching.make_teacher(1, 0.1, 0.7)
  tiers = [arithmetic.Tier(k, 0.5) for k in range(1, 5)]
  for p in carryless.sample(rng, tiers, 50, arithmetic.Split.TRAIN):
    for style in (teaching.worked, teaching.checked):
      text = style(p, teacher, rng)
      assert teaching.style_of(p, text) == style.__name__
      assert arithmetic.grade(text, p.answer).format_valid
