"""Times what is built in, side by side.

python launch/benchmark.py --losses=
python launch/benchmark.py --losses='gspo|tpo' --prompts=256 --json=-

Absolute times depend on the machine and on what else it does. Every round
times all losses one after the other, and a loss is judged by its ratio to
plain GRPO in the same round: the median and the quartiles over the rounds.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib
import re
import statistics
import sys
import time
from typing import Any, NoReturn

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.algorithms import catalog

_LOSSES = flags.DEFINE_string(
    "losses", None, "Times the losses whose names match this expression."
)
_PROMPTS = flags.DEFINE_integer("prompts", 64, "Prompts in a batch.", 1)
_GROUP_SIZE = flags.DEFINE_integer("group_size", 8, "Completions a prompt.", 1)
_TOKENS = flags.DEFINE_integer("tokens", 1024, "Tokens a completion.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 21, "Rounds.", 1)
_JSON = flags.DEFINE_string("json", None, "File for the figures; - prints.")

REFERENCE = "grpo"


def make_batch(
    prompts: int, group_size: int, tokens: int, seed: int = 0
) -> types.RolloutBatch:
  """Makes a batch of uneven lengths, a little off-policy, half correct."""
  rng = np.random.default_rng(seed)
  shape = (prompts, group_size, tokens)
  lengths = rng.integers(1, tokens + 1, shape[:2])
  mask = np.arange(tokens) < lengths[..., None]
  old = -rng.exponential(0.5, shape)
  correct = rng.uniform(size=shape[:2]) < rng.uniform(size=(prompts, 1))
  valid = correct | (rng.uniform(size=shape[:2]) < 0.9)
  drift = rng.normal(0.0, 0.1, shape)

  def f32(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)

  return types.RolloutBatch(
      logprobs=f32((old + drift) * mask),
      entropy=f32(rng.uniform(0.0, 2.0, shape) * mask),
      old_logprobs=f32(old * mask),
      sampler_logprobs=f32((old + 0.1 * drift) * mask),
      ref_logprobs=f32((old - drift) * mask),
      completion_mask=f32(mask),
      rewards=f32(correct),
      correct=f32(correct),
      format_valid=f32(valid),
      truncated=f32(lengths == tokens),
      lengths=f32(lengths),
      staleness=jnp.zeros(shape[:2]),
      reward_components=f32(np.stack([correct, valid], axis=-1)),
      history_pass_rate=f32(rng.uniform(size=prompts)),
      step=jnp.asarray(1, jnp.int32),
      progress=jnp.asarray(0.1, jnp.float32),
  )


def compile_loss(
    algorithm: types.Algorithm, batch: types.RolloutBatch
) -> Callable[[], Any]:
  """Compiles value, gradients, next state and metrics on one batch."""
  state = algorithm.init(algorithm.hparams)

  def objective(
      tokens: Mapping[str, jax.Array],
      hparams: types.HParams,
      state: types.State,
      batch: types.RolloutBatch,
  ) -> tuple[jax.Array, Any]:
    moved = types.RolloutBatch(**(vars(batch) | tokens))
    loss, *rest = algorithm.loss(hparams, state, moved)
    return loss, rest

  step = jax.jit(jax.value_and_grad(objective, has_aux=True))
  tokens = {"logprobs": batch.logprobs, "entropy": batch.entropy}
  arguments = jax.device_put((tokens, algorithm.hparams, state, batch))
  compiled = step.lower(*arguments).compile()
  return lambda: jax.block_until_ready(compiled(*arguments))


def measure(
    work: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
  """Times every function once a round, in seconds."""
  for function in work.values():
    function()
  times: dict[str, list[float]] = {name: [] for name in work}
  for index in range(rounds):
    for name, function in work.items():
      start = time.perf_counter()
      function()
      times[name].append(time.perf_counter() - start)
    if sys.stderr.isatty():
      print(f"\rround {index + 1}/{rounds}", end="", file=sys.stderr)
  return times


def summarise(
    times: Mapping[str, Sequence[float]], reference: str
) -> dict[str, dict[str, float]]:
  """Reduces times to medians, and to ratios to the reference by round."""
  summary = {}
  for name, values in times.items():
    pairs = zip(values, times[reference], strict=True)
    ratios = [own / other for own, other in pairs]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    summary[name] = {
        "milliseconds": 1e3 * statistics.median(values),
        "ratio": float(middle),
        "ratio_low": float(low),
        "ratio_high": float(high),
    }
  return summary


def table(summary: Mapping[str, Mapping[str, float]]) -> str:
  """Writes the figures as Markdown, slowest first."""
  rows = [
      "| loss | ms | x grpo (quartiles) |",
      "|---|---|---|",
  ]
  for name, row in sorted(summary.items(), key=lambda x: -x[1]["ratio"]):
    spread = f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
    rows.append(
        f"| {name} | {row['milliseconds']:.2f} | {row['ratio']:.2f} ({spread}) |"
    )
  return "\n".join(rows)


def losses(pattern: str) -> dict[str, Any]:
  """Times the members of the catalogue that match, and the reference."""
  names = [n for n in catalog.names() if re.search(pattern, n)]
  if not names:
    fail(f"--losses={pattern} matches none of: {', '.join(catalog.names())}")
  sizes = (_PROMPTS.value, _GROUP_SIZE.value, _TOKENS.value)
  batch = make_batch(*sizes)
  work = {
      name: compile_loss(catalog.make(name), batch)
      for name in dict.fromkeys([REFERENCE, *names])
  }
  summary = summarise(measure(work, _ROUNDS.value), REFERENCE)
  print(
      f"value, gradients, state and metrics on {' x '.join(map(str, sizes))}"
      f" tokens, {jax.devices()[0].device_kind},"
      f" {len(os.sched_getaffinity(0))} cores, {_ROUNDS.value} rounds\n"
  )
  print(table(summary))
  return {"sizes": sizes, "rounds": _ROUNDS.value, "losses": summary}


def main(argv: Sequence[str]) -> None:
  """Runs the benchmarks that the flags ask for."""
  if argv[1:]:
    fail(f"unexpected argument {argv[1]!r}: use --flag=value")
  if _LOSSES.value is None:
    fail("say what to time: --losses=EXPRESSION, or --losses= for all")
  try:
    re.compile(_LOSSES.value)
  except re.error as error:
    fail(f"--losses={_LOSSES.value} is not a regular expression: {error}")
  text = json.dumps(losses(_LOSSES.value), indent=2)
  if _JSON.value == "-":
    print(text)
  elif _JSON.value:
    pathlib.Path(_JSON.value).write_text(text + "\n", "utf-8")


def fail(message: str) -> NoReturn:
  """Ends the program with a message and no traceback."""
  print(f"benchmark: {message}", file=sys.stderr)
  sys.exit(2)


if __name__ == "__main__":
  app.run(main)
