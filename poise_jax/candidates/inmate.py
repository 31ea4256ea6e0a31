"""The child's end of the jail: warm up, lock down, read, work, answer.

Runs as `python -c "...; inmate.main()"` with four arguments: the parent's
process id, the limits as JSON, its own import path, and its role: `trace` for
one source, `examine` for many artifacts.
"""

import dataclasses
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
# The parent watches every request; this is for the case that it is dead.
_CPU_OF_EXAMINER = 3600
_FAILING_SOURCE = (
    "HPARAMS = {}\ninit = dict\ndef loss(h, s, b):\n  return b.x\n"
)


def main() -> None:
  """Serves one source, or artifacts until the parent has enough."""
  parent, bounds_text, _, role = sys.argv[1:]
  lockdown.die_with_parent(int(parent))
  bounds = limits.Limits(**json.loads(bounds_text))
  answer = _take_pipe()
  try:
    if role == "examine":
      grpo = _rehearse(bounds)
      bounds = dataclasses.replace(bounds, cpu_seconds=_CPU_OF_EXAMINER)
    else:
      _warm_up(bounds)
    filtered = lockdown.lock(bounds)
  except Exception as error:
    _send(answer, {"failed": f"{type(error).__name__}: {error}"})
    return
  _send(answer, {"ready": True, "filtered": filtered})
  while role == "examine":
    request = wire.decode(_read_exactly, max_body=bounds.request_bytes)
    _send(answer, *examine(*request, grpo, bounds))
    _forget()
  header, body = wire.decode(_read_exactly, max_body=limits.SOURCE_BYTES)
  _send(answer, *serve(header, body, bounds))
  # No destructors, no atexit hooks: the source may have left some.
  os._exit(0)


def _configure() -> None:
  """Has jax say nothing of this machine."""
  import jax

  # Paths and lines of this machine would change the bytes.
  jax.config.update("jax_traceback_in_locations_limit", 0)
  # Looks up the directory, which is refused and would hide the real error.
  jax.config.update("jax_traceback_filtering", "off")


def _warm_up(bounds: limits.Limits) -> None:
  """Loads all that tracing needs, by tracing."""
  _configure()
  from poise_jax.candidates import tracing

  tracing.trace(_WARM_SOURCE, bounds, group_size=8)
  try:
    tracing.trace(_FAILING_SOURCE, bounds, group_size=8)
  except findings.RefusedError:
    pass


def _rehearse(bounds: limits.Limits) -> Any:
  """Takes GRPO through all of an examination; returns its fingerprint."""
  _configure()
  from poise_jax.algorithms import catalog
  from poise_jax.candidates import examination, fingerprint, tracing

  artifact = tracing.trace(catalog.source("grpo"), bounds, group_size=8)
  rehearsal = examination.examine(artifact)
  _forget()
  return fingerprint.from_bytes(rehearsal.fingerprint)


def _forget() -> None:
  from poise_jax.candidates import examination

  examination.forget()


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
      traced = tracing.transcribe(
          body.decode("utf-8"),
          bounds,
          group_size=header["group_size"],
          fallback_shape=tuple(fallback) if fallback else None,
      )
  except findings.RefusedError as error:
    return {"ok": False, "finding": error.finding.to_json()}, b""
  texts = [traced.jaxpr.encode("utf-8", "replace")[: limits.TEXT_BYTES]]
  described = None
  if traced.canonical is not None:
    described = dataclasses.asdict(traced.canonical)
    texts.append(described.pop("text").encode("utf-8"))
  header = {
      "ok": True,
      "sizes": [len(part) for part in (traced.data, *texts)],
      "canonical": described,
  }
  return header, b"".join((traced.data, *texts))


def examine(
    header: dict[str, Any],
    body: bytes,
    grpo: Any = None,
    bounds: limits.Limits | None = None,
) -> tuple[dict[str, Any], bytes]:
  """Examines one artifact.

  Args:
    header: `artifact_bytes`, and whether it `must_learn`.
    body: the artifact, then the packed fingerprint of the parent, if any.
    grpo: fingerprint of GRPO, if it is known.
    bounds: of the artifact; the usual ones if left out.

  Returns:
    Header and body of the answer; the body is the packed fingerprint.
  """
  from poise_jax.candidates import examination

  size = header["artifact_bytes"]
  result = examination.examine(
      body[:size],
      parent=body[size:] or None,
      must_learn=header["must_learn"],
      grpo=grpo,
      bounds=bounds,
  )
  metrics = result.metrics and dataclasses.asdict(result.metrics)
  found = [finding.to_json() for finding in result.findings]
  return {"findings": found, "metrics": metrics}, result.fingerprint or b""


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
