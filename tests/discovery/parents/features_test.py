import numpy as np
import pytest

from poise_jax.discovery.parents import features
from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.proposer import genome as genomes


def _node(name, parents=(), **fields):
  return nodes_lib.Node(name, tuple(parents), 1.0, 1, {}, **fields)


def test_how_training_went(make):
  curve = {
      "reward": [0.1, 0.4, 0.4, 0.7],
      "kl": [0.0, 0.5, 0.2, 0.1],
      "entropy": [2.0, 1.0, 1.0, 0.5],
      "completions/mean_length": [9.0, 9.0, 9.0, 5.0],
      "clip_ratio/region_mean": [0.0, 0.0, 0.0, 0.25],
  }
  metrics = {"overall": 50.0, "valid_rate": 0.5}
  runs = [
      make.evaluation(0, 0, 50.0, curve=curve, metrics=metrics),
      make.evaluation(0, 1, 50.0, curve={"kl": [0.3]}, metrics={}),
  ]
  # The least-squares slope of 0.1, 0.4, 0.4, 0.7 is 0.18 a step.
  assert features.of_runs(runs) == pytest.approx(
      {
          "clip_fraction": 0.25,
          "entropy": 0.5,
          "kl": 0.2,
          "kl_max": 0.4,
          "response_length": 5.0,
          "reward_slope": 0.54,
          "valid_rate": 0.5,
      }
  )
  assert features.of_runs([]) == {}


def test_coordinates_have_the_distances_they_were_made_of():
  points = np.random.default_rng(0).normal(size=(8, 3))
  apart = np.linalg.norm(points[:, None] - points[None], axis=2)
  placed = features.coordinates(apart)
  assert placed.shape == (8, 3)
  again = np.linalg.norm(placed[:, None] - placed[None], axis=2)
  np.testing.assert_allclose(again, apart, atol=1e-9)
  assert features.coordinates(apart, 2).shape == (8, 2)
  assert features.coordinates(np.zeros((4, 4))).shape == (4, 0)


def test_columns_by_hand():
  nodes = [
      _node("r", features={"entropy": 1.0}),
      _node("a", ["r"], features={"entropy": 3.0}),
      _node("b", ["a"]),
  ]
  scores = np.asarray([50.0, 53.0, 50.0])
  apart = np.zeros((3, 3))
  got = features.matrix(nodes, scores, np.zeros((3, 2)), apart)
  # U; rise 0, 3, -3; depth; children 1, 1, 0; entropy 1, 3, 2 (filled).
  raw = np.asarray(
      [[50, 0, 0, 1, 1], [53, 3, 1, 1, 3], [50, -3, 2, 0, 2]], float
  )
  expected = (raw - raw.mean(0)) / raw.std(0)
  np.testing.assert_allclose(got, expected, atol=1e-12)


def test_mechanisms_count_as_four_columns_at_most():
  names = ("grpo", "dapo", "rloo", "dr_grpo", "bn_grpo", "vm_av_grpo")
  nodes = [_node(n, genome=genomes.named(n)) for n in names]
  size = len(names)
  plain = features.matrix(
      [_node(n) for n in names],
      np.zeros(size),
      np.zeros((size, 1)),
      np.zeros((size, size)),
  )
  assert plain.shape == (size, 0)
  got = features.matrix(
      nodes, np.zeros(size), np.zeros((size, 1)), np.zeros((size, size))
  )
  assert got.shape[1] > 4
  assert got.var(axis=0).sum() == pytest.approx(4.0)


def test_root_alone_has_no_features():
  assert features.matrix(
      [_node("r")], np.ones(1), np.ones((1, 3)), np.zeros((1, 1))
  ).shape == (1, 0)
