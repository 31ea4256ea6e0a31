"""Times fixed workloads.

  python launch/benchmark.py --suite=losses [--match='gspo|tpo'] [--out=F.json]
  python launch/benchmark.py --suite=train       # rollout and update
  python launch/benchmark.py --suite=rollout     # rollout alone
  python launch/benchmark.py --suite=candidate   # source to compiled loss

Absolute times depend on the machine and on what else it does: compare within
one run. On a CPU the policy is a Qwen2 of 4 layers, 128 wide, 512 tokens, in
f32: W1 samples 32 x 8 completions of 64 tokens and makes one update, W2 samples
64 of 128 tokens, and again, on one device, with skewed lengths, whose rows leave
when they end (W2_SKEWED) or wait for the longest (W2_STATIC). On an accelerator it is W3, a
Qwen2.5 of 1.5 billion weights in bf16: 32 x 8 completions of 512 tokens. Random
weights in all of them. Prompts are split over all devices; a CPU is as many
devices as it has cores, or --jax_num_cpu_devices.
"""

from collections.abc import Sequence
import json
import pathlib
import sys
from typing import NoReturn

from absl import app, flags
import jax

from poise_jax.algorithms import catalog
from poise_jax.benchmarks import candidate, losses, policy, timing, workloads

_SUITE = flags.DEFINE_enum(
    "suite", None, ["losses", "train", "rollout", "candidate"], "What to time."
)
_MATCH = flags.DEFINE_string(
    "match", "", "Losses or candidates whose names match this expression."
)
_PROMPTS = flags.DEFINE_integer("prompts", 64, "Prompts, for losses.", 1)
_GROUP_SIZE = flags.DEFINE_integer("group_size", 8, "Completions each.", 1)
_TOKENS = flags.DEFINE_integer("tokens", 1024, "Tokens of each.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 21, "Rounds.", 1)
_OUT = flags.DEFINE_string("out", None, "File for the figures as JSON.")


def run(suite: str) -> tuple[dict, str]:
  """Runs one suite: its figures, and a table of them."""
  rounds = _ROUNDS.value
  if suite == "losses":
    sizes = (_PROMPTS.value, _GROUP_SIZE.value, _TOKENS.value)
    figures = losses.run(_MATCH.value, *sizes, rounds)
    return figures, losses.table(figures)
  if suite in ("train", "rollout"):
    figures = run_policy(suite, rounds)
    return figures, policy.table(figures)
  names = [n for n in catalog.names() if _MATCH.value in n][:10]
  if not names:
    raise ValueError(f"--match={_MATCH.value} is in no name of the catalogue")
  figures = candidate.run(names)
  return figures, candidate.table(figures)


def run_policy(suite: str, rounds: int) -> dict:
  """Runs a suite of the policy, of the size for this machine."""
  if not jax.config.jax_num_cpu_devices > 0:
    # The cores work on parts of a batch better than on parts of an operation.
    jax.config.update("jax_num_cpu_devices", timing.cores())
  small = jax.default_backend() == "cpu"
  if suite == "train":
    return policy.run_train(workloads.W1 if small else workloads.W3, rounds)
  if not small:
    return policy.run_rollout({"W3": workloads.W3}, rounds)
  names = ("W2", "W2_SKEWED", "W2_STATIC")
  return policy.run_rollout({n: getattr(workloads, n) for n in names}, rounds)


def main(argv: Sequence[str]) -> None:
  """Runs the suite that the flags ask for."""
  if argv[1:]:
    fail(f"unexpected argument {argv[1]!r}: use --flag=value")
  if _SUITE.value is None:
    fail("say what to time: --suite=losses, train, rollout or candidate")
  try:
    figures, table = run(_SUITE.value)
  except ValueError as error:
    fail(str(error))
  machine = timing.machine()
  print(
      f"{_SUITE.value} on {machine['device']}, {machine['cores']} cores, load"
      f" {machine['load']:.1f}, {_ROUNDS.value} rounds\n"
  )
  print(table)
  if _OUT.value:
    whole = {"suite": _SUITE.value, "machine": machine} | figures
    try:
      pathlib.Path(_OUT.value).write_text(json.dumps(whole, indent=2) + "\n")
    except OSError as error:
      fail(f"--out={_OUT.value}: {error.strerror}")


def fail(message: str) -> NoReturn:
  """Ends the program with a message and no traceback."""
  print(f"benchmark: {message}", file=sys.stderr)
  sys.exit(2)


if __name__ == "__main__":
  jax.config.config_with_absl()
  app.run(main)
