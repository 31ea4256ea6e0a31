"""A campaign with agents that needs neither a key nor a network.

  python launch/search.py --config=experiments/replay_demo.py --workdir=DIR

The replies in `replay_demo.toml` were written by hand, as those of the research,
screening, engineering and analysis agents might read; no model said them. One
round of two candidates on the `quick` budget: the second one's first source is
refused by the gate and mended. About two minutes on two cores once
compiled. Expected: both
are admitted and trained, their second implementations agree, and the archive
holds all 13 exchanges. With one seed a candidate, nothing it finds is
established.
"""

import pathlib

from poise_jax.discovery import search

SCRIPT = pathlib.Path(__file__).with_suffix(".toml")


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="replay_demo",
      agent=f"script:{SCRIPT}",
      budget="quick",
      root="grpo",
      root_seeds=1,
      rounds=1,
      parents=1,
      children=2,
      child_seeds=1,
      max_seeds=1,
      finalists=0,
  )
