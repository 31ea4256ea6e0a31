"""Measures a task as a proxy: noise, lift, canaries, skill against style.

  python experiments/second_task_study.py --task=carryless --base=DIR \
      --budget=standard --algorithms=grpo,dr_grpo --seeds=4 --out=FILE.jsonl
  python experiments/second_task_study.py --table=FILE.jsonl

The first appends a line for each algorithm and seed that the file does not
have yet, the second prints the tables of `second_task_study.md`, where results
and their meaning are. Some 10 to 15 CPU seconds a line with `standard`.

Skill is told from style twice. `fact` is the share of digits that greedy
decoding gets right when it is led through flawless worked solutions: nothing
but the steps is counted, and no style is chosen. And the gain in pass@1 over
the base, for problems of equally many operations, is split (Kitagawa 1955) as

  Δ = Σ_s Δshare_s · mean acc_s  +  Σ_s mean share_s · Δacc_s
      style                         skill

over styles s of completions, means being those of before and after.
"""

from collections.abc import Callable, Sequence
import json
import math
import pathlib
import time
from typing import Any, NamedTuple

from absl import app, flags
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax.algorithms import catalog
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints
from poise_jax.rollout import generate, prompt_batches, sampling, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, demonstrations, embedded
from poise_jax.tasks import carryless_demonstrations as teaching
from poise_jax.training import environment as environment_lib
from poise_jax.training import metrics as metrics_lib
from poise_jax.training import prompts
from poise_jax.training import trainer as trainer_lib

STYLE_PROBLEMS = 48  # of each number of operations
STYLE_SAMPLES = 32
SPLIT = arithmetic.Split.SEARCH


def environment(
    task: embedded.Task, tokenizer: tokenizer_lib.Tokenizer, seed: int
) -> environment_lib.Environment:
  """A task as the trainer sees it."""
  train = arithmetic.Split.TRAIN
  return environment_lib.Environment(
      source=prompts.generated(
          lambda rng, n: task.sample(rng, task.training_tiers, n, train), seed
      ),
      encode=lambda ps: prompt_batches.Prompts(
          tokenizer.encode_prompts([p.prompt for p in ps])
      ),
      grade=lambda ps, cs: scoring.grade_groups(tokenizer, ps, cs),
      buckets=lambda ps: np.array([len(p.operators) for p in ps]),
      bucket_count=task.max_operations + 1,
      prompt_of=lambda p: p.prompt,
  )


def problems_by_length(
    task: embedded.Task,
) -> list[list[arithmetic.Problem]]:
  """Problems of 1, 2, ... operations, half of them products."""
  rng = np.random.default_rng(4711)
  return [
      task.sample(rng, [arithmetic.Tier(k, 0.5)], STYLE_PROBLEMS, SPLIT)
      for k in range(1, task.max_operations + 1)
  ]


def style_of(
    task: embedded.Task, problem: arithmetic.Problem, text: str
) -> str:
  """Style of a completion, by its form."""
  if task is embedded.CARRYLESS:
    return teaching.style_of(problem, text)
  if teaching.style_of(problem, text) == "worked":
    return "worked"
  valid = arithmetic.grade(text, problem.answer).format_valid
  short = len(text) <= len("\\boxed{000}")
  return "invalid" if not valid else "direct" if short else "other"


def flawless(task: embedded.Task, problem: arithmetic.Problem) -> str:
  """The worked solution without a fault."""
  rng = np.random.default_rng(0)
  if task is embedded.CARRYLESS:
    return teaching.worked(problem, teaching.flawless(), rng)
  return demonstrations.worked(problem, rng)


class Probe(NamedTuple):
  """What skill and style are measured with.

  Attributes:
    facts: params -> share of digits right, products and others.
    styles: params -> {style: share} and {style: accuracy}, by length.
  """

  facts: Callable[[nnx.State], dict[str, float]]
  styles: Callable[[nnx.State], list[dict[str, list[float]]]]


def make_probe(
    graphdef: nnx.GraphDef,
    tokenizer: tokenizer_lib.Tokenizer,
    task: embedded.Task,
) -> Probe:
  """Compiles it for all params."""
  by_length = problems_by_length(task)
  problems = [p for ps in by_length for p in ps]
  tokens = np.full((len(problems), 46), tokenizer.pad_id, np.int32)
  tokens[:, :15] = tokenizer.encode_prompts([p.prompt for p in problems])
  masks = np.zeros((2, len(problems), 46), np.float32)
  for i, problem in enumerate(problems):
    ids = tokenizer.encode_completion(flawless(task, problem))
    tokens[i, 15 : 15 + len(ids)] = ids
    for j, operator in enumerate(problem.operators):
      at = 15 + 5 * j + 2
      masks[int(operator == "*"), i, at : at + 3] = 1

  @jax.jit
  def digits(params: nnx.State) -> jax.Array:
    logits = nnx.merge(graphdef, params)(jnp.asarray(tokens[:, :-1]))
    right = jnp.argmax(logits, -1) == tokens[:, 1:]
    return jnp.stack([jnp.sum(right * m[:, 1:]) / jnp.sum(m) for m in masks])

  def facts(params: nnx.State) -> dict[str, float]:
    others, products = map(float, digits(params))
    return {"fact/products": products, "fact/others": others}

  run = generate.make_generate(
      graphdef,
      sampling.sample,
      copies=STYLE_SAMPLES,
      max_length=task.completion_length,
      eos_ids=(tokenizer.eos_id,),
      pad_id=tokenizer.pad_id,
  )
  encoded = prompt_batches.Prompts(
      jnp.asarray(tokenizer.encode_prompts([p.prompt for p in problems]))
  )

  def styles(params: nnx.State) -> list[dict[str, list[float]]]:
    found = run(params, encoded, jax.random.key(99))
    lengths = np.asarray(found.mask).sum(axis=1).astype(np.int32)
    texts = tokenizer.decode(np.asarray(found.tokens), lengths)
    ended = np.asarray(found.finished)
    tables: list[dict[str, list[float]]] = [{} for _ in by_length]
    for i, text in enumerate(texts):
      problem = problems[i // STYLE_SAMPLES]
      verdict = arithmetic.grade(text, problem.answer, finished=bool(ended[i]))
      style = style_of(task, problem, text) if ended[i] else "cut off"
      cell = tables[len(problem.operators) - 1].setdefault(style, [0.0, 0.0])
      cell[0] += 1
      cell[1] += verdict.correct
    return tables

  return Probe(facts, styles)


def split_gain(
    before: Sequence[dict[str, list[float]]],
    after: Sequence[dict[str, list[float]]],
) -> tuple[float, float]:
  """Style's and skill's parts of the gain in pass@1, mean over lengths."""
  style = skill = 0.0
  for old, new in zip(before, after, strict=True):
    totals = [sum(n for n, _ in t.values()) for t in (old, new)]
    for name in {*old, *new}:
      (n0, c0), (n1, c1) = (t.get(name, [0.0, 0.0]) for t in (old, new))
      share0, share1 = n0 / totals[0], n1 / totals[1]
      # A style that is absent is as good as where it is present.
      acc0 = c0 / n0 if n0 else c1 / n1
      acc1 = c1 / n1 if n1 else acc0
      style += (share1 - share0) * (acc0 + acc1) / 2
      skill += (share0 + share1) / 2 * (acc1 - acc0)
  return style / len(before), skill / len(before)


def measure(
    task_name: str,
    base: str,
    budget_name: str,
    algorithms: Sequence[str],
    seeds: int,
    out: pathlib.Path,
) -> None:
  """Appends what the file does not have yet."""
  task, budget = embedded.named(task_name), budgets.named(budget_name)
  checkpoint, words = checkpoints.load(base), tokenizer_lib.load(base)
  config = budget.train.__class__(
      **{
          **vars(budget.train),
          "completion_length": task.completion_length,
      }
  )
  trainer = trainer_lib.make_trainer(
      checkpoint.graphdef,
      checkpoint.params,
      words,
      config,
      jax.local_devices()[:1],
  )
  evaluate = suite.make_evaluate(
      checkpoint.graphdef, words, budget.evaluate, task
  )
  probe = make_probe(checkpoint.graphdef, words, task)
  written = out.read_text("utf-8").splitlines() if out.is_file() else []
  done = {(r["algorithm"], r["seed"]) for r in map(json.loads, written)}

  def append(row: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
      file.write(json.dumps(row) + "\n")

  params = trainer.place(checkpoint.params)
  start = probe.styles(params)
  for seed in range(seeds):
    if ("base", seed) not in done:
      found = evaluate(params, seed, SPLIT) | probe.facts(params)
      append({"algorithm": "base", "seed": seed, "curve": []} | found)
    for name in algorithms:
      if (name, seed) in done:
        continue
      algorithm = catalog.make(name)
      source = environment(task, words, seed)
      began, curve = time.process_time(), []
      state = trainer.start(checkpoint.params, algorithm, source)
      for _ in range(config.steps):
        result = trainer.step(state, params, algorithm, source, seed)
        state = result.state
        curve.append(metrics_lib.values(result.metrics)["reward"])
      trained = time.process_time()
      found = evaluate(state.params, seed, SPLIT)
      scored = time.process_time()
      style, skill = split_gain(start, probe.styles(state.params))
      append(
          {
              "algorithm": name,
              "seed": seed,
              "curve": curve,
              "train_cpu_s": trained - began,
              "score_cpu_s": scored - trained,
              "gain/style": style,
              "gain/skill": skill,
          }
          | found
          | probe.facts(state.params)
      )
      print(name, seed, round(found["overall"], 2), flush=True)


def table(path: pathlib.Path) -> None:
  """Prints means over seeds, and paired differences to grpo."""
  rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
  by_name: dict[str, dict[int, dict[str, Any]]] = {}
  for row in rows:
    by_name.setdefault(row["algorithm"], {})[row["seed"]] = row
  sets = [k for k in rows[0] if k.startswith(("pass_at_k/", "accuracy/"))]
  extra = ["fact/products", "fact/others", "gain/style", "gain/skill"]
  rates = ["valid_rate", "truncated_rate", "response_length"]
  cost = ["train_cpu_s", "score_cpu_s"]
  print("sets:", ", ".join(name.partition("/")[2] for name in sets))
  for name, runs in by_name.items():
    mean = lambda key, runs=runs: float(
        np.median([r.get(key, math.nan) for r in runs.values()])
        if key in cost
        else np.mean([r.get(key, math.nan) for r in runs.values()])
    )
    overall = [r["overall"] for r in runs.values()]
    spread = np.std(overall, ddof=1) if len(overall) > 1 else math.nan
    line = f"{name:14} {len(runs)} {np.mean(overall):6.2f} ± {spread:4.2f} |"
    line += "".join(f" {100 * mean(k):3.0f}" for k in sets) + " |"
    line += "".join(f" {mean(k):6.3f}" for k in extra) + " |"
    line += "".join(f" {mean(k):5.2f}" for k in rates) + " |"
    line += "".join(f" {mean(k):5.1f}" for k in cost)
    if curves := [r["curve"] for r in runs.values() if r["curve"]]:
      curve = np.mean(curves, axis=0)
      marks = np.linspace(0, len(curve) - 1, 5).astype(int)
      line += " | reward" + "".join(f" {curve[i]:.2f}" for i in marks)
    shared = sorted(set(runs) & set(by_name.get("grpo", {})))
    if name not in ("base", "grpo") and len(shared) > 2:
      ours = np.array([runs[s]["overall"] for s in shared])
      theirs = np.array([by_name["grpo"][s]["overall"] for s in shared])
      gap, sd = float(np.mean(ours - theirs)), np.std(ours - theirs, ddof=1)
      error = float(sd) / math.sqrt(len(shared))
      flat = not (np.std(ours) and np.std(theirs))
      together = 0.0 if flat else np.corrcoef(ours, theirs)[0, 1]
      line += f" | - grpo {gap:+.2f} sd {sd:.2f} t {gap / error:+.1f}"
      line += f" corr {together:+.2f}"
    print(line)


if __name__ == "__main__":
  task_flag = flags.DEFINE_enum("task", "carryless", list(embedded.ALL), "Task")
  base_flag = flags.DEFINE_string("base", "", "Directory of the base policy.")
  budget_flag = flags.DEFINE_enum(
      "budget", "standard", list(budgets.ALL), "Length and speed."
  )
  algorithms_flag = flags.DEFINE_list("algorithms", ["grpo"], "Catalogue names")
  seeds_flag = flags.DEFINE_integer("seeds", 4, "Seeds, from 0.")
  out_flag = flags.DEFINE_string("out", "", "File of JSON lines.")
  table_flag = flags.DEFINE_string("table", "", "Prints this file's tables.")

  def main(argv: list[str]) -> None:
    del argv
    if table_flag.value:
      table(pathlib.Path(table_flag.value))
      return
    measure(
        task_flag.value,
        base_flag.value,
        budget_flag.value,
        algorithms_flag.value,
        seeds_flag.value,
        pathlib.Path(out_flag.value),
    )

  app.run(main)
