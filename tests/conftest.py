"""Settings for all tests, and a small campaign made by hand.

The CPU, compiled fast rather than to be fast.
"""

import datetime
import importlib.metadata
import os
import pathlib

import pytest

# Must be set before jax is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
  # Its generator of code for fusions takes as long as all the rest. Only where
  # the option is known to exist: XLA ends the process over any other.
  _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
# Many tests start programs that compile the same policy: each is compiled once.
_CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "d" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from poise_jax.archive import records, store  # noqa: E402

TIME = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)
CONFIG = {"budget": "quick", "seed": 1, "base": "0123456789abcdef"}

# Files with few tests that train whole campaigns. Were one of them the last, all
# other processes would wait for it.
_FIRST = ("launch", "discovery", "training", "rollout")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Longest files first; takes effect with `--no-loadscope-reorder`."""
  places = {name: place for place, name in enumerate(_FIRST)}
  here = pathlib.Path(__file__).parent
  folder = lambda item: item.path.relative_to(here).parts[0]
  items.sort(key=lambda item: places.get(folder(item), len(places)))


class Make:
  """Makes the records of a small campaign, each field replaceable.

  root (2 seeds) - better (2 seeds) - broken (rejected)
                 \\ worse (1 seed)
                 \\ exploded (diverged with one of two seeds)
                 \\ waiting (not evaluated)
  zero_gradient, a canary without parents
  """

  def campaign(self, **changes):
    values = {"id": "c0ffee", "name": "first", "config": CONFIG}
    return records.Campaign(**(values | {"created_at": TIME} | changes))

  def candidate(self, index, name, parents=(), **changes):
    source = f"def loss(hparams, state, batch):\n  return {index}\n"
    values = {
        "id": f"c0ffee-{index:03d}",
        "campaign_id": "c0ffee",
        "index": index,
        "name": name,
        "role": "generated",
        "generation": 1,
        "parents": tuple(f"c0ffee-{parent:03d}" for parent in parents),
        "source": source,
        "source_sha256": records.sha256(source),
        "mechanisms": {},
        "rationale": f"{name} for a reason",
        "accepted": True,
        "findings": (),
        "artifact": b"program",
        "artifact_sha256": records.sha256(b"program"),
        "hparams": {},
        "created_at": TIME,
    }
    return records.Candidate(**(values | changes))

  def evaluation(self, index, seed, overall, **changes):
    budget = changes.get("budget", "quick")
    split = changes.get("split", "search")
    values = {
        "id": f"e-{index}-{seed}-{budget}-{split}",
        "candidate_id": f"c0ffee-{index:03d}",
        "key": {"seed": seed, "base": "0123456789abcdef"},
        "seed": seed,
        "budget": budget,
        "split": split,
        "outcome": "scored",
        "reason": "",
        "metrics": {
            "overall": overall,
            "accuracy/easy": overall / 100,
            "pass_at_k/hard": overall / 200,
            "response_length": 10.0 + seed,
        },
        "curve": {
            "reward": [0.1, 0.2 + seed],
            "entropy": [1.0, 0.9],
            "kl": [0.0, 0.1],
            "completions/mean_length": [12.0, 11.0],
        },
        "started_at": TIME,
        "finished_at": TIME,
    }
    return records.Evaluation(**(values | changes))


@pytest.fixture
def make():
  return Make()


@pytest.fixture
def campaign(make):
  return make.campaign()


@pytest.fixture
def candidates(make):
  return [
      make.candidate(0, "root", role="root", generation=0),
      make.candidate(1, "zero_gradient", role="canary", generation=0),
      make.candidate(2, "better", [0]),
      make.candidate(3, "worse", [0]),
      make.candidate(
          4,
          "broken",
          [2, 0],
          generation=2,
          accepted=False,
          artifact=None,
          artifact_sha256=None,
          findings=({"check": "finite", "message": "NaN in the gradient"},),
      ),
      make.candidate(5, "exploded", [0]),
      make.candidate(6, "waiting", [0]),
  ]


@pytest.fixture
def evaluations(make):
  return [
      make.evaluation(0, 0, 40.0),
      make.evaluation(0, 1, 42.0),
      make.evaluation(1, 0, 30.0),
      make.evaluation(2, 0, 50.0),
      make.evaluation(2, 1, 54.0),
      make.evaluation(3, 0, 35.0),
      make.evaluation(5, 0, 90.0),
      make.evaluation(
          5, 1, 0.0, outcome="diverged", reason="loss is NaN", metrics={}
      ),
  ]


@pytest.fixture
def archive(tmp_path, campaign, candidates, evaluations):
  with store.Archive.open(tmp_path / "archive.db", create=True) as archive:
    archive.add_campaign(campaign)
    for candidate in candidates:
      archive.add_candidate(candidate)
    for run in evaluations:
      archive.add_evaluation(run)
    archive.add_reflection(
        records.Reflection("c0ffee-002", "It rose.", {}, TIME)
    )
    yield archive
