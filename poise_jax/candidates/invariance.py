"""What must change nothing: padding, order, places, what padding holds.

The rules of `algorithms.properties`, on altered probes of the one shape for
which the loss is compiled. Two of them are contract, as breaking them is a
mistake whatever the algorithm: more padding changes nothing, and neither does
what stands in masked slots. The others an algorithm may mean to break; its
author is told. Metrics are not looked at: nothing is trained with them.

What stands in masked slots are ordinary numbers here. NaN and infinity, which
the catalogue must bear, no trainer writes there.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses

import jax
import numpy as np

from poise_jax import types
from poise_jax.algorithms import examples
from poise_jax.candidates import contract, findings

# Largest change, relative to the largest slope; rounding stays far below.
TOLERANCE = 1e-4
# Tokens of padding that are added to a batch to see whether they matter.
MORE_PADDING = 3

# Probes with tokens, ragged or truncated, that alterations show on.
_BASES = ("padded", "streams", "truncated")
# Of masked slots: like numbers of another token.
_JUNK = {
    "logprobs": -1.7,
    "entropy": 0.9,
    "old_logprobs": -2.9,
    "sampler_logprobs": -0.4,
    "ref_logprobs": -3.3,
}
_SHIFTED = 1000.1

_Fields = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Subject:
  """A compiled loss, and where to start.

  Attributes:
    step: from `contract.compile_step`.
    hparams: its constants.
    state: one that has seen a batch.
    batches: the probes, by name.
  """

  step: contract.StepFn
  hparams: types.HParams
  state: types.State
  batches: Mapping[str, types.RolloutBatch]

  def run(self, fields: _Fields) -> contract.Step:
    """Calls the loss on altered fields."""
    return self.step(self.hparams, self.state, _batch(fields))


# Where it shows and what changes, for each difference.
_Broken = Iterator[str]


def check(subject: Subject) -> tuple[findings.Finding, ...]:
  """Applies every rule but that on padding, see `check_padding`.

  Some forty calls of the loss, no compilation.

  Args:
    subject: a loss that `contract.check` has no fault to find with.

  Returns:
    One finding for each rule that is broken.
  """
  found = []
  for rule, (broken, level, words, hint) in _RULES.items():
    if where := next(broken(subject), None):
      found.append(findings.Finding(level, rule, f"{words}: {where}", hint))
  return tuple(found)


def check_padding(
    subject: Subject, wider: contract.StepFn
) -> tuple[findings.Finding, ...]:
  """Compares with what a loss does when there is more padding.

  Args:
    subject: the loss.
    wider: the same, compiled for what `widened` makes of a probe.

  Returns:
    A finding of level contract if there is a difference.
  """
  fields = _fields(subject.batches[_BASES[0]])
  expected = subject.run(fields)
  got = wider(subject.hparams, subject.state, _batch(_wide(fields)))
  tokens = fields["logprobs"].shape[2]
  cut = tuple(g[..., :tokens] for g in got.gradients)
  got = dataclasses.replace(got, gradients=cut)
  where = next(_changes(expected, got), None)
  if where is None:
    return ()
  return (
      findings.contract(
          "padding",
          f"{MORE_PADDING} more slots of padding change what it does: {where}",
          "divide by the number of unmasked tokens, never by a size: sum"
          " x * batch.completion_mask and divide by the sum of the mask, or"
          " use aggregation.token_mean; jnp.mean over tokens counts padding",
      ),
  )


def widened(batch: types.RolloutBatch) -> types.RolloutBatch:
  """The same batch with more padding behind every completion."""
  return _batch(_wide(_fields(batch)))


def _placement(subject: Subject) -> _Broken:
  """Puts padding before and between the tokens of a row."""
  for name, fields in _bases(subject):
    slots = _slots(fields["completion_mask"])
    keys = (*examples.TOKEN_FIELDS, "completion_mask")
    moved = fields | {
        k: np.take_along_axis(fields[k], slots, axis=2) for k in keys
    }
    expected = subject.run(fields)
    there = tuple(
        np.take_along_axis(g, slots, axis=2) for g in expected.gradients
    )
    yield from _told(
        name, dataclasses.replace(expected, gradients=there), subject.run(moved)
    )


def _prompt_order(subject: Subject) -> _Broken:
  """Reverses the prompts."""
  for name, fields in _bases(subject):
    prompts, group = fields["rewards"].shape
    same = np.tile(np.arange(group), (prompts, 1))
    yield from _reordered(subject, name, np.arange(prompts)[::-1], same)


def _completion_order(subject: Subject) -> _Broken:
  """Rotates the completions of each group."""
  for name, fields in _bases(subject):
    prompts, group = fields["rewards"].shape
    turned = np.stack(
        [np.roll(np.arange(group), p + 2) for p in range(prompts)]
    )
    yield from _reordered(subject, name, np.arange(prompts), turned)


def _reordered(
    subject: Subject, name: str, prompts: np.ndarray, completions: np.ndarray
) -> _Broken:
  fields = _fields(subject.batches[name])
  expected = subject.run(fields)
  keys = ("logprobs", "entropy")
  slopes = dict(zip(keys, map(np.asarray, expected.gradients), strict=True))
  there = examples.reordered(slopes, prompts, completions)
  got = subject.run(examples.reordered(fields, prompts, completions))
  there = tuple(there[key] for key in keys)
  yield from _told(name, dataclasses.replace(expected, gradients=there), got)


def _junk(subject: Subject) -> _Broken:
  """Writes ordinary numbers into masked slots."""
  for name, fields in _bases(subject):
    live = fields["completion_mask"] > 0
    planted = {
        k: np.where(live, fields[k], np.float32(v)) for k, v in _JUNK.items()
    }
    yield from _told(name, subject.run(fields), subject.run(fields | planted))


def _all_masked(subject: Subject) -> _Broken:
  """Looks at a batch in which no token counts."""
  fields = _fields(subject.batches["all_masked"])
  rewarded = _fields(subject.batches["mixed"])
  # Somebody was right: a mean of rewards has something to move to.
  fields |= {k: rewarded[k] for k in ("rewards", "correct")}
  result = subject.run(fields)
  if not result.loss == 0:
    yield f"the loss is {result.loss:.3g}"
  for key, value in result.state.items():
    if not np.array_equal(value, subject.state[key]):
      yield f"state {key!r} moves"


def _equal_rewards(subject: Subject) -> _Broken:
  """Shifts rewards that are all the same.

  Where it makes no difference whether all are 0 or 1, it makes none if all are
  1000.1.
  """
  fields = _fields(subject.batches["all_pass"])
  zero, one, large = (
      subject.run(_rewarded(fields, reward)).gradients
      for reward in (0.0, 1.0, _SHIFTED)
  )
  usual = np.max(
      np.abs(subject.run(_fields(subject.batches["mixed"])).gradients[0])
  )
  limit = 1e-3 * usual
  for index, name in enumerate(("logprobs", "entropy")):
    by_design = np.max(np.abs(one[index] - zero[index]))
    response = np.max(np.abs(large[index] - zero[index]))
    if by_design <= limit and not response <= limit:
      yield (
          f"the gradient of {name} is {response:.2g} away from that at 0; its"
          f" usual size is {usual:.2g}"
      )


def _rewarded(fields: _Fields, reward: float) -> _Fields:
  streams = fields["reward_components"].copy()
  streams[..., 0] = reward
  rewards = np.full_like(fields["rewards"], reward)
  return fields | {"rewards": rewards, "reward_components": streams}


def _slots(mask: np.ndarray) -> np.ndarray:
  """From where to take what stands in each slot of a row: padding first.

  In every other row one slot of padding stays behind the first token.
  """
  order = np.argsort(mask > 0, axis=2, kind="stable")
  prompts, group, tokens = mask.shape
  for p in range(prompts):
    for g in range(p % 2, group, 2):
      free = tokens - int(mask[p, g].sum())
      if 0 < free < tokens:
        order[p, g, [free - 1, free]] = order[p, g, [free, free - 1]]
  return order


def _wide(fields: _Fields) -> _Fields:
  grown = {}
  for key in (*examples.TOKEN_FIELDS, "completion_mask"):
    grown[key] = np.pad(fields[key], ((0, 0), (0, 0), (0, MORE_PADDING)))
  return fields | grown


def _bases(subject: Subject) -> Iterator[tuple[str, _Fields]]:
  for name in _BASES:
    yield name, _fields(subject.batches[name])


def _fields(batch: types.RolloutBatch) -> _Fields:
  names = (f.name for f in dataclasses.fields(batch))
  return {name: np.asarray(getattr(batch, name)) for name in names}


def _batch(fields: _Fields) -> types.RolloutBatch:
  # In one go: sixteen transfers take longer than the loss.
  return types.RolloutBatch(**jax.device_put(fields))


def _told(name: str, expected: contract.Step, got: contract.Step) -> _Broken:
  for change in _changes(expected, got):
    yield f"on the probe {name} {change}"


def _changes(expected: contract.Step, got: contract.Step) -> _Broken:
  """Words where two results differ by more than rounding."""
  # A loss may be a sum of large terms near 0; its slopes tell how large.
  terms = sum(float(np.abs(g).sum()) for g in expected.gradients)
  size = max(abs(float(expected.loss)), terms)
  parts = [("the loss", expected.loss, got.loss, size)]
  largest = max(float(np.max(np.abs(g))) for g in expected.gradients)
  names = ("the gradient of logprobs", "the gradient of entropy")
  pairs = zip(names, expected.gradients, got.gradients, strict=True)
  parts += [(name, one, other, largest) for name, one, other in pairs]
  for key, one in expected.state.items():
    one = np.asarray(one, np.float64)
    size = np.max(np.abs(one), initial=1e-2)
    parts.append((f"state {key!r}", one, got.state[key], size))
  for name, one, other, size in parts:
    change = np.max(np.abs(np.asarray(other, np.float64) - one), initial=0.0)
    if not change <= TOLERANCE * size:
      yield f"{name} changes by {change:.2g}, where its size is {size:.2g}"


_Rule = tuple[Callable[[Subject], _Broken], findings.Level, str, str]

# Name -> the check, the level, what is wrong, what to do.
_RULES: Mapping[str, _Rule] = {
    "junk": (
        _junk,
        "contract",
        "what stands in masked slots changes what it does",
        "multiply every token field by batch.completion_mask before it is"
        " summed, averaged or compared",
    ),
    "placement": (
        _placement,
        "advisory",
        "the slots in which tokens stand change what it does, not only their"
        " order",
        "count positions with jnp.cumsum(batch.completion_mask, axis=2), not"
        " along the axis",
    ),
    "prompt-order": (
        _prompt_order,
        "advisory",
        "the order of the prompts changes what it does",
        "do not use the index of a group, which means nothing",
    ),
    "completion-order": (
        _completion_order,
        "advisory",
        "the order of the completions in a group changes what it does",
        "do not use the index of a completion, nor one of them as a baseline"
        " for the others; ranks of equal rewards follow the index too",
    ),
    "all-masked": (
        _all_masked,
        "advisory",
        "without tokens it does something",
        "leave out what has no tokens: jnp.where(mask.sum() > 0, new, old)",
    ),
    "equal-rewards": (
        _equal_rewards,
        "advisory",
        f"equal rewards of {_SHIFTED} give a signal, by rounding",
        "subtract the minimum of the group before its mean, as"
        " advantages.group_centered does",
    ),
}
