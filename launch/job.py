"""What launch/train.py trains: a policy and its task, from an experiment."""

from collections.abc import Mapping
import contextlib
import functools
import pathlib
from typing import Any, NamedTuple

from absl import flags
import experiment
import jax

from poise_jax import sharding
from poise_jax.discovery.trials import trial
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints as policies
from poise_jax.models import logical_axes, transformer
from poise_jax.rollout import chat
from poise_jax.rollout import text_tokenizer as text_tokenizer_lib
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, grading_pool
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    held_out,
    math_task,
    memory,
    policy_engine,
)
from poise_jax.training import (
    run as run_lib,
)
from poise_jax.training import (
    trainer as trainer_lib,
)

_TASK = "arithmetic-1"  # as in poise_jax.discovery.trials.trial


class Job(NamedTuple):
  """Everything that a run needs.

  Attributes:
    base: directory that the policy came from.
    policy: its weights.
    trainer: its compiled steps.
    environment: the task.
    decode: tokens to text.
    fingerprint: what must not change over a run.
    evaluate: scores params, if anything does.
    about: the task in a line, for people.
    eos_ids: tokens that end a completion; none where they are the base's.
  """

  base: pathlib.Path
  policy: policies.Checkpoint
  trainer: trainer_lib.Trainer
  environment: environment_lib.Environment
  decode: run_lib.Decode
  fingerprint: Mapping[str, Any]
  evaluate: run_lib.EvaluateFn | None
  about: str
  eos_ids: tuple[int, ...]


def make(told: experiment.Experiment, stack: contextlib.ExitStack) -> Job:
  """The embedded task, or that of --config.problems.

  Args:
    told: the experiment.
    stack: closes what was opened.

  Raises:
    flags.Error: naming the flag to change; nothing has been compiled.
  """
  with experiment.naming("--config.algorithm"):
    policy_engine.check_algorithm(told.algorithm, told.training)
  if told.problems is None:
    return _embedded(told)
  return _of_problems(told, told.problems, stack)


def _embedded(told: experiment.Experiment) -> Job:
  """Chained arithmetic, scored by the suite."""
  base = trial.base_directory(told.policy)
  with experiment.naming(f"--config.policy={told.policy}"):
    policy, tokenizer = policies.load(base), tokenizer_lib.load(base)
  with experiment.naming("--config.mesh"):
    trainer = trainer_lib.make_trainer(
        policy.graphdef, policy.params, tokenizer, told.training
    )
  evaluate = suite.make_evaluate(policy.graphdef, tokenizer, told.scored)

  def score(params: Any, seed: int) -> Mapping[str, float]:
    # Scored on one device: the suite is small.
    return evaluate(sharding.fetch(params), seed, arithmetic.Split.SEARCH)

  return Job(
      base,
      policy,
      trainer,
      environment_lib.arithmetic_environment(tokenizer, told.running.seed),
      tokenizer.decode,
      {"--config.policy": policy.sha256, "task": _TASK},
      score,
      "",
      (),
  )


def release(job: Job) -> None:
  """Frees the weights of the base policy where nothing will read them again.

  Once a run has begun it has its own: without a reference policy, and without
  adapters of the base, these would only lie there.
  """
  config = job.trainer.config
  if not config.reference and config.lora is None:
    for leaf in jax.tree.leaves(job.policy.params):
      leaf.delete()


def held_out_batch(training: config_lib.TrainConfig) -> int:
  """Problems asked at once: no more than are sampled at once, so that it fits.

  Both are equal parts on all devices, which `TrainConfig` has checked.
  """
  return min(
      training.schedule.prompts_at_once or training.prompts, training.prompts
  )


def _tokenizer(
    told: experiment.Experiment, problems: math_task.ProblemsConfig
) -> text_tokenizer_lib.TextTokenizer:
  """The tokenizer of the policy, with further tokens that end a completion."""
  if told.policy in ("", trial.EMBEDDED):
    raise flags.Error(
        "--config.policy must be a Hugging Face directory where --config.problems"
        f" is given, got {told.policy!r}"
    )
  try:
    return text_tokenizer_lib.load(told.policy, stop=problems.stop)
  except (ValueError, OSError) as error:
    wrong_stop = str(error).startswith("`stop`")
    flag = f"--config.policy={told.policy}"
    flag = "--config.problems.stop" if wrong_stop else flag
    raise flags.Error(f"{flag}: {error}") from error


def prompt_width(told: experiment.Experiment) -> int:
  """Tokens of the widest prompts."""
  if told.problems is None:
    return arithmetic.PROMPT_LENGTH
  longest = told.problems.prompt_length
  return next(b for b in told.problems.prompt_buckets if b >= longest)


def check_length(
    told: experiment.Experiment, model: transformer.TransformerConfig
) -> None:
  """Refuses rows that are longer than the policy was made for.

  Raises:
    flags.Error: naming the flag to change.
  """
  if told.problems is None:
    return
  prompt, completion = (
      told.problems.prompt_length,
      told.training.completion_length,
  )
  if prompt + completion > model.max_position_embeddings:
    raise flags.Error(
        "--config.train.completion_length and --config.problems.prompt_length"
        f" must be at most {model.max_position_embeddings} together, the"
        f" `max_position_embeddings` of the policy, got {completion} and"
        f" {prompt}"
    )


def check_asked(
    told: experiment.Experiment, problems: math_task.ProblemsConfig
) -> None:
  """Refuses evaluations without problems to ask.

  Raises:
    flags.Error: naming the flags to change.
  """
  if told.running.evaluate_every and not (
      problems.held_out or problems.evaluate_on
  ):
    raise flags.Error(
        f"--config.run.evaluate_every={told.running.evaluate_every} needs"
        " problems to ask: set --config.problems.held_out=NUMBER or"
        " --config.problems.evaluate_on=FILE.jsonl"
    )


def _of_problems(
    told: experiment.Experiment,
    problems: math_task.ProblemsConfig,
    stack: contextlib.ExitStack,
) -> Job:
  """Problems of a file, posed and graded as text."""
  tokenizer = _tokenizer(told, problems)
  base, training = pathlib.Path(tokenizer.directory), told.training
  with experiment.naming(f"--config.policy={told.policy}"):
    model, _, _ = policies.read_config(base)
    tokenizer.check_vocabulary(model.vocab_size)
  check_length(told, model)
  check_asked(told, problems)
  graphdef, abstract = transformer.structure(model)
  with experiment.naming("--config.mesh"):
    trainer = trainer_lib.make_trainer(graphdef, abstract, tokenizer, training)
    device = jax.local_devices()[0]
    if (limit := memory.here(device)) is not None:
      needed = memory.estimate(model, training, prompt_width(told))
      memory.check(needed, limit, device.device_kind)
  with experiment.naming("--config.problems"):
    template = chat.choose(problems.template, tokenizer)
    chosen = math_task.choose(problems, tokenizer, template)
    pool = grading_pool.GradingPool(problems.graders, problems.grading_seconds)
    stack.enter_context(pool)
    pose = functools.partial(
        math_task.environment,
        problems,
        tokenizer,
        template,
        grade_fn=pool.grade_many,
        seed=told.running.seed,
    )
    task = pose(problems=chosen.problems, batch=training.prompts)
    evaluate = None
    if chosen.evaluated:
      evaluate = held_out.make_evaluate(
          policy_engine.make_engine(
              *(graphdef, abstract, tokenizer, training, trainer.mesh),
              greedy=True,
          ),
          pose(problems=chosen.evaluated, batch=1),
          chosen.evaluated,
          held_out_batch(training),
          trainer.mesh,
      )
  with experiment.naming(f"--config.policy={told.policy}"):
    # Straight to where it is trained: no host holds it whole.
    where = functools.partial(logical_axes.parameter_shardings, trainer.mesh)
    policy = policies.load(base, shardings=where)
  texts = math_task.fingerprint(
      *(problems, tokenizer, template, chosen.problems, chosen.evaluated)
  )
  return Job(
      base,
      policy,
      trainer,
      task,
      tokenizer.decode,
      {"--config.policy": policy.sha256, "--config.problems": texts},
      evaluate,
      str(chosen),
      tuple(tokenizer.eos_ids),
  )
