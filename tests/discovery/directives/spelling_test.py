import pytest

from poise_jax.discovery.directives import spelling

WORDS = ("shorter", "short", "length", "entropy", "accuracy", "lower", "lose")


@pytest.mark.parametrize(
    "a, b, count",
    [
        ("lenght", "length", 1),
        ("acuracy", "accuracy", 1),
        ("smarter", "shorter", 2),
        ("", "abc", 3),
        ("same", "same", 0),
        ("ca", "abc", 3),
    ],
)
def test_distance_by_hand(a, b, count):
  assert spelling.distance(a, b) == count


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("lenght", "length"),
        ("shortr", "shorter"),
        ("entorpy", "entropy"),
        ("accurcay", "accuracy"),
        ("dont", "don't"),
    ],
)
def test_clear_errors_are_mended(wrong, right):
  assert spelling.nearest(wrong, WORDS, str) == (right, [])


@pytest.mark.parametrize("word", ["smarter", "louder", "xyz", "e" * 50])
def test_other_words_are_left_alone(word):
  assert spelling.nearest(word, WORDS, str)[0] is None


def test_ambiguous_errors_list_what_is_near():
  found, near = spelling.nearest("lowse", ("lowte", "lowbe"), str)
  assert found is None and near == ["lowbe", "lowte"]
  same = spelling.nearest("lowse", ("lowte", "lowbe"), lambda word: 1)
  assert same == ("lowbe", [])


def test_hints_name_metrics():
  assert "flops" in spelling.hint("cheaper")
  assert spelling.hint("shorter") == ""
