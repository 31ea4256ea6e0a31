"""The two types that everything else is written in terms of; no logic.

A `RolloutBatch` is all that a policy-optimisation algorithm may see. An
`Algorithm` is a value made of pure functions over it. Baselines from the
catalogue and discovered candidates are the same type.

Axes: P prompts, G completions sampled for one prompt (its group), T tokens of
a completion (padded), K reward components.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax

from poise_jax.shapes import Array, Float, Int

HParams = Mapping[str, Any]
State = dict[str, Any]
Metrics = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RolloutBatch:
  """One whole optimizer batch of completions, grouped by prompt.

  Groups are complete, so group statistics are `mean(axis=1)` and batch
  statistics are plain means. Log-probabilities are natural logarithms, f32,
  of the sampled token at the sampling temperature, and 0 where masked.

  Attributes:
    logprobs: under the policy being optimised. Differentiable.
    entropy: of the full next-token distribution, in nats. Differentiable.
    old_logprobs: under the policy at the start of this update phase.
    sampler_logprobs: as reported by the sampler that drew the tokens.
    ref_logprobs: under the frozen reference policy.
    completion_mask: 1.0 on tokens of the completion including its end-of-text
      token, 0.0 on padding.
    rewards: scalar reward of each completion.
    correct: 1.0 where the verifier accepted the answer.
    format_valid: 1.0 where an answer could be parsed.
    truncated: 1.0 where the length limit came before end-of-text.
    lengths: number of unmasked tokens.
    staleness: optimizer updates made since the completion was sampled.
    reward_components: unweighted reward streams; component 0 is correctness,
      component 1 is format validity.
    history_pass_rate: pass rate, before this batch, of prompts like this one.
    step: rollout step, counted from 0.
    progress: fraction of the training run that is over, in [0, 1).
  """

  logprobs: Float[Array, "P G T"]
  entropy: Float[Array, "P G T"]
  old_logprobs: Float[Array, "P G T"]
  sampler_logprobs: Float[Array, "P G T"]
  ref_logprobs: Float[Array, "P G T"]
  completion_mask: Float[Array, "P G T"]
  rewards: Float[Array, "P G"]
  correct: Float[Array, "P G"]
  format_valid: Float[Array, "P G"]
  truncated: Float[Array, "P G"]
  lengths: Float[Array, "P G"]
  staleness: Float[Array, "P G"]
  reward_components: Float[Array, "P G K"]
  history_pass_rate: Float[Array, "P"]
  step: Int[Array, ""]
  progress: Float[Array, ""]


InitFn = Callable[[HParams], State]
LossFn = Callable[
    [HParams, State, RolloutBatch],
    tuple[Float[Array, ""], State, Metrics],
]


class Algorithm(NamedTuple):
  """A policy-optimisation algorithm: a pair of pure functions and constants.

  Attributes:
    name: identifier for humans.
    hparams: named constants, passed to the functions at run time, so that
      changing one never recompiles.
    init: makes the algorithm's own state from its hparams: a flat dict of
      small arrays (adaptive coefficients live here), often empty.
    loss: maps (hparams, state, batch) to (scalar to minimise, next state,
      scalar metrics). Only `batch.logprobs` and `batch.entropy` are
      differentiated.
  """

  name: str
  hparams: dict[str, float]
  init: InitFn
  loss: LossFn
