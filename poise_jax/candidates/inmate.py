"""The child's end of the jail: warm up, lock down, read, trace, answer.

Runs as `python -c "...; inmate.main()"` with three arguments: the parent's
process id, the limits as JSON, and its own import path.
"""

import json
import os
import sys
from typing import Any

from poise_jax.candidates import findings, limits, lockdown, wire

_WARM_SOURCE = """
HPARAMS = {"eps": 0.2, "decay": 0.9}
LEVELS = jnp.array([0.1, 0.2]) * 2.0

def init(hparams):
  return {"mean": 0.0, "levels": LEVELS * hparams["decay"]}

def loss(hparams, state, batch):
  mask = batch.completion_mask
  rewards = batch.rewards
  scale = jnp.std(rewards, axis=1, keepdims=True) + 1e-6
  adv = (rewards - rewards.mean(axis=1, keepdims=True)) / scale
  ratio = jnp.exp(batch.logprobs - batch.old_logprobs)
  clipped = jnp.clip(ratio, 1.0 - hparams["eps"], 1.0 + hparams["eps"])
  surrogate = jnp.minimum(ratio * adv[..., None], clipped * adv[..., None])
  weights = jax.nn.softmax(jnp.where(mask > 0, batch.entropy, -1e9), axis=-1)
  ordered = jnp.sort(rewards, axis=1)[:, ::-1]
  by_token = jnp.moveaxis(mask, 2, 0).sum((1, 2))
  _, sums = jax.lax.scan(lambda c, x: (c + x, c), jnp.zeros(()), by_token)
  value = jax.lax.cond(
      batch.progress > 0.5,
      lambda x: x.sum() / jnp.maximum(mask.sum(), 1.0),
      lambda x: jnp.mean(x),
      -surrogate * mask * jax.lax.stop_gradient(weights),
  )
  metrics = {"top": jnp.mean(ordered[:, 0]), "sums": jnp.sum(sums)}
  mean = state["mean"] * hparams["decay"] + jnp.mean(rewards)
  return value, {"mean": mean, "levels": state["levels"]}, metrics
"""
_FAILING_SOURCE = (
    "HPARAMS = {}\ninit = dict\ndef loss(h, s, b):\n  return b.x\n"
)


def main() -> None:
  """Serves one request and exits."""
  parent, bounds_text, _ = sys.argv[1:]
  lockdown.die_with_parent(int(parent))
  bounds = limits.Limits(**json.loads(bounds_text))
  answer = _take_pipe()
  try:
    _warm_up(bounds)
    filtered = lockdown.lock(bounds)
  except Exception as error:
    _send(answer, {"failed": f"{type(error).__name__}: {error}"})
    return
  _send(answer, {"ready": True, "filtered": filtered})
  header, body = wire.decode(_read_exactly, max_body=limits.SOURCE_BYTES)
  _send(answer, *serve(header, body, bounds))
  # No destructors, no atexit hooks: the source may have left some.
  os._exit(0)


def _warm_up(bounds: limits.Limits) -> None:
  """Loads all that tracing needs, by tracing."""
  import jax

  # Paths and lines of this machine would change the bytes.
  jax.config.update("jax_traceback_in_locations_limit", 0)
  from poise_jax.candidates import tracing

  tracing.trace(_WARM_SOURCE, bounds, group_size=8)
  try:
    tracing.trace(_FAILING_SOURCE, bounds, group_size=8)
  except findings.RefusedError:
    pass


def serve(
    header: dict[str, Any], body: bytes, bounds: limits.Limits
) -> tuple[dict[str, Any], bytes]:
  """Traces one source; whatever happens becomes an answer.

  Args:
    header: `group_size`, and `fallback_shape` or None.
    body: the source.
    bounds: what the answer may contain.

  Returns:
    Header and body of the answer.
  """
  from poise_jax.candidates import explain, tracing

  fallback = header["fallback_shape"]
  try:
    with explain.blaming("trace", "the source cannot be traced"):
      data = tracing.trace(
          body.decode("utf-8"),
          bounds,
          group_size=header["group_size"],
          fallback_shape=tuple(fallback) if fallback else None,
      )
  except findings.RefusedError as error:
    return {"ok": False, "finding": error.finding.to_json()}, b""
  return {"ok": True}, data


def _take_pipe() -> int:
  """Moves the answer pipe off standard output, so that printing is lost."""
  answer = os.dup(1)
  null = os.open(os.devnull, os.O_WRONLY)
  os.dup2(null, 1)
  os.close(null)
  return answer


def _send(pipe: int, header: dict[str, Any], body: bytes = b"") -> None:
  """Writes one frame, all of it."""
  data = memoryview(wire.encode(header, body))
  while data:
    data = data[os.write(pipe, data) :]


def _read_exactly(count: int) -> bytes:
  """Reads from standard input; ends the process if the parent is gone."""
  data = b""
  while len(data) < count:
    part = os.read(0, count - len(data))
    if not part:
      os._exit(0)
    data += part
  return data
