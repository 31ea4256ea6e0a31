"""Named algorithms: the baselines, and the registry over all entries.

An entry is one function `<name>_loss(hparams, state, batch)` with its
constants beside it. Its body uses the atoms and `jnp` alone, so the text of
the function is also a valid candidate: `source` gives it in that form.
"""

import ast
import dataclasses
import difflib
import inspect
import math
import numbers
import textwrap

import jax.numpy as jnp
from jaxtyping import Array, Float

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    canaries,
    kl,
    poise,
    ratios,
)

GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "kl_coef": 0.0,
}
DR_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "length_constant": 31.0,
}
RLOO_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.2}
DAPO_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.28, "epsilon": 1e-6}
GRPO_FORMAT_PENALTY_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "format_penalty": 1.0,
}


@dataclasses.dataclass(frozen=True)
class Entry:
  """What the catalogue knows about one algorithm.

  Attributes:
    name: what `make` calls it.
    family: baseline, poise (found by that search) or canary.
    title: what it does, in one sentence.
    equation: the advantage and the loss.
    source: paper and address.
    defaults: its constants.
    loss: the loss function.
  """

  name: str
  family: str
  title: str
  equation: str
  source: str
  defaults: dict[str, float]
  loss: types.LossFn


def names() -> tuple[str, ...]:
  """Lists all entries, the usual root of a search first."""
  return tuple(_ENTRIES)


def describe(name: str) -> Entry:
  """Returns what is known about an entry.

  The words come from the docstring of its loss, which has the title, then
  the equations, and ends with "Source: ...".

  Raises:
    ValueError: if `name` is not in the catalogue.
  """
  if name not in _ENTRIES:
    raise ValueError(_unknown("`name` must be an algorithm", name, names()))
  family, defaults, loss = _ENTRIES[name]
  text = inspect.getdoc(loss)
  title, equation, *_ = text.split("\n\n")
  return Entry(
      name=name,
      family=family,
      title=title,
      equation=textwrap.dedent(equation),
      source=" ".join(text.rpartition("Source: ")[2].split()),
      defaults=dict(defaults),
      loss=loss,
  )


def make(name: str, **hparams: float | int) -> types.Algorithm:
  """Builds an algorithm from an entry, with some of its constants replaced.

  Args:
    name: one of `names()`.
    **hparams: constants that differ from the defaults of the entry.

  Raises:
    ValueError: if `name` or a constant is unknown, or a value is not finite.
  """
  entry = describe(name)
  for key, value in hparams.items():
    if key not in entry.defaults:
      rule = f"`hparams` must be constants of {name}"
      raise ValueError(_unknown(rule, key, tuple(entry.defaults)))
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
      raise ValueError(
          f"`{key}` of {name} must be a finite number, got {value!r}; its"
          f" default is {entry.defaults[key]!r}"
      )
  values = entry.defaults | {key: float(v) for key, v in hparams.items()}
  return types.Algorithm(name, values, _no_state, entry.loss)


def source(name: str) -> str:
  """Writes an entry as the source of a candidate: HPARAMS, init, loss.

  The text of the loss function with its annotations removed and its
  docstring moved to the top. Executed with `jnp`, `jax` (for `jax.nn` and
  `jax.lax`) and the atom modules in scope, it defines the same algorithm.

  Raises:
    ValueError: if `name` is not in the catalogue.
  """
  entry = describe(name)
  text = inspect.getsource(entry.loss)
  (function,) = ast.parse(text).body
  docstring = function.body[0]
  lines = text.splitlines()
  summary = lines[docstring.lineno - 1 : docstring.end_lineno]
  constants = (f'    "{k}": {v!r},' for k, v in entry.defaults.items())
  return "\n".join(
      [
          textwrap.dedent("\n".join(summary)),
          "",
          "HPARAMS = {",
          *constants,
          "}",
          "",
          "",
          "def init(hparams):",
          "  return {}",
          "",
          "",
          "def loss(hparams, state, batch):",
          *lines[docstring.end_lineno :],
          "",
      ]
  )


def grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO: normalise by the group, clip the ratio, stay near the reference.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  σ is the population deviation. A group of equal rewards gives no gradient.
  Published with the mean over tokens taken in each completion first; here
  every token weighs the same, as current trainers default to.

  Source: DeepSeekMath (https://arxiv.org/abs/2402.03300).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
      "kl": aggregation.token_mean(divergence, mask),
  }
  return loss, state, metrics


def dr_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Dr. GRPO: no division by the deviation, none by the length.

    A = r - μ,   loss = Σ m ℓ_clip(A) / (N length_constant)

  The default length_constant is the completion budget of the embedded task;
  set it to the budget of yours.

  Source: Understanding R1-Zero-Like Training
  (https://arxiv.org/abs/2503.20783).
  """
  mask = batch.completion_mask
  adv = advantages.group_centered(batch.rewards)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.constant_norm(
      surrogate, mask, length_constant=hparams["length_constant"]
  )
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics


def rloo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """RLOO: each completion against the mean of the others in its group.

    A_i = r_i - mean_{j≠i} r_j,   loss = token_mean( ℓ_clip(A) )

  The clipped ratio replaces the plain log-probability of the paper, so that
  several updates may be made with one batch. Its KL term in the reward is
  left out.

  Source: Back to Basics (https://arxiv.org/abs/2402.14740).
  """
  mask = batch.completion_mask
  adv = advantages.leave_one_out(batch.rewards)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics


def dapo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DAPO, the loss part: a wider upper clip, every token weighs the same.

    A = (r - μ) / (σ + epsilon),   loss = token_mean( ℓ_clip(A) )

  The wider upper clip leaves rare good tokens room to grow. Dynamic sampling
  and overlong penalties belong to the sampler and the reward.

  Source: DAPO (https://arxiv.org/abs/2503.14476).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics


def grpo_format_penalty_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO on a reward that is lowered where no answer could be parsed.

    r' = r - format_penalty (1 - valid)
    A = (r' - μ') / (σ' + epsilon),   loss = token_mean( ℓ_clip(A) )

  A group that mixes wrong and invalid answers rewards the wrong ones.

  Source: the common baseline with a format reward; the size of the penalty
  is our choice.
  """
  mask = batch.completion_mask
  penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
  adv = advantages.group_normalized(
      batch.rewards - penalty, epsilon=hparams["epsilon"]
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics


def _no_state(hparams: types.HParams) -> types.State:
  """Makes the state of an algorithm that has none."""
  del hparams
  return {}


def _unknown(rule: str, given: str, known: tuple[str, ...]) -> str:
  """Words the refusal of a name that is not among the known ones."""
  close = difflib.get_close_matches(given, known, n=1)
  hint = f" (did you mean {close[0]!r}?)" if close else ""
  return f"{rule}, got {given!r}{hint}; there are: {', '.join(known)}"


_ENTRIES = {
    "grpo": ("baseline", GRPO_HPARAMS, grpo_loss),
    "dr_grpo": ("baseline", DR_GRPO_HPARAMS, dr_grpo_loss),
    "rloo": ("baseline", RLOO_HPARAMS, rloo_loss),
    "dapo": ("baseline", DAPO_HPARAMS, dapo_loss),
    "grpo_format_penalty": (
        "baseline",
        GRPO_FORMAT_PENALTY_HPARAMS,
        grpo_format_penalty_loss,
    ),
    "bn_grpo": ("poise", poise.BN_GRPO_HPARAMS, poise.bn_grpo_loss),
    "av_grpo": ("poise", poise.AV_GRPO_HPARAMS, poise.av_grpo_loss),
    "vm_av_grpo": ("poise", poise.VM_AV_GRPO_HPARAMS, poise.vm_av_grpo_loss),
    "zero_gradient": (
        "canary",
        canaries.ZERO_GRADIENT_HPARAMS,
        canaries.zero_gradient_loss,
    ),
    "sign_flipped": (
        "canary",
        canaries.SIGN_FLIPPED_HPARAMS,
        canaries.sign_flipped_loss,
    ),
}
