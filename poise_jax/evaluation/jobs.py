"""Evaluates a checkpoint on several sets, in a directory.

Everything that can be refused is refused before the weights are read: unknown
sets, prompts that do not fit, results that were begun with other settings.
"""

from collections.abc import Callable, Sequence
import contextlib
import functools
import pathlib
from typing import NamedTuple

from poise_jax.evaluation import problem_sets, provenance, results, running


class Job(NamedTuple):
  """A checkpoint made ready for all sets.

  Attributes:
    policy: to be asked.
    settings: of the run.
    asked: the sets, in order.
    limit: problems of each to ask, None for all.
  """

  policy: running.Policy
  settings: running.Settings
  asked: tuple[running.Asked, ...]
  limit: int | None

  @property
  def completions(self) -> int:
    """Completions in all."""
    return sum(
        len(a.scored.problems[: self.limit]) * a.scored.samples
        for a in self.asked
    )


def plan(
    checkpoint: str | pathlib.Path,
    names: Sequence[str],
    sources: problem_sets.Sources,
    settings: running.Settings,
    limit: int | None = None,
) -> Job:
  """Loads problems and writes prompts; asks nothing yet.

  Args:
    checkpoint: a Hugging Face directory.
    names: of the sets, see `problem_sets.names_of`.
    sources: of problems and verdicts.
    settings: of the run.
    limit: problems of each set to ask, the first ones; None for all.

  Raises:
    FileNotFoundError: if the checkpoint or a file of problems is missing.
    ImportError: as `benchmarks.load`.
    ValueError: if anything is malformed, a number out of its range, or the
      mesh does not fit the model or the devices, or `settings.stop` has what
      is no token of the policy.
  """
  for name, value in (
      ("limit", limit),
      ("max_tokens", settings.max_tokens),
      ("batch", settings.batch),
  ):
    if value is not None and value < 1:
      raise ValueError(f"`{name}` must be at least 1, got {value}")
  policy = running.describe(checkpoint, settings)
  running.check_mesh(policy, settings)
  asked = tuple(
      running.prepare(problem_sets.load(name, sources), policy, settings)
      for name in names
  )
  return Job(policy, settings, asked, limit)


def run(
    job: Job,
    directory: str | pathlib.Path,
    on_done: Callable[[str, int, bool], None] = lambda name, count, fresh: None,
) -> int:
  """Asks what is missing in a directory of results.

  Args:
    job: from `plan`.
    directory: of the results, one file a set; made if absent.
    on_done: told of each batch its set, how many completions it has, and
      whether they were asked for now.

  Returns:
    How many problems were missing.

  Raises:
    BlockingIOError: if another process is at work there.
    ValueError: if results were begun with other settings; nothing is asked.
  """
  machine = provenance.machine() | {"batch": str(job.settings.batch)}
  if job.settings.mesh.size > 1:
    machine["mesh"] = " x ".join(map(str, job.settings.mesh.shape))
  with contextlib.ExitStack() as stack:
    writers = [
        stack.enter_context(
            results.open_writer(
                results.path_of(directory, asked.scored.name),
                asked.header,
                machine,
            )
        )
        for asked in job.asked
    ]
    missing = sum(
        problem.id not in writer.results.records
        for asked, writer in zip(job.asked, writers, strict=True)
        for problem in asked.scored.problems[: job.limit]
    )
    ask = running.make_ask(job.policy, job.settings) if missing else _nothing
    for asked, writer in zip(job.asked, writers, strict=True):
      running.run(
          asked,
          ask,
          writer,
          job.settings,
          limit=job.limit,
          on_done=functools.partial(on_done, asked.scored.name),
      )
  return missing


def _nothing(asked: running.Asked, rows: Sequence[int]) -> list[results.Record]:
  """Stands where no problem is missing."""
  raise AssertionError(f"asked {asked.scored.name} {rows} without weights")
