"""Trains a candidate of an archive again, and compares every bit.

  python launch/reproduce.py --archive=runs/quickstart/archive.db \
      --candidate=ID [--seed=0] [--budget=quick] [--split=search] [--base=DIR]

Exit status: 0 all bits are the same; 3 they are not, but versions or processor
are others and the score lies in the interval that was promised for that; 1 the
promise was broken; 2 it cannot be run here, one line says why.
"""

import os
import sys

# As launch/search.py has them: they are part of what a result depends on.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("NPROC", "2")

from absl import flags
import program

from poise_jax import types
from poise_jax.archive import records, store
from poise_jax.candidates import artifact, findings, renewal
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery.trials import budgets, reproduction, trial, variation
from poise_jax.models import checkpoints
from poise_jax.tasks import arithmetic, embedded

_ARCHIVE = flags.DEFINE_string(
    "archive", None, "Path of an SQLite archive, or any SQLAlchemy URL."
)
_CANDIDATE = flags.DEFINE_string("candidate", None, "Id of the candidate.")
_SEED = flags.DEFINE_integer(
    "seed", None, "Of the run; the first if not given."
)
_BUDGET = flags.DEFINE_string("budget", None, "Name of its budget, likewise.")
_SPLIT = flags.DEFINE_string("split", None, "Name of its split, likewise.")
_BASE = flags.DEFINE_string(
    "base",
    None,
    "Base policy of the run, by its name, or by its directory if it has moved.",
)
_REQUIRE_JAIL = flags.DEFINE_bool(
    "require_jail",
    False,
    "Refuse to export an expired program again where seccomp is missing.",
)

_WHERE = "; name where it is by --base=DIR"


def find(
    archive: store.Archive, candidate_id: str
) -> tuple[records.Campaign, list[records.Candidate], records.Candidate]:
  """The candidate, its campaign, and all candidates of that.

  Raises:
    flags.Error: if there is none.
  """
  ids = []
  for campaign in archive.campaigns():
    candidates = archive.candidates(campaign.id)
    for candidate in candidates:
      if candidate.id == candidate_id:
        return campaign, candidates, candidate
    ids += [candidate.id for candidate in candidates]
  shown = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
  raise flags.Error(
      f"--candidate={candidate_id} is not in the archive; it has"
      f" {shown or 'none'}"
  )


def algorithm(
    candidate: records.Candidate, key: dict[str, object]
) -> tuple[types.Algorithm, bool]:
  """The loss with the constants of the key; whether it was exported again."""
  try:
    loaded, again = artifact.load(candidate.artifact, candidate.name), False
  except findings.RefusedError:
    with jail_lib.Jail(require_jail=_REQUIRE_JAIL.value) as jail:
      renewed = renewal.renew(
          candidate.artifact,
          candidate.source,
          jail,
          taken=candidate.fingerprint,
      )
    loaded, again = artifact.load(renewed.data, candidate.name), True
  return loaded._replace(hparams=dict(key["hparams"])), again


def laboratory(
    campaign: records.Campaign, run: records.Evaluation
) -> trial.Laboratory:
  """The task, budget and base policy of a stored run.

  Raises:
    flags.Error: if no base policy that is known is the one of the run.
    ValueError: if the task or the budget is not available.
  """
  task = reproduction.task_of(run)
  budget = reproduction.budget_of(run)
  return _laboratory(base_of(campaign, run), run, budget, task)


def base_of(campaign: records.Campaign, run: records.Evaluation) -> str:
  """The base policy of a run: the one named, or one of the campaign's two.

  Raises:
    flags.Error: if none of them is the one of the run.
  """
  own = campaign.config.get("base") or trial.EMBEDDED
  names = [_BASE.value or own]
  if not _BASE.value and (second := campaign.config.get("second_base")):
    names.append(second)
  told = []
  for name in map(str, names):
    try:
      digest = sha256_of(name)
    except flags.Error as error:
      told.append(str(error))
      continue
    if digest == run.key["base"]:
      return name
    told.append(
        f"the base policy {name!r} is another one, {digest[:16]}, not"
        f" {run.key['base'][:16]}"
    )
  raise flags.Error(f"{'; '.join(told)}{_WHERE}")


def sha256_of(base: str) -> str:
  """Hash of a base policy, as evaluations name it.

  Raises:
    flags.Error: if there is none.
  """
  try:
    return checkpoints.load(trial.base_directory(base)).sha256
  except OSError as error:
    raise flags.Error(
        f"the base policy {base!r} is not available ({error})"
    ) from error


def _laboratory(
    base: str,
    run: records.Evaluation,
    budget: budgets.Budget,
    task: embedded.Task,
) -> trial.Laboratory:
  """One like that of the run, which may be a variation of a named budget."""
  changed = variation.read(run.budget)
  if changed is None:
    return trial.Laboratory(base, budget, task)
  plain = budgets.named(changed.budget)
  return trial.Laboratory(base, plain, task).varied(changed)


def of_base(
    runs: list[records.Evaluation], base: str | None
) -> list[records.Evaluation]:
  """The runs from a base policy that was named; all if it has none of them.

  Those of the search base and of the second one have the same seeds.

  Raises:
    flags.Error: if there is no such policy.
  """
  if not base:
    return runs
  try:
    digest = sha256_of(base)
  except flags.Error as error:
    raise flags.Error(f"{error}{_WHERE}") from error
  return [run for run in runs if run.key["base"] == digest] or runs


def reproduce(archive: store.Archive) -> int:
  """Runs it and prints what came of it; returns the exit status."""
  campaign, candidates, candidate = find(archive, _CANDIDATE.value)
  if candidate.artifact is None:
    reason = candidate.findings[0]["message"] if candidate.findings else ""
    raise flags.Error(f"{candidate.id} was never trained: {reason}")
  runs = [
      run
      for run in archive.evaluations(campaign.id, candidate.id)
      if run.metrics or run.outcome == "diverged"
  ]
  run = reproduction.choose(
      of_base(runs, _BASE.value),
      seed=_SEED.value,
      budget=_BUDGET.value,
      split=_SPLIT.value,
  )
  loss, exported_again = algorithm(candidate, run.key)
  made = laboratory(campaign, run)
  where = f"budget {run.budget}, split {run.split}, seed {run.seed}"
  print(f"{candidate.id} {candidate.name}: {where}", flush=True)
  split = arithmetic.Split[run.split.upper()]
  setting = run.budget, run.split, run.key["base"]
  found = reproduction.compare(
      run,
      made.run(loss, split, run.seed),
      versions=made.versions,
      others=runs,
      peers=[
          [
              other.metrics["overall"]
              for other in archive.evaluations(campaign.id, peer.id)
              if (other.budget, other.split, other.key["base"]) == setting
              and other.outcome == "scored"
          ]
          for peer in candidates
          if peer.role != "canary" and peer.id != candidate.id
      ],
  )
  if exported_again:
    print("artifact: had expired, exported again from its source")
  for sentence in reproduction.sentences(found):
    print(sentence)
  if found.same_bits:
    return 0
  return 3 if found.kept else 1


def run() -> None:
  """Checks the flags, and ends with the exit status."""
  for name, flag in (("archive", _ARCHIVE), ("candidate", _CANDIDATE)):
    if not flag.value:
      raise flags.Error(f"give --{name}")
  with store.Archive.open(_ARCHIVE.value, create=False) as archive:
    status = reproduce(archive)
  sys.stdout.flush()
  sys.exit(status)


if __name__ == "__main__":
  errors = (store.ArchiveError, findings.RefusedError, jail_lib.JailError)
  program.start("reproduce", run, errors=errors)
