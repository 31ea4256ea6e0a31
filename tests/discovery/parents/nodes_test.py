import numpy as np
import pytest

from poise_jax.candidates import fingerprint
from poise_jax.discovery.parents import nodes
from poise_jax.discovery.proposer import genome as genomes


def _node(name, **fields):
  return nodes.Node(name, (), 1.0, 1, {"accuracy/a": 0.5}, **fields)


def _print(*slopes, suite="s"):
  """A fingerprint on one probe, of one prompt, completion and token."""
  values = np.asarray(slopes, np.float32).reshape(1, 2, 1, 1, 1)
  return fingerprint.Fingerprint(suite, ("a",), values)


def test_distance_is_of_what_losses_do():
  up = _node("a", fingerprint=_print(1.0, 0.0))
  longer = _node("b", fingerprint=_print(3.0, 0.0))
  down = _node("c", fingerprint=_print(-1.0, 0.0))
  assert nodes.distance(up, longer) == pytest.approx(0.0)
  assert nodes.distance(up, down) == 1.0
  # |(1, -1)| over |(1, 0)| + |(0, 1)|.
  aside = _node("d", fingerprint=_print(0.0, 1.0))
  assert nodes.distance(up, aside) == pytest.approx(2**0.5 / 2)


def test_distance_is_of_descriptions_where_nothing_was_measured():
  first, second = genomes.named("grpo"), genomes.named("dapo")
  one = _node("a", genome=first, fingerprint=_print(1.0, 0.0))
  for other in (None, _print(1.0, 0.0, suite="other")):
    two = _node("b", genome=second, fingerprint=other)
    assert nodes.distance(one, two) == genomes.distance(first, second)
  bare = _node("c")
  assert nodes.distance(one, bare) == 1.0
  assert nodes.distance(bare, _node("d")) == 0.0


def test_distances_ask_once_for_each_pair():
  asked = []

  def between(a, b):
    asked.append({a.id, b.id})
    return float(ord(a.id) + ord(b.id) - 2 * ord("a"))

  apart = nodes.distances([_node(n) for n in "abc"], between)
  assert apart.tolist() == [[0, 1, 2], [1, 0, 3], [2, 3, 0]]
  assert len(asked) == 3


def test_measured_is_all_that_an_objective_may_name():
  node = _node("a", features={"kl": 0.1}, metrics={"train_seconds": 3.0})
  assert node.measured == {
      "accuracy/a": 0.5,
      "kl": 0.1,
      "train_seconds": 3.0,
      "overall": 1.0,
  }
