"""What every policy-optimisation loss must do, whatever its equation.

For a loss of your own:

    mine = types.Algorithm("mine", {"clip": 0.2}, lambda hparams: {}, my_loss)
    for violation in properties.check(mine):
      print(violation)

The loss must work under `jax.jit` and `jax.grad`; it is compiled for three
shapes. `RULES` says what is demanded, `slopes` measures how a loss weighs
tokens on and off policy. Needs jax and numpy alone.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import inspect
import io

import jax
import numpy as np

from poise_jax import types
from poise_jax.algorithms import examples, measuring

Slopes = measuring.Slopes
slopes = measuring.slopes

# What a rule finds: on which batch, and the message.
_Findings = Iterator[tuple[str, str]]

_JUNK = (np.nan, np.inf, -np.inf, 1e38)
# Of the usual gradient: less than this is no signal.
_NO_SIGNAL = 1e-3


@dataclasses.dataclass(frozen=True)
class Violation:
  """A rule that a loss breaks.

  Attributes:
    rule: its name in `RULES`.
    where: the batch on which it shows.
    message: what was found, with the numbers.
    hint: what usually causes it.
  """

  rule: str
  where: str
  message: str
  hint: str

  def __str__(self) -> str:
    return f"{self.rule} ({self.where}): {self.message}. {self.hint}"


def check(
    algorithm: types.Algorithm,
    *,
    rtol: float = 2e-5,
    only: Collection[str] | str | None = None,
    group_size: int = examples.GROUP_SIZE,
) -> tuple[Violation, ...]:
  """Runs a loss on small batches and compares the results.

  What it raises on the first of them is raised here; what it raises on
  another is a violation.

  Args:
    algorithm: any loss; one that was loaded from an artifact, too.
    rtol: of values relative to the size of their terms, of gradients relative
      to the largest of them. The default fits f32.
    only: names of rules, or one name; all if left out. "types" is always checked, and what
      is not finite on an ordinary batch is always reported: without them no
      other rule means anything.
    group_size: of the batches, at least 3; for a loss that is bound to one.

  Returns:
    One violation for each difference found; empty if all rules hold.

  Raises:
    ValueError: if `only` names no rule, or `group_size` is too small.
  """
  only = (only,) if isinstance(only, str) else only
  unknown = sorted(set(only or ()) - set(RULES))
  if unknown:
    raise ValueError(
        f"`only` must name rules, got {unknown}; there are: {', '.join(RULES)}"
    )
  subject = measuring.Subject(algorithm, group_size=group_size, rtol=rtol)
  found = [_violation("types", *finding) for finding in _types(subject)]
  if not found:
    ordinary = _finite_on(subject, {"off-policy batch": subject.fields})
    found = [_violation("finite", *finding) for finding in ordinary]
  if found:
    return tuple(found)
  for name, (rule, _) in _TABLE.items():
    if only is not None and name not in only:
      continue
    try:
      found += [_violation(name, *finding) for finding in rule(subject)]
    except Exception as error:
      line = (str(error).splitlines() or [""])[0]
      message = f"it raised {type(error).__name__}: {line}"
      found.append(_violation(name, "another batch", message))
  return tuple(found)


def _violation(rule: str, where: str, message: str) -> Violation:
  return Violation(rule, where, message, _TABLE[rule][1])


def _types(subject: measuring.Subject) -> _Findings:
  """The loss and each metric are f32 scalars; the state keeps its form.

  The state is a flat dict of arrays; keys, shapes and types stay.
  """
  where = "off-policy batch"
  start = subject.start
  if not isinstance(start, dict) or not all(
      hasattr(value, "dtype") for value in start.values()
  ):
    yield where, f"init gives {start!r}, not a flat dict of arrays"
    return
  loss, state, metrics = jax.eval_shape(subject.call, start, subject.fields)
  if measuring.kind(loss) != "float32[]":
    yield where, f"the loss is {measuring.kind(loss)}, not float32[]"
  for key, value in metrics.items():
    if measuring.kind(value) != "float32[]":
      yield where, f"metrics[{key!r}] is {measuring.kind(value)}, not float32[]"
  before = {key: measuring.kind(value) for key, value in start.items()}
  after = {key: measuring.kind(value) for key, value in state.items()}
  if before != after:
    yield where, f"the state was {before}, and is {after} after a step"


def _finite(subject: measuring.Subject) -> _Findings:
  """Loss, gradients, metrics and state are finite on edge cases.

  Equal rewards, no valid answer, completions without tokens, log-ratios of
  ±30...; from the first state and in a row. Groups of one may raise.
  """
  yield from _finite_on(subject, examples.edges(subject.group_size))
  alone = {"groups of one": examples.groups_of_one()}
  with contextlib.suppress(Exception):
    yield from tuple(_finite_on(subject, alone))


def _finite_on(
    subject: measuring.Subject, batches: Mapping[str, examples.Fields]
) -> _Findings:
  carried = subject.start
  for where, fields in batches.items():
    for state in (subject.start, carried):
      result = subject.run(fields, state)
      bad = [name for name, x in result.parts() if not np.all(np.isfinite(x))]
      if bad:
        yield where, f"NaN or infinity in {', '.join(bad)}"
        carried = subject.start
        break
    else:
      carried = result.state


def _determinism(subject: measuring.Subject) -> _Findings:
  """The same inputs give the same bits, and the same program when retraced."""
  again = subject.run(subject.fields)
  for message in measuring.changed_bits(subject.expected, again):
    yield "the same batch twice", message
  if subject.traced() != subject.traced():
    yield "traced twice", "the two traces are different programs"


def _padding(subject: measuring.Subject) -> _Findings:
  """More padding changes nothing; the gradient of masked tokens is exactly 0."""
  for message in measuring.masked_slopes(subject.expected, subject.fields):
    yield "off-policy batch", message
  yield from _wide(subject, "more padding", *examples.padded(subject.fields))


def _placement(subject: measuring.Subject) -> _Findings:
  """The slots in which tokens stand change nothing, only their order does."""
  yield from _wide(subject, "rows moved", *examples.placed(subject.fields))


def _wide(
    subject: measuring.Subject,
    where: str,
    fields: examples.Fields,
    slots: np.ndarray,
) -> _Findings:
  """Compares a batch with the same tokens in other slots."""
  got = subject.run(fields)
  for message in measuring.masked_slopes(got, fields):
    yield where, message
  live = subject.fields["completion_mask"]
  back = {
      key: np.take_along_axis(got.grads[key], slots, axis=2) * live
      for key in measuring.DIFFERENTIATED
  }
  moved_back = dataclasses.replace(got, grads=back)
  for message in subject.changes(subject.expected, moved_back):
    yield where, message


def _prompt_order(subject: measuring.Subject) -> _Findings:
  """The order of the prompts changes nothing."""
  size, group = subject.fields["rewards"].shape
  same = np.tile(np.arange(group), (size, 1))
  backwards = np.arange(size)[::-1]
  yield from _reordered(subject, "prompts reversed", backwards, same)


def _completion_order(subject: measuring.Subject) -> _Findings:
  """The order of the completions inside each group changes nothing."""
  size, group = subject.fields["rewards"].shape
  turned = np.stack([np.roll(np.arange(group), p + 2) for p in range(size)])
  same = np.arange(size)
  yield from _reordered(subject, "completions rotated", same, turned)


def _reordered(
    subject: measuring.Subject,
    where: str,
    prompts: np.ndarray,
    completions: np.ndarray,
) -> _Findings:
  got = subject.run(examples.reordered(subject.fields, prompts, completions))
  grads = {f: subject.expected.grads[f] for f in measuring.DIFFERENTIATED}
  grads = examples.reordered(grads, prompts, completions)
  expected = dataclasses.replace(subject.expected, grads=grads)
  for message in subject.changes(expected, got):
    yield where, message


def _split(subject: measuring.Subject) -> _Findings:
  """Micro-batches and the scale of the loss do not change the step.

  The gradient of a policy's parameters, pulled back a few prompts at a time
  from the slopes of the whole batch, is half that of twice the loss.
  """
  fields = examples.written_by_policy(subject.fields)
  rows, weights = examples.policy_rows(fields), examples.initial_weights()
  state, grads = subject.state, subject.run(fields).grads
  cotangents = (grads["logprobs"], grads["entropy"])

  def doubled(weights: jax.Array) -> jax.Array:
    logprobs, entropy = examples.policy(weights, rows)
    written = fields | {"logprobs": logprobs, "entropy": entropy}
    return 2.0 * subject.call(state, written)[0]

  options = measuring.compiler_options()
  whole = jax.jit(jax.grad(doubled), compiler_options=options)(weights) / 2.0
  largest = np.max(np.abs(whole))
  for size in (1, 2, len(fields["rewards"])):
    total = examples.accumulated(weights, rows, cotangents, size)
    change = np.max(np.abs(total - whole))
    if not change <= subject.rtol * largest:
      yield (
          f"{size} prompts at a time",
          f"the gradient of the parameters differs by {change:.3g} from half"
          f" that of twice the loss; its size is {largest:.3g}",
      )


def _all_masked(subject: measuring.Subject) -> _Findings:
  """Without tokens loss and gradients are exactly 0, and the state stays."""
  where, fields = "no tokens", examples.without_tokens(subject.group_size)
  result = subject.run(fields)
  if not result.loss == 0:
    yield where, f"the loss is {result.loss:.3g}, not 0"
  moved = measuring.moved_state(subject.state, result.state)
  for message in (*measuring.masked_slopes(result, fields), *moved):
    yield where, message
  batches = {where: fields, "after no tokens": subject.fields}
  yield from _finite_on(subject, batches)


def _junk(subject: measuring.Subject) -> _Findings:
  """What stands in masked slots (NaN, infinity, 1e38) changes no bit."""
  for junk in _JUNK:
    got = subject.run(examples.with_junk(subject.fields, junk))
    for message in measuring.changed_bits(subject.expected, got):
      yield f"{junk:g} in masked slots", message


def _equal_rewards(subject: measuring.Subject) -> _Findings:
  """Equal rewards give no signal by rounding.

  Where it makes no difference whether all rewards are 0 or 1, it makes none
  if all are 1000.1.
  """
  zero, one, large = (
      subject.run(examples.equal_rewards(reward, subject.group_size)).grads
      for reward in (0.0, 1.0, 1000.1)
  )
  usual = np.max(np.abs(subject.expected.grads["logprobs"]))
  for key in measuring.DIFFERENTIATED:
    by_design = np.max(np.abs(one[key] - zero[key]))
    response = np.max(np.abs(large[key] - zero[key]))
    limit = _NO_SIGNAL * usual
    if by_design <= limit and not response <= limit:
      yield (
          "all rewards 1000.1",
          f"the gradient of {key} is {response:.3g} away from that at rewards"
          f" of 0, at rewards of 1 it is {by_design:.3g} away; its usual size"
          f" is {usual:.3g}",
      )


def _constants(subject: measuring.Subject) -> _Findings:
  """Nothing but log-probabilities and entropy of the policy has a gradient.

  That of old, sampler and reference log-probabilities, rewards and lengths is
  exactly 0.
  """
  for key in measuring.CONSTANTS:
    largest = np.max(np.abs(subject.expected.grads[key]))
    if not largest == 0:
      yield "off-policy batch", f"{key} gets a gradient, up to {largest:.3g}"


def _state(subject: measuring.Subject) -> _Findings:
  """The first state is always the same; a saved one continues bit for bit."""
  again = subject.first_state()
  for key, value in subject.start.items():
    if not np.array_equal(value, again[key], equal_nan=True):
      yield "init twice", f"state[{key!r}] was {value}, then {again[key]}"
  stored = io.BytesIO()
  np.savez(stored, **subject.state)
  stored.seek(0)
  with np.load(stored) as restored:
    got = subject.run(subject.fields, dict(restored))
  for message in measuring.changed_bits(subject.expected, got):
    yield "saved and restored", message


# Name -> the check, and what usually causes a violation.
_TABLE: dict[str, tuple[Callable[[measuring.Subject], _Findings], str]] = {
    "types": (
        _types,
        "Reduce with jnp.sum or jnp.mean, cast with .astype(jnp.float32), and"
        " return every key of the state.",
    ),
    "finite": (
        _finite,
        "Make the argument of a division, root, logarithm or exponential safe"
        " beforehand, with jnp.where or a clamp; jnp.where on the result alone"
        " lets NaN into the gradient.",
    ),
    "determinism": (
        _determinism,
        "A loss must not draw random numbers, nor read what changes outside"
        " its arguments.",
    ),
    "padding": (
        _padding,
        "Sum jnp.where(mask > 0, x, 0) and divide by the sum of the mask,"
        " never by T; see `aggregation`.",
    ),
    "placement": (
        _placement,
        "Count positions with jnp.cumsum(mask, axis=2), not along T.",
    ),
    "prompt-order": (_prompt_order, "Do not use the index of a group."),
    "completion-order": (
        _completion_order,
        "Do not use the index of a completion, nor the first as a baseline.",
    ),
    "split": (
        _split,
        "A custom derivative must multiply by the cotangent that it is given.",
    ),
    "all-masked": (
        _all_masked,
        "Leave out what has no tokens; see `aggregation` and `controllers`.",
    ),
    "junk": (
        _junk,
        "Select with jnp.where(mask > 0, x, 0) before any arithmetic: 0 * NaN"
        " is NaN.",
    ),
    "equal-rewards": (
        _equal_rewards,
        "Subtract the minimum of the group before its mean, as"
        " advantages.group_centered does.",
    ),
    "constants": (_constants, "Wrap them in jax.lax.stop_gradient."),
    "state": (
        _state,
        "Keep numpy types in the state (float32, int32), made from the hparams"
        " alone.",
    ),
}

# Name -> what it demands, in one sentence.
RULES: Mapping[str, str] = {
    name: (inspect.getdoc(rule) or "").partition("\n")[0]
    for name, (rule, _) in _TABLE.items()
}
