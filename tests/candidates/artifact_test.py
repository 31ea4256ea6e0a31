"""An artifact becomes an Algorithm that computes what its source says."""

import dataclasses
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.candidates import artifact, findings, limits, probes, tracing

_SOURCE = """
HPARAMS = {"scale": 2.0, "decay": 0.5}
def init(hparams):
  return {"mean": hparams["decay"] * 4.0}
def loss(hparams, state, batch):
  adv = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
  weights = batch.completion_mask * adv[..., None]
  value = -hparams["scale"] * jnp.sum(weights * batch.logprobs)
  mean = hparams["decay"] * state["mean"] + jnp.mean(batch.rewards)
  return value + mean, {"mean": mean}, {"mean": mean}
"""


@pytest.fixture(scope="module")
def data():
  return tracing.trace(_SOURCE, limits.Limits(), group_size=8)


def _expected(batch, scale, mean):
  rewards = np.asarray(batch.rewards, np.float64)
  adv = rewards - rewards.mean(axis=1, keepdims=True)
  gradient = -scale * np.asarray(batch.completion_mask) * adv[..., None]
  mean = 0.5 * mean + rewards.mean()
  return np.sum(gradient * np.asarray(batch.logprobs)) + mean, gradient, mean


@pytest.mark.parametrize("sizes", [(4, 8, 12, 2), (3, 5, 7, 3)])
def test_loss_and_gradient_match_the_equation_at_any_size(data, sizes):
  algorithm = artifact.load(data, "mine")
  batch = probes.suite(*sizes)["mixed"]
  hparams = algorithm.hparams | {"scale": 3.0}
  state = algorithm.init(hparams)
  assert state["mean"] == 2.0

  @jax.jit
  def gradient(logprobs):
    def objective(logprobs):
      moved = dataclasses.replace(batch, logprobs=logprobs)
      loss, state_, metrics = algorithm.loss(hparams, state, moved)
      return loss, (state_, metrics)

    return jax.value_and_grad(objective, has_aux=True)(logprobs)

  (loss, (new_state, metrics)), slope = gradient(batch.logprobs)
  value, expected, mean = _expected(batch, 3.0, 2.0)
  np.testing.assert_allclose(loss, value, rtol=1e-5)
  np.testing.assert_allclose(slope, expected, atol=1e-6)
  np.testing.assert_allclose(new_state["mean"], mean, rtol=1e-6)
  np.testing.assert_allclose(metrics["mean"], mean, rtol=1e-6)


def test_only_logprobs_and_entropy_carry_gradient(data):
  algorithm = artifact.load(data, "mine")
  batch = probes.suite()["mixed"]

  def objective(rewards, scale):
    moved = dataclasses.replace(batch, rewards=rewards)
    hparams = algorithm.hparams | {"scale": scale}
    return algorithm.loss(hparams, {"mean": jnp.float32(1)}, moved)[0]

  by_reward, by_scale = jax.grad(objective, argnums=(0, 1))(batch.rewards, 2.0)
  assert not np.any(by_reward) and by_scale == 0.0


def test_is_an_algorithm_with_the_declared_constants(data):
  algorithm = artifact.load(data, "mine")
  assert isinstance(algorithm, types.Algorithm)
  assert algorithm.name == "mine"
  assert algorithm.hparams == {"decay": 0.5, "scale": 2.0}
  with pytest.raises(ValueError, match="`hparams`.*'decay', 'scale'"):
    algorithm.init({"decay": 0.5})


def test_hash_covers_the_constants(data):
  other = _SOURCE.replace("2.0", "2.5")
  changed = tracing.trace(other, limits.Limits(), group_size=8)
  assert artifact.sha256(changed) != artifact.sha256(data)
  assert len(artifact.sha256(data)) == 64


def test_fields_are_those_of_the_batch():
  names = [f.name for f in dataclasses.fields(types.RolloutBatch)]
  assert list(artifact.BATCH_FIELDS) == names
  batch = probes.suite(2, 3, 5, 4)["mixed"]
  sizes = {"P": 2, "G": 3, "T": 5, "K": 4}
  for name, (axes, dtype) in artifact.BATCH_FIELDS.items():
    field = getattr(batch, name)
    assert field.shape == tuple(sizes[a] for a in axes), name
    assert field.dtype == dtype, name


def _with_header(data, **changes):
  start = len(b"poise-jax artifact\n")
  lengths = struct.unpack(">III", data[start : start + 12])
  body = data[start + 12 :]
  header = json.loads(body[: lengths[0]]) | changes
  loss = body[lengths[0] : lengths[0] + lengths[1]]
  init = body[lengths[0] + lengths[1] :]
  text = json.dumps(header).encode()
  packed = struct.pack(">III", len(text), *lengths[1:])
  return data[:start] + packed + text + loss + init


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: b"",
        lambda d: b"something else",
        lambda d: d[:-1],
        lambda d: d + b"\0",
        lambda d: d[:200] + b"\xff" * 400 + d[600:],
        lambda d: _with_header(d, contract_version=2),
        lambda d: _with_header(d, hparams={"scale": 1.0}),
        lambda d: _with_header(d, hparams={"scale": "x", "decay": 1.0}),
        lambda d: _with_header(d, state={"mean": [[2], "float32"]}),
        lambda d: _with_header(d, metrics=["other"]),
        lambda d: _with_header(d, shapes={"P": 4, "G": 8, "T": 12, "K": 2}),
        lambda d: _with_header(d, surprise=1),
    ],
    ids=range(12),
)
def test_refuses_damaged_or_forged_bytes(data, damage):
  assert artifact.read(_with_header(data)).metadata.metrics == ["mean"]
  with pytest.raises(findings.RefusedError):
    artifact.read(damage(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"state": {"mean": ([9999], "float32")}},
        {"metrics": [f"m{i}" for i in range(65)]},
        {"declares": ["x"] * 17},
        {"hparams": {f"h{i}": 1.0 for i in range(65)}},
        {"hparams": {"scale": float("nan"), "decay": 0.5}},
        {"neutral": {"other": 1.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_header_beyond_the_limits_of_a_source_is_refused(data, changes):
  start = len(b"poise-jax artifact\n")
  sizes = struct.unpack(">III", data[start : start + 12])
  body = data[start + 12 :]
  text = json.dumps(json.loads(body[: sizes[0]]) | changes).encode()
  packed = struct.pack(">III", len(text), *sizes[1:])
  forged = data[:start] + packed + text + body[sizes[0] :]
  with pytest.raises(findings.RefusedError):
    artifact.header(forged)
