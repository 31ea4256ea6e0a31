"""Rules of the normal form, each on the smallest expression that shows it."""

import numpy as np
import pytest

from poise_jax.candidates import normal_form

_SHAPE = (3, 5)


@pytest.fixture
def graph():
  return normal_form.Graph(blind=False)


@pytest.fixture
def ab(graph):
  return graph.leaf("a", _SHAPE), graph.leaf("b", _SHAPE)


def _neg(term):
  return normal_form.negated(term)


def test_sums_do_not_depend_on_order_or_brackets(graph, ab):
  a, b = ab
  one = graph.number(1.0)
  left = graph.add([graph.add([a, b], _SHAPE), one], _SHAPE)
  right = graph.add([one, graph.add([b, a], _SHAPE)], _SHAPE)
  assert left == right
  assert graph.add([a, _neg(b)], _SHAPE) == _neg(
      graph.add([b, _neg(a)], _SHAPE)
  )
  assert graph.add([a, a], _SHAPE) == normal_form.Term(2.0, a.node)
  assert graph.value(graph.add([a, _neg(a)], _SHAPE)) == 0.0


def test_products_collect_powers_and_numbers(graph, ab):
  a, b = ab
  times = lambda *f: graph.multiply(f, _SHAPE)
  assert times((times((a, 1), (b, 1)), 1), (a, 1)) == times((b, 1), (a, 2))
  assert times((_neg(a), 1), (_neg(b), 1)) == times((a, 1), (b, 1))
  assert times((times((a, 1), (b, -1)), -1)) == times((b, 1), (a, -1))
  # It may be 0 / 0.
  assert times((a, 1), (a, -1)) != graph.number(1.0)
  assert times((a, 1), (graph.number(0.0), 1)) == graph.number(0.0)


def test_minimum_is_a_maximum(graph, ab):
  a, b = ab
  low = graph.min([a, b], _SHAPE)
  assert low == _neg(graph.max([_neg(b), _neg(a)], _SHAPE))
  assert graph.max([a, a], _SHAPE) == a
  numbers = [graph.number(x) for x in (1.0, 0.5)]
  assert graph.max([b, *numbers, a], _SHAPE) == graph.max(
      [a, b, numbers[0]], _SHAPE
  )
  # Where all are 1, a has 1/4 of the gradient here and 1/3 there.
  nested = graph.max([graph.max([a, b], _SHAPE), numbers[0]], _SHAPE)
  assert nested != graph.max([a, b, numbers[0]], _SHAPE)


def test_numbers_are_told_apart_as_f32():
  text = normal_form.number_text
  assert text(0.1) == text(0.1 + 1e-12) == text(float(np.float32(0.1)))
  assert text(1.0) != text(0.9999999) != text(0.99999994)
  assert text(3.0) == text(0.1 * 30) == "3" and text(-0.0) == "0"
  assert text(2.0**24 + 1) != text(2.0**24)
  assert (text(np.inf), text(-np.inf), text(np.nan)) == ("inf", "-inf", "nan")
  assert text(1e-60) != "0"


def test_units_that_cannot_divide_are_not_pulled_out(graph, ab):
  a, b = ab
  far = normal_form.Term(-np.inf, b.node)
  half = normal_form.Term(0.5, a.node)
  test = graph.apply("lt", "", [a, b], _SHAPE)
  for join in (graph.add, graph.max):
    assert join([far, a], _SHAPE) != join([far, half], _SHAPE)
  for number in (graph.number(-np.inf), graph.number(np.nan)):
    for one, other in (
        ([a, number], [half, number]),
        ([number, a], [number, half]),
    ):
      assert graph.select(test, *one, _SHAPE) != graph.select(
          test, *other, _SHAPE
      )


def test_choices(graph, ab):
  a, b = ab
  test = graph.apply("lt", "", [a, b], _SHAPE)
  other = graph.apply("not", "", [test], _SHAPE)
  assert graph.select(test, a, b, _SHAPE) == graph.select(other, b, a, _SHAPE)
  assert graph.select(test, _neg(a), _neg(b), _SHAPE) == _neg(
      graph.select(test, a, b, _SHAPE)
  )
  assert graph.select(graph.number(1.0), a, b, _SHAPE) == b
  assert graph.select(test, a, a, _SHAPE) == a


def test_views_sink_to_what_they_repeat(graph):
  a, b = graph.leaf("a", (3,)), graph.leaf("b", (3,))
  whole = graph.view(graph.add([a, b], (3,)), _SHAPE, (0, None))
  parts = [graph.view(t, _SHAPE, (0, None)) for t in (b, a)]
  assert whole == graph.add(parts, _SHAPE)
  there = graph.view(a, (3, 1), (0, None))
  assert graph.view(there, (3,), (0,)) == a
  assert graph.view(there, _SHAPE, (0, None)) == parts[1]
  other = graph.view(graph.leaf("c", (5,)), _SHAPE, (None, 0))
  assert other != graph.view(graph.leaf("c", (5,)), (5, 5), (0, None))


def test_sums_over_axes_join(graph):
  a = graph.leaf("a", (3, 5, 7))
  once = graph.total(a, [0, 1, 2])
  assert graph.total(graph.total(a, [1]), [0, 1]) == once
  assert graph.total(graph.total(a, [0]), [0]) == graph.total(a, [0, 1])
  assert graph.total(a, [0]) != graph.total(a, [1])
  assert graph.total(_neg(a), [0]) == _neg(graph.total(a, [0]))


@pytest.mark.parametrize(
    ("op", "args", "expected"),
    [
        ("exp", [1.0], np.e),
        ("logistic", [0.0], 0.5),
        ("lt", [1.0, 2.0], 1.0),
        ("sqrt", [4.0], 2.0),
        ("pow", [2.0, 3.0], 8.0),
    ],
)
def test_numbers_are_folded(graph, op, args, expected):
  got = graph.apply(op, "", [graph.number(x) for x in args], ())
  assert graph.value(got) == pytest.approx(expected)


def test_arrays_are_constants_by_value(graph):
  assert graph.array(np.full((3, 5), 2.0)) == graph.number(2.0)
  one, other = np.arange(4.0), np.arange(4.0)[::-1]
  assert graph.array(one) == graph.array(one.copy()) != graph.array(other)


def test_blind_graph_sees_no_numbers():
  graph = normal_form.Graph(blind=True)
  a = graph.leaf("a", _SHAPE)
  add = lambda x: graph.add([a, graph.number(x)], _SHAPE)
  times = lambda x: graph.multiply([(a, 1), (graph.number(x), 1)], _SHAPE)
  assert add(3.0) == add(-7.5) != a
  assert times(3.0) == times(0.1) != a
  # But 0, 1 and -1, unless they are parameters.
  assert times(1.0) == a and times(-1.0) == _neg(a)
  tuned = graph.multiply([(a, 1), (graph.parameter(1.0), 1)], _SHAPE)
  assert tuned == times(3.0)


def test_growth_is_bounded_by_the_number_of_operations(graph, ab):
  value = ab[0]
  for _ in range(500):
    value = graph.multiply([(value, 2)], _SHAPE)
  assert len(graph.nodes) < 1100
