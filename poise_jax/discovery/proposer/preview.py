"""The gradients of a source of our own, before it is sent to the gate.

For sources that `rendering` wrote: they are executed in this process. What an
agent wrote never is; that is what the gate is for.
"""

import functools

from poise_jax import types
from poise_jax.candidates import fingerprint, probes, tracing

_SIZES = (
    probes.PROMPTS,
    probes.GROUP_SIZE,
    probes.TOKENS,
    probes.COMPONENTS,
)
_batches = functools.cache(probes.suite)


def fingerprint_of(source: str) -> fingerprint.Fingerprint | None:
  """Compiles a rendered source and takes its gradients; some 0.3 s.

  Returns:
    What the gate will find on the usual probes; None if the loss cannot be
    run on them, which the gate will explain.
  """
  try:
    program = tracing.execute(source)
    algorithm = types.Algorithm(
        "preview", program.hparams, program.init, program.loss
    )
    return fingerprint.of(algorithm, _batches(*_SIZES))
  except Exception:
    return None
