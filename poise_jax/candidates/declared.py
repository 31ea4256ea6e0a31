"""What a source claims about its loss, checked; and what it grew out of.

A source may define `DECLARES`, a list of names from `DECLARABLE`, and
`NEUTRAL`, values of some of its constants at which its new mechanism vanishes.
A claim that is false is a finding of level "declared": the loss may train, but
not under that description.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses

import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.candidates import contract, findings, fingerprint

# Largest deviation, relative to the size of what must agree or cancel.
TOLERANCE = 1e-3

# Neither moves a correct answer across 1/2.
_SHIFT, _SCALE = 0.25, 3.0
_VACUOUS = "its gradient is 0 on the probes that would show it"
# Probes that a change of rewards or of the old policy shows on.
_REWARDED = ("mixed", "off_policy", "streams", "small_spread")


@dataclasses.dataclass(frozen=True)
class Subject:
  """A compiled loss and the probes that it is compiled for.

  Attributes:
    step: from `contract.compile_step`.
    hparams: its constants.
    state: its first state.
    batches: the probes, by name.
  """

  step: contract.StepFn
  hparams: Mapping[str, float]
  state: types.State
  batches: Mapping[str, types.RolloutBatch]

  def slopes(self, batch: types.RolloutBatch) -> np.ndarray:
    """dL/dlogprobs and dL/dentropy from the first state, [2, P, G, T]."""
    hparams = {k: np.float32(v) for k, v in self.hparams.items()}
    result = self.step(hparams, self.state, batch)
    return np.stack(result.gradients).astype(np.float64)


# What is wrong, with numbers; empty if the property holds.
Check = Callable[[Subject], str]


def check(
    subject: Subject, declares: Iterable[str]
) -> tuple[findings.Finding, ...]:
  """Checks every claim of a source; a few milliseconds each.

  Args:
    subject: the loss.
    declares: names of properties.

  Returns:
    One finding for each claim that is false, or unknown.
  """
  found = []
  for name in dict.fromkeys(declares):
    if name not in DECLARABLE:
      message = f"`DECLARES` names {name!r}, which is no property"
      hint = f"choose from {', '.join(DECLARABLE)}"
      found.append(findings.Finding("declared", "unknown-claim", message, hint))
    elif wrong := DECLARABLE[name](subject):
      message = f"it declares {name}, but {wrong}"
      hint = f"correct the loss, or take {name!r} out of DECLARES"
      found.append(findings.Finding("declared", name, message, hint))
  return tuple(found)


def holding(subject: Subject) -> tuple[str, ...]:
  """Lists the properties that hold, declared or not."""
  return tuple(name for name, fault in DECLARABLE.items() if not fault(subject))


def check_reduction(
    subject: Subject,
    neutral: Mapping[str, float],
    init: types.InitFn,
    parent: fingerprint.Fingerprint,
) -> tuple[findings.Finding, ...]:
  """Checks that the new mechanism vanishes at its neutral constants.

  Args:
    subject: the child.
    neutral: values of some of its constants.
    init: of the child; the first state may depend on the constants.
    parent: fingerprint of the parent on the same probes, at its constants.

  Returns:
    Empty if the child then does what the parent does; else one finding.
  """
  hparams = dict(subject.hparams) | dict(neutral)
  arrays = {k: jnp.float32(v) for k, v in hparams.items()}
  state = {k: jnp.asarray(v) for k, v in init(arrays).items()}
  hint = (
      "let the new term be multiplied by a constant that is 0 in NEUTRAL, or"
      " choose NEUTRAL so that what is left is the parent, with its constants"
  )
  try:
    child = fingerprint.take(subject.step, arrays, state, subject.batches)
  except ValueError:
    message = "at NEUTRAL a gradient is not finite"
    return (findings.Finding("declared", "neutral", message, hint),)
  apart = fingerprint.differences(child, parent)
  worst = sorted(
      (p for p in apart if apart[p] > fingerprint.TOLERANCE),
      key=lambda p: -apart[p],
  )
  if not worst:
    return ()
  shown = ", ".join(f"{p} by {apart[p]:.1g}" for p in worst[:4])
  message = (
      f"at NEUTRAL the gradient differs from that of the parent on"
      f" {len(worst)} of {len(apart)} probes, relative to its largest value:"
      f" {shown}"
  )
  return (findings.Finding("declared", "neutral", message, hint),)


def on_policy(batches: Mapping[str, types.RolloutBatch]) -> types.RolloutBatch:
  """Mixed groups, all policies agree, all completions are whole.

  Group 0 has one success, later ones have more; nobody fails on all.
  """
  batch = batches["near_clip"]
  fields = ("old_logprobs", "sampler_logprobs", "ref_logprobs")
  return dataclasses.replace(
      batch,
      staleness=jnp.zeros_like(batch.staleness),
      **dict.fromkeys(fields, batch.logprobs),
  )


def unit_slope(subject: Subject) -> float:
  """How long the steps are, on-policy, relative to those of GRPO.

    Σ |dL/dlogp| / mean |z|        z = (r - μ_group) / σ_group

  1 for GRPO, as `algorithms.properties.slopes` measures it.
  """
  batch = on_policy(subject.batches)
  rewards = np.asarray(batch.rewards, np.float64)
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  z = centered / rewards.std(axis=1, keepdims=True)
  return float(np.abs(subject.slopes(batch)[0]).sum() / np.abs(z).mean())


def _zero_sum(subject: Subject) -> str:
  """Within each group pushes up and down cancel, on-policy."""
  slopes = subject.slopes(on_policy(subject.batches))[0]
  total = np.abs(slopes.sum(axis=(1, 2)))
  size = np.abs(slopes).sum(axis=(1, 2))
  if not np.any(size):
    return _VACUOUS
  return _worded(
      np.max(total), np.max(size), "the sum of the pushes within a group is"
  )


def _reward_shift_invariant(subject: Subject) -> str:
  """Adding a number to all rewards changes nothing.

  `correct` says yes or no, and stays what it is.
  """
  shifted = lambda b: {
      "rewards": b.rewards + _SHIFT,
      "reward_components": b.reward_components.at[..., 0].add(_SHIFT),
  }
  return _unchanged(subject, shifted, f"rewards + {_SHIFT}")


def _reward_scale_invariant(subject: Subject) -> str:
  """Multiplying all rewards by a number changes nothing."""
  scaled = lambda b: {
      "rewards": b.rewards * _SCALE,
      "reward_components": b.reward_components * _SCALE,
  }
  return _unchanged(subject, scaled, f"rewards * {_SCALE}")


def _on_policy_only(subject: Subject) -> str:
  """Takes no notice of which policy drew the completions, nor how old it is."""
  replaced = lambda b: {
      "old_logprobs": b.old_logprobs - 0.3 * b.completion_mask,
      "sampler_logprobs": b.sampler_logprobs - 0.4 * b.completion_mask,
      "staleness": b.staleness + 4.0,
  }
  return _unchanged(subject, replaced, "other old log-probabilities")


def _reference_free(subject: Subject) -> str:
  """Takes no notice of the reference policy."""
  replaced = lambda b: {
      "ref_logprobs": b.ref_logprobs - 0.5 * b.completion_mask
  }
  return _unchanged(subject, replaced, "another reference policy")


def _unit_slope(subject: Subject) -> str:
  """On-policy its steps are as long as those of GRPO."""
  slope = unit_slope(subject)
  if abs(slope - 1.0) <= 0.01:
    return ""
  return f"on-policy its steps are {slope:.3g} times as long as those of GRPO"


DECLARABLE: Mapping[str, Check] = {
    "zero_sum": _zero_sum,
    "reward_shift_invariant": _reward_shift_invariant,
    "reward_scale_invariant": _reward_scale_invariant,
    "on_policy_only": _on_policy_only,
    "reference_free": _reference_free,
    "unit_slope": _unit_slope,
}


def _unchanged(
    subject: Subject,
    change: Callable[[types.RolloutBatch], Mapping[str, object]],
    words: str,
) -> str:
  """Compares the slopes before and after a change of some fields."""
  seen = False
  for name in _REWARDED:
    batch = subject.batches[name]
    before = subject.slopes(batch)
    after = subject.slopes(dataclasses.replace(batch, **change(batch)))
    said = f"with {words} on the probe {name} the gradient changes by"
    size = np.max(np.abs(before))
    seen = seen or size > 0
    if wrong := _worded(np.max(np.abs(after - before)), size, said):
      return wrong
  return "" if seen else _VACUOUS


def _worded(deviation: float, size: float, words: str) -> str:
  """Says what deviates, relative to a size; empty if it is rounding."""
  if deviation <= TOLERANCE * size:
    return ""
  return f"{words} {deviation:.2g}, where its size is {size:.2g}"
