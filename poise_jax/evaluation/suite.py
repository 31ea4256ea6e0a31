"""The suite of an embedded task: six sets, scored as the paper scores its six."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax.evaluation import pass_at_k as estimator
from poise_jax.rollout import generate, prompt_batches, sampling, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, embedded

SAMPLES = 32  # the paper's pass@32


@dataclasses.dataclass(frozen=True)
class SuiteConfig:
  """How many problems are scored.

  Attributes:
    sampled_problems: in each set scored by pass@32.
    greedy_problems: in each set scored by greedy accuracy.
  """

  sampled_problems: int
  greedy_problems: int


# Scores params with a seed on a split: metric name -> value.
EvaluateFn = Callable[[nnx.State, int, arithmetic.Split], dict[str, float]]


def overall(
    scores: Mapping[str, float],
    sets: Sequence[arithmetic.ProblemSet] = arithmetic.SUITE,
) -> float:
  """Weighted mean of the six set scores, 0-100.

    Overall = 100 Σ_s weight_s score_s, weights .2 .2 .15 .15 .15 .15.

  Args:
    scores: set name -> score in [0, 1].
    sets: the suite.
  """
  return 100 * sum(s.weight * scores[s.name] for s in sets)


def measured(
    graded: Mapping[arithmetic.ProblemSet, scoring.Grades],
) -> dict[str, float]:
  """What grades of a whole suite come to, by the names of metrics.

  Args:
    graded: set -> grades, [P, `SAMPLES`] where it is scored by pass@k, [P, 1]
      where by greedy accuracy; sets of both kinds.

  Returns:
    `overall` (0-100), for each set `pass_at_k/<set>` and `pass_at_1/<set>`, or
    `accuracy/<set>` (0-1), and over all sampled completions `valid_rate`,
    `truncated_rate` and `response_length` (tokens); `greedy_length` over the
    greedy ones. A set counts as much as another one of its kind.
  """
  scores, metrics, sampled, greedy = {}, {}, [], []
  for problem_set, grades in graded.items():
    name, hits = problem_set.name, grades.correct.sum(axis=1)
    if problem_set.metric == "pass_at_k":
      scores[name] = float(estimator.pass_at_k(hits, SAMPLES, SAMPLES).mean())
      metrics[f"pass_at_1/{name}"] = float(grades.correct.mean())
      sampled.append(grades)
    else:
      scores[name] = float(hits.mean())
      greedy.append(grades)
    metrics[f"{problem_set.metric}/{name}"] = scores[name]
  return metrics | {
      "overall": overall(scores, list(graded)),
      "valid_rate": _mean(sampled, "format_valid"),
      "truncated_rate": _mean(sampled, "truncated"),
      "response_length": _mean(sampled, "lengths"),
      "greedy_length": _mean(greedy, "lengths"),
  }


def _mean(graded: Sequence[scoring.Grades], field: str) -> float:
  """The mean, over sets, of their means of a field."""
  return float(
      np.mean([getattr(g, field).mean(dtype=np.float64) for g in graded])
  )


def make_evaluate(
    graphdef: nnx.GraphDef,
    tokenizer: tokenizer_lib.Tokenizer,
    config: SuiteConfig,
    task: embedded.Task = embedded.ARITHMETIC,
) -> EvaluateFn:
  """Makes the suite's evaluator; compiles once for all params.

  Problems are fixed by the split. Sampling keys depend on the seed and the set
  alone, so two policies evaluated with one seed meet the same random numbers.

  Args:
    graphdef: structure of the policy.
    tokenizer: of the policy.
    config: sizes.
    task: whose suite it is.

  Returns:
    A function of (params, seed, split) to the metrics of `measured`.
  """
  make = lambda sampler, copies: generate.make_generate(
      graphdef,
      sampler,
      copies=copies,
      max_length=task.completion_length,
      eos_ids=(tokenizer.eos_id,),
      pad_id=tokenizer.pad_id,
  )
  generate_sampled = make(sampling.sample, SAMPLES)
  generate_greedy = make(sampling.greedy, 1)

  def grade_set(
      params: nnx.State,
      problem_set: arithmetic.ProblemSet,
      split: arithmetic.Split,
      key: jax.Array,
  ) -> scoring.Grades:
    sampled = problem_set.metric == "pass_at_k"
    count = config.sampled_problems if sampled else config.greedy_problems
    problems = task.problems_of(problem_set, split, count)
    prompts = tokenizer.encode_prompts([p.prompt for p in problems])
    run = generate_sampled if sampled else generate_greedy
    completions = run(params, prompt_batches.Prompts(jnp.asarray(prompts)), key)
    return scoring.grade_groups(tokenizer, problems, completions)

  def evaluate(
      params: nnx.State, seed: int, split: arithmetic.Split
  ) -> dict[str, float]:
    # As trained params are; else base and trained params compile separately.
    params = jax.device_put(params, jax.local_devices()[0])
    key = jax.random.fold_in(jax.random.key(1234), seed)
    return measured(
        {
            s: grade_set(params, s, split, jax.random.fold_in(key, i))
            for i, s in enumerate(task.suite)
        }
    )

  return evaluate
