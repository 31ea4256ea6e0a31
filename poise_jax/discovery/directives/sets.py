"""The problem sets that a directive can name, in the ways they are written."""

from collections.abc import Mapping
import itertools
import re

from poise_jax.tasks import arithmetic, benchmarks, carryless

_ALL = (*benchmarks.MATH6, *arithmetic.SUITE, *carryless.SUITE)

# Set -> what it is scored by if a directive does not say; the first one counts
# for the embedded sets that tasks share.
METRIC_OF: Mapping[str, str] = {s.name: s.metric for s in reversed(_ALL)}
NAMES = tuple(dict.fromkeys(s.name for s in _ALL))

# The k of pass@k: as many answers are sampled to each problem.
TRIES = 32

# Names that stand for more than one set, or for one by another name.
_OTHER = {
    "aime 2024": ("AIME24",),
    "aime 2025": ("AIME25",),
    "math": ("MATH500",),
    "amc 23": ("AMC",),
    "amc 83": ("AMC",),
    "amc 2023": ("AMC",),
    "minerva math": ("Minerva",),
    "olympiad": ("OlympiadBench",),
    "olympiad bench": ("OlympiadBench",),
    "both aime": ("AIME24", "AIME25"),
    "both aimes": ("AIME24", "AIME25"),
    "both aime sets": ("AIME24", "AIME25"),
    "two aime sets": ("AIME24", "AIME25"),
    "the aimes": ("AIME24", "AIME25"),
    "aime 24 / 25": ("AIME24", "AIME25"),
    # Which one is for the reader of a clause to ask.
    "aime": (),
}


def spaced(name: str) -> str:
  """A name as a directive's words are cut: `MATH500` is `math 500`."""
  return " ".join(re.findall(r"[a-z]+|[0-9]+", name.lower()))


PHRASES: Mapping[str, tuple[str, ...]] = dict(
    itertools.chain(
        ((spaced(name), (name,)) for name in NAMES),
        _OTHER.items(),
    )
)
