"""Runs a loss on example batches, and measures how it weighs tokens."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.algorithms import examples

# Differentiated by the trainer, and what must be constant to a loss.
DIFFERENTIATED = ("logprobs", "entropy")
CONSTANTS = (
    "old_logprobs",
    "sampler_logprobs",
    "ref_logprobs",
    "rewards",
    "reward_components",
    "lengths",
)


@dataclasses.dataclass(frozen=True)
class Slopes:
  """How a loss weighs the tokens of a completion, measured.

  The first four are dL/dlogp, summed over one completion whose tokens all
  have the same ratio π/π_old, relative to the same sum at ratio 1. The policy
  is the same in both; its old and sampler log-probabilities differ. All other
  completions are on-policy. So the PPO clip gives 0 where it binds and the
  ratio elsewhere, plain REINFORCE gives 1 everywhere. None where the sum at
  ratio 1 is 0.

  Attributes:
    low_good: at ratio 0.5, of a completion that succeeded in a mixed group.
    low_bad: at ratio 0.5, of one that failed.
    high_good: at ratio 1.5, of one that succeeded.
    high_bad: at ratio 1.5, of one that failed.
    unit_slope: Σ |dL/dlogp| over a batch of mixed groups, all on-policy and
      of equal lengths, divided by the mean |z| of its rewards, where z is the
      distance to the group mean in group deviations. 1 for GRPO; another loss
      takes steps that many times as long at the same learning rate. None if
      nothing has a gradient.
    raises_good: whether a small step against the gradient, on-policy, moves
      no completion of a mixed group the wrong way: the summed log-probability
      does not fall where it succeeded and does not rise where it failed. None
      if nothing has a gradient.
  """

  low_good: float | None
  low_bad: float | None
  high_good: float | None
  high_bad: float | None
  unit_slope: float | None
  raises_good: bool | None


@dataclasses.dataclass(frozen=True)
class Result:
  """What one call of a loss gives; gradients by field of the batch."""

  loss: np.ndarray
  grads: dict[str, np.ndarray]
  state: dict[str, np.ndarray]
  metrics: dict[str, np.ndarray]

  def parts(self) -> Iterator[tuple[str, np.ndarray]]:
    """Names what a trainer uses of it."""
    yield "the loss", self.loss
    for field in DIFFERENTIATED:
      yield f"the gradient of {field}", self.grads[field]
    for key, value in self.state.items():
      yield f"state[{key!r}]", value
    for key, value in self.metrics.items():
      yield f"metrics[{key!r}]", value


class Subject:
  """A loss under test, compiled once for each shape that it meets.

  Attributes:
    algorithm: what is tested.
    group_size: of its batches.
    rtol: relative tolerance of `changes`.
    hparams: its constants, as f32.
    start: its first state.
    fields: the batch that others are compared with.
  """

  def __init__(
      self, algorithm: types.Algorithm, *, group_size: int, rtol: float = 0.0
  ):
    if group_size < 3:
      raise ValueError(
          f"`group_size` must be at least 3, got {group_size}; groups of one"
          " are among the edge cases anyway"
      )
    self.algorithm = algorithm
    self.group_size = group_size
    self.rtol = rtol
    self.hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
    self.start = self.first_state()
    self.fields = examples.off_policy(group_size)

  def first_state(self) -> Any:
    """Makes the first state anew."""
    state = self.algorithm.init(self.hparams)
    return jax.device_get(jax.tree.map(jnp.asarray, state))

  def call(
      self, state: types.State, fields: Mapping[str, Any]
  ) -> tuple[jax.Array, types.State, types.Metrics]:
    """Calls the loss as it is, to be traced."""
    state, fields = jax.tree.map(jnp.asarray, (state, dict(fields)))
    return self.algorithm.loss(
        self.hparams, state, types.RolloutBatch(**fields)
    )

  def run(
      self, fields: examples.Fields, state: types.State | None = None
  ) -> Result:
    """Gives value, gradients, next state and metrics.

    Args:
      fields: the batch.
      state: to start from, `self.state` if left out.
    """
    state = self.state if state is None else state
    moving = {key: fields[key] for key in DIFFERENTIATED + CONSTANTS}
    (loss, (state, metrics)), grads = jax.device_get(
        _compiled(self.algorithm.loss)(moving, self.hparams, state, fields)
    )
    return Result(loss, grads, state, metrics)

  @functools.cached_property
  def state(self) -> types.State:
    """A state that has seen a batch."""
    return self.run(self.fields, self.start).state

  @functools.cached_property
  def expected(self) -> Result:
    """The result that others are compared with."""
    return self.run(self.fields)

  def traced(self) -> str:
    """Writes down the program; the address of an object is no part of it."""
    # A new function each time: jax does not trace twice what it has traced.
    program = jax.make_jaxpr(lambda *args: self.call(*args))(
        self.state, self.fields
    )
    constants = [np.asarray(value).tobytes() for value in program.consts]
    return re.sub("0x[0-9a-f]+", "", str(program)) + str(constants)

  def changes(self, expected: Result, got: Result) -> Iterator[str]:
    """Words where two results differ by more than rounding."""
    # A loss may be a sum of large terms near 0; its slopes tell how large.
    terms = sum(float(np.abs(expected.grads[f]).sum()) for f in DIFFERENTIATED)
    pairs = zip(expected.parts(), got.parts(), strict=True)
    for (name, one), (_, other) in pairs:
      size = np.max(np.abs(one), initial=0.0)
      slack = self.rtol * size
      if name == "the loss":
        slack = self.rtol * max(size, terms)
      elif not name.startswith("the gradient"):
        slack += 1e-6
      change = np.max(np.abs(other - one), initial=0.0)
      if not change <= slack:
        yield f"{name} changes by {change:.3g}, its size is {size:.3g}"


def masked_slopes(result: Result, fields: examples.Fields) -> Iterator[str]:
  """Words which masked tokens have a gradient."""
  masked = fields["completion_mask"] == 0
  for key in DIFFERENTIATED:
    largest = np.max(np.abs(result.grads[key][masked]), initial=0.0)
    if not largest == 0:
      yield f"masked tokens get a gradient of {key}, up to {largest:.3g}"


def moved_state(before: types.State, after: types.State) -> Iterator[str]:
  """Words which values of the state are not what they were."""
  for key, value in before.items():
    if not np.array_equal(value, after[key]):
      yield f"state[{key!r}] was {value}, and is {after[key]}"


def changed_bits(expected: Result, got: Result) -> Iterator[str]:
  """Words where two results differ at all."""
  pairs = zip(expected.parts(), got.parts(), strict=True)
  for (name, one), (_, other) in pairs:
    if not np.array_equal(one, other, equal_nan=True):
      change = np.max(np.abs(other - one), initial=0.0)
      yield f"{name} changes by {change:.3g}, and must not change a bit"


def kind(value: Any) -> str:
  """Words type and shape: float32[4,7]."""
  if not hasattr(value, "dtype"):
    return type(value).__name__
  return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def slopes(
    algorithm: types.Algorithm, *, group_size: int = examples.GROUP_SIZE
) -> Slopes:
  """Measures how a loss weighs tokens; see `Slopes`.

  Args:
    algorithm: any loss, see `properties.check`.
    group_size: of the batch, at least 3.
  """
  subject = Subject(algorithm, group_size=group_size)
  fields = examples.on_policy(group_size)
  slope = lambda fields: subject.run(fields, subject.start).grads["logprobs"]
  here = slope(fields).astype(np.float64)
  pushes = -here.sum(axis=2)
  rounding = 1e-6 * np.max(np.abs(pushes))

  def relative(ratio: float, index: tuple[int, int]) -> float | None:
    if np.abs(pushes[index]) <= rounding:
      return None
    moved = dict(fields)
    for key in ("old_logprobs", "sampler_logprobs"):
      moved[key] = fields[key].copy()
      moved[key][index] -= np.float32(np.log(ratio))
    there = -float(slope(moved)[index].sum())
    # Adding 0 turns -0 into 0.
    return there / float(pushes[index]) + 0.0

  good, bad = (0, 1), (0, 0)
  cells = [relative(ratio, i) for ratio in (0.5, 1.5) for i in (good, bad)]
  if not np.any(here):
    return Slopes(*cells, unit_slope=None, raises_good=None)
  rewards = fields["rewards"]
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  z = centered / rewards.std(axis=1, keepdims=True)
  right = np.where(fields["correct"] > 0, pushes, -pushes) >= -rounding
  return Slopes(
      *cells,
      unit_slope=float(np.abs(here).sum() / np.abs(z).mean()),
      raises_good=bool(np.all(right)),
  )


def compiler_options() -> dict[str, Any] | None:
  """Fast code is not worth the wait for a dozen runs on tiny arrays."""
  on_cpu = jax.default_backend() == "cpu"
  return {"xla_backend_optimization_level": 0} if on_cpu else None


# Bounded: compiled programs are large.
@functools.lru_cache(maxsize=8)
def _compiled(loss_fn: types.LossFn) -> Callable[..., Any]:
  """Compiles the value and all gradients of a loss."""

  def loss(
      moving: Mapping[str, Any],
      hparams: types.HParams,
      state: types.State,
      fields: Mapping[str, Any],
  ) -> tuple[Any, Any]:
    batch = types.RolloutBatch(**(dict(fields) | dict(moving)))
    value, *rest = loss_fn(hparams, state, batch)
    return value, tuple(rest)

  return jax.jit(
      jax.value_and_grad(loss, has_aux=True),
      compiler_options=compiler_options(),
  )
