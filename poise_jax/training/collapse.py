"""When a run has broken down and the rest of it would be wasted.

Three kinds, named so that they can be counted:

    non-finite        a loss, gradient, entropy or KL that is no number
    KL collapse       for `STEPS` steps on end the policy has been `MAX_KL` nats
                      a token from the reference
    entropy collapse  the policy has `MIN_ENTROPY` nats a token left: whatever
                      it samples is the same, and teaches nothing

The bounds are far from where a run that works stays: on the embedded task it
has entropies of 0.2 to 0.6 and a KL of 0.1, with single steps above 20, for the
estimate is exponential in the log-ratio. They stop no algorithm that is merely
bad: that is for its score to say.
"""

from collections.abc import Mapping, Sequence

import numpy as np

MAX_KL = 20.0
STEPS = 3
MIN_ENTROPY = 1e-3
_FINITE = ("loss", "grad_norm", "entropy", "kl")


def found(
    columns: Mapping[str, Sequence[float]],
    step: int,
    earlier: Sequence[float] = (),
) -> str:
  """Says how a step broke down; empty if it did not.

  Args:
    columns: `loss`, `grad_norm`, `entropy` and `kl` of each update of the step;
      without a reference there is no `kl`.
    step: which step, for the message.
    earlier: KL of the steps before it.
  """
  known = {name: columns[name] for name in _FINITE if name in columns}
  for name, values in known.items():
    if not np.all(np.isfinite(values)):
      return f"non-finite {name} at step {step}"
  if "kl" in known:
    last = [*earlier, float(np.mean(known["kl"]))][-STEPS:]
    if len(last) == STEPS and min(last) > MAX_KL:
      return f"KL collapse: above {MAX_KL:g} nats a token up to step {step}"
  if min(known["entropy"], default=MIN_ENTROPY) < MIN_ENTROPY:
    return (
        f"entropy collapse: below {MIN_ENTROPY:g} nats a token at step {step}"
    )
  return ""
