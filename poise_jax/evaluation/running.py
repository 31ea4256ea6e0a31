"""Asks a policy the problems of a set, and stores what it says.

Batches are a function of the set and of `batch` alone, whatever is done
already, so a run that is stopped and continued ends with the same file.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import hashlib
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from poise_jax import sharding
from poise_jax.evaluation import (
    batching,
    judging,
    keyed_generation,
    problem_sets,
    provenance,
    results,
)
from poise_jax.models import checkpoints, logical_axes, transformer
from poise_jax.rollout import (
    chat,
    generate,
    programs,
    prompt_batches,
    sampling,
)
from poise_jax.rollout import text_tokenizer as tokenizer_lib
from poise_jax.tasks import problem_set

# What ends the turn of whoever answers, by template. Base models rarely name it
# as an end-of-text: without it they would go on to play both sides.
TURN_ENDS: Mapping[str, tuple[str, ...]] = {"qwen_math": ("<|im_end|>",)}


class Settings(NamedTuple):
  """What a user may choose; all but `batch` and `mesh` decides the results.

  Attributes:
    seed: of sampling.
    template: of prompts, see `chat.choose`; sets may have one of their own.
    max_tokens: of a completion; None for what each set asks.
    dtype: of weights and activations.
    batch: completions that are decoded at once, on all devices together.
    mesh: devices; problems, or samples where those are few, are split over
      `data` and `fsdp`, weights over `tensor`. While decoding, `fsdp` does not split weights.
    stop: texts of tokens that end a completion, besides the end-of-text that
      the policy names; None for those of the template, where the policy has
      them (`TURN_ENDS`).
  """

  seed: int = 0
  template: str = "qwen_math"
  max_tokens: int | None = None
  dtype: str = "float32"
  batch: int = 64
  mesh: sharding.MeshConfig = sharding.MeshConfig()
  stop: tuple[str, ...] | None = None


class Policy(NamedTuple):
  """What is known of a policy without its weights.

  Attributes:
    directory: of its checkpoint.
    sha256: of its checkpoint.
    tokenizer: its own.
    model: its shape.
    stop: tokens that end its completions besides those that it names itself.
  """

  directory: pathlib.Path
  sha256: str
  tokenizer: tokenizer_lib.TextTokenizer
  model: transformer.TransformerConfig
  stop: tuple[str, ...] = ()


class Asked(NamedTuple):
  """A set made ready for a policy.

  Attributes:
    scored: the set.
    prompts: tokens of each prompt, in order of the problems.
    header: what the results depend on.
    max_tokens: of a completion.
  """

  scored: problem_sets.ScoredSet
  prompts: Sequence[Sequence[int]]
  header: Mapping[str, Any]
  max_tokens: int


def directory_of(checkpoint: str | pathlib.Path) -> pathlib.Path:
  """A directory; that of the shipped policy for the name `embedded`."""
  if str(checkpoint) == "embedded":
    return pathlib.Path(checkpoints.__file__).parent / "embedded_policy"
  return pathlib.Path(checkpoint)


# Asks some problems of a set, by their places in it.
AskFn = Callable[[Asked, Sequence[int]], list[results.Record]]


def describe(
    directory: str | pathlib.Path, settings: Settings | None = None
) -> Policy:
  """Reads all of a Hugging Face directory but the weights.

  Args:
    directory: of the checkpoint.
    settings: of the run; only `stop` and `template` matter. None for nothing
      but what the policy itself names.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is broken, or `settings.stop` has what is no token.
  """
  config, _, _ = checkpoints.read_config(directory)
  stop = (settings and settings.stop) or ()
  tokenizer = tokenizer_lib.load(directory, stop=stop)
  if settings is not None and settings.stop is None:
    vocabulary = tokenizer.hugging_face.get_vocab()
    ends = TURN_ENDS.get(settings.template, ())
    if stop := tuple(end for end in ends if end in vocabulary):
      tokenizer = tokenizer_lib.load(directory, stop=stop)
  return Policy(
      pathlib.Path(directory),
      checkpoints.fingerprint(directory),
      tokenizer,
      config,
      stop,
  )


def check_mesh(policy: Policy, settings: Settings) -> None:
  """Refuses a mesh that the policy or the devices do not fit.

  Raises:
    ValueError: naming the flag to change.
  """
  mesh = settings.mesh
  logical_axes.check_divisible(policy.model, mesh)
  there = len(jax.devices())
  if mesh.size > there:
    raise ValueError(
        "the mesh must not need more devices than there are:"
        f" --config.mesh.data={mesh.data} x --config.mesh.fsdp={mesh.fsdp} x"
        f" --config.mesh.tensor={mesh.tensor} is {mesh.size}, the number of"
        f" devices is {there}"
    )


def prepare(
    scored: problem_sets.ScoredSet, policy: Policy, settings: Settings
) -> Asked:
  """Writes the prompts of a set, and what its results will depend on.

  Args:
    scored: the set.
    policy: that will be asked.
    settings: of the run.

  Raises:
    ValueError: if a template fails, or a prompt is too long or has a token
      that the model lacks.
  """
  tokenizer = policy.tokenizer
  template = chat.choose(scored.template or settings.template, tokenizer)
  texts = [_naming(chat.prompt, template, p) for p in scored.problems]
  prompts = _encode(template, tokenizer, scored.problems)
  names = [p.id for p in scored.problems]
  prompt_batches.pad(prompts, batching.BUCKETS, tokenizer.pad_id, names)
  # A tokenizer may have tokens that the model lacks if they never occur.
  vocab_size = policy.model.vocab_size
  if max(map(max, (*prompts, tokenizer.eos_ids))) >= vocab_size:
    tokenizer.check_vocabulary(vocab_size)
  max_tokens = settings.max_tokens or scored.max_tokens
  problems = [(p.id, p.prompt, p.answer) for p in scored.problems]
  header = {
      "set": {
          "name": scored.name,
          "split": scored.split,
          "metric": scored.metric,
          "weight": scored.weight,
          "problems": len(problems),
          "sha256": provenance.digest(problems),
      },
      "prompts": {
          # As it was asked for: a policy's own template has no name.
          "template": pathlib.PurePath(
              scored.template or settings.template
          ).name,
          "sha256": provenance.digest(texts),
      },
      "sampling": {
          "seed": settings.seed,
          "samples": scored.samples,
          "temperature": scored.temperature,
          "max_tokens": max_tokens,
          "dtype": settings.dtype,
      },
      "policy": {
          "checkpoint": policy.sha256,
          "prompt_ids": provenance.digest(prompts),
          "eos_ids": list(tokenizer.eos_ids),
          "stop": list(policy.stop),
      },
      "code": provenance.code(),
  }
  return Asked(scored, prompts, header, max_tokens)


def make_ask(policy: Policy, settings: Settings) -> AskFn:
  """Loads the weights, and makes the function that asks problems of a set.

  Programs are compiled once for each kind of sampling and each width.

  Raises:
    FileNotFoundError: if there are no weights.
    ValueError: if they are broken, or the mesh does not fit the model.
  """
  check_mesh(policy, settings)
  # Devices that are not asked for stay idle: an evaluation may share a machine.
  devices = jax.devices()[: settings.mesh.size]
  mesh = sharding.make_mesh(settings.mesh, devices)
  several = settings.mesh.size > 1
  place = functools.partial(logical_axes.decoding_shardings, mesh)
  loaded = checkpoints.load(
      policy.directory,
      dtype=settings.dtype,
      # Straight to where it is used: no device holds it whole.
      shardings=place if several else None,
  )
  # Constraints inside the model take effect in the context of the mesh.
  set_mesh = lambda: (
      jax.set_mesh(mesh) if several else contextlib.nullcontext()
  )
  parts = settings.mesh.data * settings.mesh.fsdp

  @functools.cache
  def generator(
      temperature: float, max_tokens: int
  ) -> keyed_generation.KeyedFn:
    return keyed_generation.make(
        loaded.graphdef,
        sampling.sample if temperature else sampling.greedy,
        max_length=max_tokens,
        eos_ids=policy.tokenizer.eos_ids,
        pad_id=policy.tokenizer.pad_id,
        temperature=temperature or 1.0,
        shardings=programs.on_mesh(mesh, place(loaded.params)),
    )

  def ask(asked: Asked, rows: Sequence[int]) -> list[results.Record]:
    scored = asked.scored
    full = max(1, settings.batch // scored.samples)
    size, copies = batching.spread(len(rows), full, scored.samples, parts)
    filled = [*rows, *[rows[-1]] * (size - len(rows))]
    prompts = prompt_batches.pad(
        [asked.prompts[i] for i in filled for _ in range(copies)],
        batching.BUCKETS,
        policy.tokenizer.pad_id,
    )
    numbers = [
        number
        for i in filled
        for number in keyed_generation.numbers(
            scored.problems[i].id, scored.samples
        )
    ]
    run = generator(scored.temperature, asked.max_tokens)
    inputs = (
        prompts,
        np.array(numbers, np.int32),
        keyed_generation.key_of(settings.seed, scored.name),
    )
    with set_mesh():
      completions = run(loaded.params, *sharding.place(mesh, inputs))
    problems = [scored.problems[i] for i in rows]
    return _records(scored, policy.tokenizer, problems, completions)

  return ask


def run(
    asked: Asked,
    ask: AskFn,
    writer: results.Writer,
    settings: Settings,
    *,
    limit: int | None = None,
    on_done: Callable[[int, bool], None] = lambda completions, fresh: None,
) -> None:
  """Asks what is missing in a file of results.

  Args:
    asked: the set.
    ask: from `make_ask`.
    writer: of its file.
    settings: of the run.
    limit: problems to ask, the first ones; None for all.
    on_done: told of each batch how many completions it has, and whether they
      were asked for now; if not, they were there before.
  """
  samples, problems = asked.scored.samples, asked.scored.problems[:limit]
  done = writer.results.records
  lengths = [len(p) for p in asked.prompts[:limit]]
  for rows in batching.batches(lengths, max(1, settings.batch // samples)):
    missing = {problems[i].id for i in rows} - done.keys()
    if missing:
      found = ask(asked, rows)
      writer.append([r for r in found if r.id in missing])
    on_done(len(rows) * samples, bool(missing))


def _records(
    scored: problem_sets.ScoredSet,
    tokenizer: tokenizer_lib.TextTokenizer,
    problems: Sequence[problem_set.Problem],
    completions: generate.Completions,
) -> list[results.Record]:
  """Decodes and grades; further rows are filling."""
  count = len(problems) * scored.samples
  tokens, mask, ends = (
      np.asarray(x)[:count]
      for x in sharding.fetch(
          (completions.tokens, completions.mask, completions.finished)
      )
  )
  lengths = mask.sum(axis=1).astype(np.int32)
  texts = tokenizer.decode(tokens, lengths)
  rows = [
      results.Completion(
          text=text,
          tokens=int(length),
          ids_sha256=hashlib.sha256(
              ids[:length].astype("<i4").tobytes()
          ).hexdigest(),
          answer=None,
          correct=False,
          format_valid=False,
          finished=bool(end),
      )
      for text, length, ids, end in zip(
          texts, lengths, tokens, ends, strict=True
      )
  ]
  cut = lambda i: tuple(rows[i * scored.samples : (i + 1) * scored.samples])
  written = [
      results.Record(p.id, p.prompt, p.answer, cut(i))
      for i, p in enumerate(problems)
  ]
  return judging.judge(written, scored.grade, scored.same)


def _encode(
    template: chat.Template,
    tokenizer: tokenizer_lib.TextTokenizer,
    problems: Sequence[problem_set.Problem],
) -> list[list[int]]:
  """Tokens of all prompts; errors name the problem."""
  try:
    return chat.encode(template, tokenizer, [p.prompt for p in problems])
  except ValueError:
    one = lambda template, prompt: chat.encode(template, tokenizer, [prompt])
    for problem in problems:
      _naming(one, template, problem)
    raise


def _naming(
    function: Callable[[chat.Template, str], Any],
    template: chat.Template,
    problem: problem_set.Problem,
) -> Any:
  """Calls it with a problem; errors name the problem."""
  try:
    return function(template, problem.prompt)
  except ValueError as e:
    raise ValueError(f"problem {problem.id!r}: {e}") from e
