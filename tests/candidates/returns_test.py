"""What `init` and `loss` may return, and what they may not."""

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.candidates import findings, returns


def _refused(rule, check, *values):
  with pytest.raises(findings.RefusedError) as caught:
    check(*values)
  assert caught.value.finding.rule == rule
  return caught.value.finding.message


def test_three_values_are_unpacked():
  assert returns.unpack((1, 2, 3)) == (1, 2, 3)
  for wrong in (None, [1, 2, 3], (1, 2), (1, 2, 3, 4)):
    assert "three values" in _refused("contract", returns.unpack, wrong)


@pytest.mark.parametrize("value", [0.5, jnp.float32(0.5), np.float32(0.5)])
def test_a_scalar_float_is_a_loss(value):
  loss = returns.as_loss(value)
  assert (loss.shape, loss.dtype.name, float(loss)) == ((), "float32", 0.5)


@pytest.mark.parametrize(
    ("value", "rule", "words"),
    [
        (jnp.ones(3), "scalar-loss", "shape (3,)"),
        (jnp.int32(1), "scalar-loss", "type int32"),
        (True, "scalar-loss", "type bool"),
        (jnp.float16(1), "contract", "type float16"),
        ("text", "contract", "`loss` is no array"),
        (None, "contract", "`loss` is no array"),
    ],
    ids=range(6),
)
def test_anything_else_is_none(value, rule, words):
  assert words in _refused(rule, returns.as_loss, value)


def test_a_state_becomes_ordinary_arrays():
  state = returns.as_state({"beta": 0.1, "count": 3, "on": True})
  types = {name: (a.dtype.name, a.weak_type) for name, a in state.items()}
  assert types == {
      "beta": ("float32", False),
      "count": ("int32", False),
      "on": ("bool", False),
  }
  assert returns.as_state({}) == {}


@pytest.mark.parametrize(
    ("state", "rule", "words"),
    [
        ([], "state", "not a dict"),
        ({f"k{i}": 0.0 for i in range(17)}, "state", "at most 16"),
        ({1: 0.0}, "state", "not a name"),
        ({"not a name": 0.0}, "state", "not a name"),
        ({"nested": {"x": 0.0}}, "contract", "state 'nested' is no array"),
        ({"big": jnp.zeros((64, 65))}, "state", "more than 4096"),
    ],
    ids=range(6),
)
def test_other_states_are_refused(state, rule, words):
  assert words in _refused(rule, returns.as_state, state)


def test_a_state_at_the_bound_passes():
  state = {f"k{i}": jnp.zeros(256) for i in range(16)}
  assert returns.as_state(state).keys() == state.keys()


def test_a_step_keeps_keys_shapes_and_types():
  old = returns.as_state({"beta": 0.1, "ring": jnp.zeros(4)})
  new = returns.as_next_state({"ring": jnp.ones(4), "beta": 0.2}, old)
  assert float(new["beta"]) == pytest.approx(0.2)
  for wrong, words in (
      ({"beta": 0.1}, "'ring' is float32[4] in init and absent after"),
      ({**old, "more": 0.0}, "'more' is absent in init and float32[] after"),
      ({**old, "beta": 1}, "'beta' is float32[] in init and int32[] after"),
      ({**old, "ring": jnp.ones(5)}, "float32[4] in init and float32[5] after"),
  ):
    assert words in _refused("state", returns.as_next_state, wrong, old)


def test_metrics_are_scalars_with_plain_names():
  metrics = returns.as_metrics({"kl": 0.5, "clip_ratio/low-1.5": 2})
  assert {k: float(v) for k, v in metrics.items()} == {
      "kl": 0.5,
      "clip_ratio/low-1.5": 2,
  }
  assert {v.dtype.name for v in metrics.values()} == {"float32"}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (None, "not a dict"),
        ({f"m{i}": 0.0 for i in range(65)}, "at most 64"),
        ({"<script>": 0.0}, "made of letters"),
        ({"": 0.0}, "made of letters"),
        ({"x" * 65: 0.0}, "made of letters"),
        ({3: 0.0}, "made of letters"),
        ({"kl": jnp.zeros(2)}, "metric 'kl' has shape (2,)"),
    ],
    ids=range(7),
)
def test_other_metrics_are_refused(metrics, words):
  assert words in _refused("metrics", returns.as_metrics, metrics)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({f"s{i}": ([], "float32") for i in range(17)}, "at most 16"),
        ({"s": ([4097], "float32")}, "4096"),
        ({"s": ([2], "float64")}, "float64"),
        ({"s": ([-1], "float32")}, "[-1]"),
        ({"not a name": ([], "float32")}, "not a name"),
    ],
)
def test_states_that_no_source_returned_are_refused(state, words):
  returns.check_state({"mean": ([4], "float32")})
  assert words in _refused("state", returns.check_state, state)


@pytest.mark.parametrize("names", [["a"] * 65, ["a b"], [1], {"a": 1}])
def test_names_that_no_source_returned_are_refused(names):
  returns.check_names(["kl", "clip_ratio/low"])
  _refused("metrics", returns.check_names, names)
